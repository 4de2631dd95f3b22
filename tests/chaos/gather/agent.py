"""An agent that holds its answers until a file is there: `python -m tests.chaos.gather.agent NAME`.

Then it answers in random order, some requests twice, and with another content each time: the first answer that is
recorded must be the one that counts. It keeps no memory and asks the bus nothing; a request is acked when its answer is
confirmed. So after a kill, and after a lost connection, all that it held comes again.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pika
from pika.exceptions import AMQPError

from bus.core import naming
from bus.core.answering import reply
from bus.core.codec import encode
from bus.core.message import Message

AGAIN = 0.1  # share of requests that are answered twice at once; as many are answered a second time later
RECONNECT_S = 0.3
TURN = 40  # answers between two looks at what has come


class Holder:
    """Args:
    name: of the agent and of its capability.
    environment: names the broker, the namespace and the file.
    """

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self._name = name
        self._url = environment["BUS_AGENT_AMQP_URL"]
        self._namespace = environment["BUS_NAMESPACE"]
        self._gate = Path(environment["GATHER_GATE"])
        self._chance = random.Random()
        self._held: list[tuple[int, Message]] = []
        self._later: list[Message] = []

    def serve(self) -> None:
        """Answer for ever."""
        ready = False
        while True:
            self._held.clear()  # tags of an earlier connection
            try:
                connection = pika.BlockingConnection(pika.URLParameters(self._url))
                channel = connection.channel()
                channel.confirm_delivery()
                queue = naming.capability_queue(self._namespace, self._name)
                channel.basic_consume(queue, self._take)
                if not ready:
                    print('{"event": "ready"}', flush=True)
                    ready = True
                while True:
                    connection.process_data_events(time_limit=0 if self._held and self._gate.exists() else 0.1)
                    if self._gate.exists():
                        self._answer_some(channel)
            except (AMQPError, OSError):
                time.sleep(RECONNECT_S)

    def _take(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        event = orjson.loads(body)
        data = event.pop("data")
        self._held.append((method.delivery_tag, Message(event, data)))

    def _answer_some(self, channel: Any) -> None:
        for _ in range(min(TURN, len(self._held))):
            at = self._chance.randrange(len(self._held))
            self._held[at], self._held[-1] = self._held[-1], self._held[at]
            tag, request = self._held.pop()
            self._answer(channel, request)
            channel.basic_ack(tag)
            luck = self._chance.random()
            if luck < AGAIN:
                self._answer(channel, request)
            elif luck < 2 * AGAIN:
                self._later.append(request)
        if self._later and (len(self._later) > TURN or not self._held):
            self._answer(channel, self._later.pop(self._chance.randrange(len(self._later))))

    def _answer(self, channel: Any, request: Message) -> None:
        assert isinstance(request.data, dict)
        data = {"run": request.data["run"], "by": self._name, "salt": self._chance.randrange(1 << 30)}
        answer = reply(self._name, request, f"{self._name}.replied", data)
        properties = pika.BasicProperties(
            content_type="application/cloudevents+json", message_id=answer.id, delivery_mode=2, user_id="agents"
        )
        exchange, body = naming.ingress_exchange(self._namespace), encode(answer.attributes, answer.data)
        channel.basic_publish(exchange, answer.conversation, body, properties, mandatory=True)


if __name__ == "__main__":
    Holder(sys.argv[1], os.environ).serve()
