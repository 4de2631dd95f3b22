"""Raw sinks: one consumer of every queue at which the harness watches; each delivery is noted, then acked.

A paused sink goes on receiving but holds its acks, so its queue fills up. It never cancels and gives nothing back, for
that would change the order in which messages come again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pika
from pika.exceptions import AMQPError

from bus.core.endpoints import endpoints
from tests.chaos.effects import digest_of

PREFETCH = 20
RECONNECT_S = 0.3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery at a place.

    Args:
        place: where.
        id: message id.
        type: message type.
        digest: of what it says.
        body: its bytes.
        headers: its headers.
        redelivered: a connection that has died was given it before.
    """

    place: str
    id: str
    type: str
    digest: str
    body: bytes
    headers: Mapping[str, Any]
    redelivered: bool = False

    @property
    def data(self) -> Any:
        """Its payload, or None."""
        try:
            whole = orjson.loads(self.body)
        except ValueError:
            return None
        return whole.get("data") if isinstance(whole, dict) else None


class Sinks:
    """Args:
    url: broker, as the bus's user, who may read everything.
    queues: queue by place.
    """

    def __init__(self, url: str, queues: Mapping[str, str]) -> None:
        self.arrivals: list[Arrival] = []
        self.last_s = time.monotonic()
        self.seen_s: dict[str, float] = {}
        self._parameters = [pika.URLParameters(each) for each in endpoints(url)]
        self._queues = queues
        self._paused: set[str] = set()
        self._held: dict[str, list[int]] = {place: [] for place in queues}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sinks", daemon=True)

    def start(self) -> None:
        """Begin to consume."""
        self._thread.start()

    def pause(self, place: str) -> None:
        """Hold the acks of a place from now on."""
        self._paused.add(place)

    def resume(self) -> None:
        """Ack everything that is held, and go on."""
        self._paused.clear()

    def stop(self, quiet_s: float) -> None:
        """Consume until nothing has come for `quiet_s`, then end."""
        self.resume()
        while time.monotonic() - self.last_s < quiet_s:
            time.sleep(0.1)
        self._stopping = True
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._consume()
            except (AMQPError, OSError) as error:
                log.debug("sinks lost the broker: %r", error)
                time.sleep(RECONNECT_S)

    def _consume(self) -> None:
        connection = pika.BlockingConnection(self._parameters)
        try:
            channel = connection.channel()
            for held in self._held.values():
                held.clear()  # tags of an earlier channel
            channel.basic_qos(prefetch_count=PREFETCH)
            for place, queue in self._queues.items():
                channel.basic_consume(queue, self._noting(place))
            while not self._stopping:
                connection.process_data_events(time_limit=0.1)
                self._release(channel)
        finally:
            if connection.is_open:
                connection.close()

    def _noting(self, place: str) -> Any:
        def note(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            headers = dict(properties.headers or {})
            known = properties.message_id or "", properties.type or "", digest_of(body), body, headers
            self.arrivals.append(Arrival(place, *known, method.redelivered))
            self.last_s = self.seen_s[place] = time.monotonic()
            self._held[place].append(method.delivery_tag)
            if place not in self._paused:
                self._release(channel)

        return note

    def _release(self, channel: Any) -> None:
        for place, held in self._held.items():
            if held and place not in self._paused:
                for tag in held:
                    channel.basic_ack(tag)
                held.clear()
