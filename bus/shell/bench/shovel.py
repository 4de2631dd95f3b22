"""The baseline of a relay: RabbitMQ's own shovel, which moves messages inside the broker and looks at none of them.

Theory of operation. A shovel is set with `rabbitmqctl`, whose own Erlang takes seconds of CPU to come and go; neither
may fall into the measurement. So the source queue has a single active consumer: we take that place first, the shovels
register behind us and wait, the queue is filled, and the clock starts when we let go. The message that we held is the
first that the shovel gets. The end is read from the target's depth, asked ever more often as it comes near: the count
that a quorum queue's leader gives is what it has applied, so it is never ahead of the truth.

A shovel deletes itself after the backlog; what is left after a failure is cleared at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pika

from bus.core.errors import BusError, Unreachable
from bus.shell.bench.queues import quorum_queue
from bus.shell.broker_ctl import rabbitmqctl
from bus.shell.probe import QueueState, connection, queue_states

PREFETCH = 1000  # RabbitMQ's default for shovels, and as fast as any larger one
STALLED_S = 30.0  # without one message more
POLL_S = (0.001, 0.02)

_ONE_AT_A_TIME = {"x-single-active-consumer": True}


class Shovel:
    """One shovel that moves one backlog, from quorum queue to quorum queue, acked on confirm.

    Args:
        home: folder of the private node.
        url: AMQP URL of the bus's user there.
        name: of the shovel; its queues are called after it.
        count: messages of the backlog.
    """

    def __init__(self, home: Path, url: str, name: str, count: int) -> None:
        self._home, self._url, self._name, self._count = home, url, name, count
        self.source, self.target = f"{name}.source", f"{name}.target"
        self._gone = False

    @contextmanager
    def held(self) -> Iterator[Any]:
        """Set the shovel up behind a consumer of ours; yields what lets it go. Fill `source` meanwhile.

        Raises:
            Unreachable: the shovel cannot be set, or does not start.
        """
        with quorum_queue(self._url, self.target), quorum_queue(self._url, self.source, _ONE_AT_A_TIME):
            holder = _hold(self._url, self.source)
            try:
                self._set()
                self._wait()
                yield holder.close
            finally:
                if holder.is_open:
                    holder.close()
                self._clear()

    def move(self, let_go: Any) -> float:
        """Let the shovel go; returns the seconds until the last message is in the target.

        Raises:
            BusError: it stopped on the way, or moved something else than the backlog.
        """
        with connection(self._url) as opened:
            began = time.perf_counter()
            let_go()
            ended = self._watch(opened, began)
            time.sleep(POLL_S[1] * 5)  # one that came twice, or from elsewhere, would show by now
            final = _depth(opened, self.target).depth
        if final != self._count:
            raise BusError(f"the shovel moved {final} messages of {self._count}; run the benchmark again")
        self._gone = True
        return ended - began

    def _watch(self, opened: Any, began: float) -> float:
        seen, changed = 0, began
        while True:
            depth = _depth(opened, self.target).depth
            now = time.perf_counter()
            if depth >= self._count:
                return now
            if depth > seen:
                seen, changed = depth, now
            elif now - changed > STALLED_S:
                raise BusError(f"the shovel stopped after {seen} messages; its log is in {self._home}/broker/log")
            left_s = (self._count - seen) * (now - began) / seen if seen else 0.0
            time.sleep(min(POLL_S[1], max(POLL_S[0], left_s / 4)))

    def _set(self) -> None:
        parts = urlsplit(self._url)
        # No host: the shovel speaks to its own node without a socket, which is the fastest that it can be.
        uri = f"amqp://{parts.username}@/{quote(pika.URLParameters(self._url).virtual_host, safe='')}"
        value = {
            "src-protocol": "amqp091",
            "src-uri": uri,
            "src-queue": self.source,
            "src-prefetch-count": PREFETCH,
            "src-delete-after": self._count,
            "dest-protocol": "amqp091",
            "dest-uri": uri,
            "dest-queue": self.target,
            "ack-mode": "on-confirm",
        }
        rabbitmqctl(self._home, "set_parameter", "shovel", self._name, json.dumps(value))

    def _wait(self) -> None:
        """Until it stands in line. A queue's own count of consumers leaves out those that wait."""
        deadline = time.monotonic() + STALLED_S
        while rabbitmqctl(self._home, "list_consumers", "queue_name").split().count(self.source) < 2:
            if time.monotonic() > deadline:
                raise Unreachable(f"the shovel did not start; its log is in {self._home}/broker/log")

    def _clear(self) -> None:
        if not self._gone:
            rabbitmqctl(self._home, "clear_parameter", "shovel", self._name)


def _hold(url: str, queue: str) -> Any:
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0  # nobody serves this connection while it holds
    holder = pika.BlockingConnection(parameters)
    channel = holder.channel()
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue, lambda *_: None)
    return holder


def _depth(opened: Any, queue: str) -> QueueState:
    state = queue_states(opened, [queue])[queue]
    if state is None:
        raise BusError(f"the queue {queue} went away during the benchmark; run it again")
    return state
