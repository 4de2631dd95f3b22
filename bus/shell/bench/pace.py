"""Latency at a rate: an open-loop producer, a consumer, and what they measured.

The producer sends when a message is due, whatever became of those before it, and a latency counts from the time that
a message was due: a producer that waits for a slow system would leave out just the messages that suffer from it.

Two ways take turns, a slice of time each: straight into a quorum queue, and through the bus. One clock serves all:
CLOCK_MONOTONIC is the same in every process of a machine.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil

from bus.core import naming
from bus.core.errors import Unreachable
from bus.ports import Outcome, Received, Transport
from bus.shell.bench.load import SINK, Place, Quiet, confirmed, conversation, outgoing

SLICE_S = 0.5
WARM_UP = 2  # slices, one of each way, that are not counted
START_S = 0.3  # between connecting and the first message
SILENCE_S = 15.0  # after which what is missing is lost

_NUMBER = re.compile(rb'"order(?:_id)?":"[^"-]*-(\d+)"')


@dataclass(frozen=True, slots=True)
class Pace:
    """What is sent when.

    Args:
        namespace: of the bus.
        rate: messages a second.
        slices: how many slices of time are counted.
    """

    namespace: str
    rate: int
    slices: int

    @property
    def per_slice(self) -> int:
        """Messages of a slice."""
        return max(1, round(self.rate * SLICE_S))

    @property
    def count(self) -> int:
        """Messages of all slices, those that do not count among them."""
        return self.per_slice * (self.slices + WARM_UP)

    @property
    def direct(self) -> str:
        """The queue of the direct way."""
        return f"{self.namespace}.direct"

    def counts(self, number: int) -> bool:
        """Whether the message of that number is not of the warm-up."""
        return number >= self.per_slice * WARM_UP

    def mediated(self, number: int) -> bool:
        """Whether it goes through the bus."""
        return number // self.per_slice % 2 == 1

    def place(self, number: int) -> Place:
        """Where it is sent to."""
        if self.mediated(number):
            return naming.ingress_exchange(self.namespace), conversation(number)
        return "", self.direct

    @property
    def queues(self) -> list[str]:
        """Where they all arrive."""
        return [self.direct, naming.capability_queue(self.namespace, SINK)]


@dataclass(slots=True)
class Producer(Quiet):
    """Sends all messages of a pace, each when it is due, and stops when all are confirmed.

    A thread keeps the time and has the loop publish: the loop's own timers are a millisecond coarse.

    Args:
        began_s: monotonic seconds when the first message was due; known when it has connected.
        late_s: how long after it was due each message was handed over.
    """

    transport: Transport
    pace: Pace
    began_s: float = 0.0
    late_s: list[float] = field(default_factory=list)
    _confirmed: int = 0

    def on_connected(self) -> None:
        self.began_s = time.monotonic() + START_S
        threading.Thread(target=self._tick, name="pace", daemon=True).start()

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        self._confirmed += confirmed(outcomes)
        if self._confirmed == self.pace.count:
            self.transport.stop()

    def _tick(self) -> None:
        for number in range(self.pace.count):
            message = outgoing(number, self.pace.place(number), "p")
            due = self.began_s + number / self.pace.rate
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self.late_s.append(time.monotonic() - due)
            self.transport.call_threadsafe(partial(self.transport.publish, [message]))


@dataclass(slots=True)
class Consumer(Quiet):
    """Notes when each message of a pace arrives, acks it, and stops when all have come.

    Args:
        begun: called when it consumes.
        arrived_s: monotonic seconds by number; 0 for what has not come.
    """

    transport: Transport
    pace: Pace
    begun: Callable[[], None]
    arrived_s: list[float] = field(default_factory=list)
    _left: int = 0
    _last_s: float = 0.0

    def on_connected(self) -> None:
        self.arrived_s = [0.0] * self.pace.count
        self._left = self.pace.count
        self._last_s = time.monotonic()
        self.transport.consume(self.pace.queues, max(1, 2000 // len(self.pace.queues)))
        self.begun()
        self.transport.call_later(1.0, self._look)

    def on_batch(self, batch: Sequence[Received]) -> None:
        now = time.monotonic()
        for received in batch:
            found = _NUMBER.search(received.delivery.body)
            number = int(found[1]) if found is not None else -1
            if number >= 0 and not self.arrived_s[number]:
                self.arrived_s[number] = now
                self._left -= 1
        self._last_s = now
        self.transport.ack(batch[-1].tag)
        if not self._left:
            self.transport.stop()

    def _look(self) -> None:
        if time.monotonic() - self._last_s > SILENCE_S:
            raise Unreachable(f"{self._left} messages of the benchmark did not arrive")
        self.transport.call_later(1.0, self._look)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
