"""A producer: plain pika, confirms on, many messages in flight, the same ids on every retry.

It runs in a thread of its own. What is unconfirmed when the connection is lost is published again, in the same order,
before anything new: then the first copies at the broker are in the order of sending, and the bus drops the rest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop

from bus.core.endpoints import endpoints
from tests.chaos.load import Load, Sent

TICK_S = 0.02
RECONNECT_S = 0.3
WINDOW = 256  # unconfirmed messages at most

log = logging.getLogger(__name__)


class Producer:
    """Args:
    url: broker, as an agent.
    exchange: the ingress.
    load: what to send.
    rate: messages a second.
    """

    def __init__(self, url: str, exchange: str, load: Load, rate: float) -> None:
        self.confirmed: list[Sent] = []  # in the order of confirms; an input that was sent twice stands here twice
        self.hold = False  # send nothing new for now
        self.nacked: set[str] = set()  # tokens that were refused once, so that later ones may have come before them
        self._hosts = [pika.URLParameters(each) for each in endpoints(url)]
        self._exchange, self._load, self._rate = exchange, load, rate
        self._loop: Any = IOLoop()
        self._connection: Any = None
        self._channel: Any = None
        self._open: dict[int, Sent] = {}
        self._refused = 0  # nacked, and to be sent again in a moment
        self._again: list[Sent] = []
        self._tag = 0
        self._owed = 0.0
        self._last_s = 0.0
        self._finishing = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """How many wait for a confirm, or for another try."""
        return len(self._open) + len(self._again) + self._refused

    @property
    def unconfirmed(self) -> list[Sent]:
        """What was sent and not confirmed; for after `finish`."""
        return [*self._open.values(), *self._again]

    def finish(self, timeout_s: float) -> bool:
        """Send nothing new, wait for every confirm; says whether all came."""
        self._finishing = True
        done = self._done.wait(timeout_s)
        self._loop.add_callback_threadsafe(self._loop.stop)
        self._thread.join(10)
        return done

    def _run(self) -> None:
        self._connect()
        self._last_s = time.monotonic()
        self._loop.call_later(TICK_S, self._tick)
        self._loop.start()
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _connect(self) -> None:
        self._hosts.append(parameters := self._hosts.pop(0))  # each attempt takes the next host
        parameters.heartbeat = 30
        self._connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._on_channel),
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=self._loop,
        )

    def _on_channel(self, channel: Any) -> None:
        # A channel that the broker closes takes its connection with it: one way to lose both.
        channel.add_on_close_callback(lambda _channel, _error: self._connection.is_open and self._connection.close())
        channel.confirm_delivery(self._on_outcome, callback=lambda _frame: self._up(channel))

    def _up(self, channel: Any) -> None:
        self._channel, self._tag = channel, 0
        again, self._again = self._again, []
        for sent in again:
            self._publish(sent)

    def _lost(self, _connection: Any, error: BaseException) -> None:
        if self._channel is None and not self._open:
            log.debug("no broker: %s", error)
        self._channel = None
        self._again = [*self._open.values(), *self._again]
        self._open.clear()
        self._loop.call_later(RECONNECT_S, self._connect)

    def _tick(self) -> None:
        self._loop.call_later(TICK_S, self._tick)
        now = time.monotonic()
        self._owed = min(self._owed + (now - self._last_s) * self._rate, WINDOW)
        self._last_s = now
        if self._finishing:
            for last in self._load.rest():
                self._publish(last)
            if not self.in_flight:
                self._done.set()
            return
        while not self.hold and self._owed >= 1.0 and self._channel is not None and len(self._open) < WINDOW:
            sent = self._load.next()
            if sent is None:
                return
            self._owed -= 1.0
            self._publish(sent)

    def _publish(self, sent: Sent) -> None:
        if self._channel is None or not self._channel.is_open:
            self._again.append(sent)
            return
        self._tag += 1
        self._open[self._tag] = sent
        properties = pika.BasicProperties(
            content_type="application/cloudevents+json", message_id=sent.id, delivery_mode=2, user_id="agents"
        )
        self._channel.basic_publish(self._exchange, sent.routing_key, sent.body, properties, mandatory=True)

    def _on_outcome(self, frame: Any) -> None:
        method, upto = frame.method, frame.method.delivery_tag
        tags = [each for each in self._open if each <= upto] if method.multiple else [upto]
        for tag in tags:
            sent = self._open.pop(tag, None)
            if sent is None:
                continue
            if method.NAME == "Basic.Ack":
                self.confirmed.append(sent)
            else:
                self.nacked.add(sent.token)
                self._refused += 1
                self._loop.call_later(RECONNECT_S, self._resend(sent))

    def _resend(self, sent: Sent) -> Callable[[], None]:
        def again() -> None:
            self._refused -= 1
            self._publish(sent)

        return again
