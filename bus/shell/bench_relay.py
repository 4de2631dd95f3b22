"""The two sides of a relay benchmark, and the barest relay there can be, all over the bus's own transport.

`Fill` puts a backlog into a namespace. `BareRelay` moves it from ingress to a queue with confirms and acks but without
looking at it: what is left of a message's cost when decode, contract, condition, translate, record and commit are gone.
It is the baseline in the same run, on the same broker, so that the ratio means something on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from bus.core import naming
from bus.core.actions import Decision, Output
from bus.core.outputs import STRUCTURED
from bus.ports import Outcome, Outgoing, Received, Tag, Transport
from bus.shell.ledger import Watermark

CONVERSATIONS = 1000
SINK = "sink"
_CHUNK = 2000  # publishes in flight while filling


@dataclass(slots=True)
class Measured:
    """How long a relay took, wall clock and the CPU of this process, seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    _began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.wall_s, self.cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]


def order(run: str, number: int, source: str) -> bytes:
    """A structured message of about 600 bytes."""
    data = {
        "order_id": f"{run}-{number:07d}",
        "customer": {"id": f"C{number % CONVERSATIONS:05d}", "country": "DE", "vip": number % 7 == 0},
        "amount": 10.5 + number % 90,
        "currency": "EUR",
        "lines": [{"sku": f"SKU-{number % 50:04d}", "quantity": 1 + number % 3, "price": 5.25}],
        "note": "please leave it with the neighbour " * 6,
    }
    conversation = f"conv-{number % CONVERSATIONS:04d}"
    event = {"specversion": "1.0", "id": f"{run}-{number}", "source": source, "type": "bench.order",
             "conversationid": conversation, "data": data}  # fmt: skip
    return orjson.dumps(event)


class _Quiet:
    """What a benchmark does with the events it does not want."""

    def on_connected(self) -> None: ...
    def on_batch(self, batch: Sequence[Received]) -> None: ...
    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None: ...
    def on_blocked(self, blocked: bool, reason: str) -> None: ...

    def on_lost(self, reason: str) -> None:
        raise ConnectionError(f"the broker went away during the benchmark: {reason}")


@dataclass(slots=True)
class Fill(_Quiet):
    """Publishes `count` messages to the ingress of a namespace and stops when all are confirmed.

    Args:
        source: declared agent that sends them.
    """

    transport: Transport
    namespace: str
    run: str
    count: int
    source: str
    _sent: int = 0
    _confirmed: int = 0

    def on_connected(self) -> None:
        self._more()

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        bad = [outcome for outcome in outcomes if outcome.how != "confirmed"]
        if bad:
            raise ConnectionError(f"the broker refused a message of the benchmark: {bad[0]}")
        self._confirmed += len(outcomes)
        if self._confirmed == self.count:
            self.transport.stop()
        elif self._sent - self._confirmed < _CHUNK:
            self._more()

    def _more(self) -> None:
        exchange = naming.ingress_exchange(self.namespace)
        batch = []
        for number in range(self._sent, min(self.count, self._sent + _CHUNK)):
            conversation = f"conv-{number % CONVERSATIONS:04d}"
            body = order(self.run, number, self.source)
            output = Output("ingress", "", f"{self.run}-{number}", "bench.order", conversation, body, STRUCTURED, {})
            batch.append(Outgoing(number, exchange, conversation, output))
        self._sent += len(batch)
        self.transport.publish(batch)


@dataclass(slots=True)
class BareRelay(_Quiet):
    """Moves `count` messages from ingress to the sink's queue, confirmed before ack, unread."""

    transport: Transport
    namespace: str
    partitions: int
    prefetch: int
    count: int
    measured: Measured = field(default_factory=Measured)
    _tags: dict[int, Tag] = field(default_factory=dict)
    _handle: int = 0
    _done: int = 0
    _acks: Watermark = field(default_factory=lambda: Watermark(0))

    def on_connected(self) -> None:
        queues = [naming.ingress_queue(self.namespace, number) for number in range(self.partitions)]
        self.transport.consume(queues, self.prefetch)

    def on_batch(self, batch: Sequence[Received]) -> None:
        if not self._handle:
            self.measured.start()
        queue = naming.capability_queue(self.namespace, SINK)
        out = []
        for received in batch:
            self._handle += 1
            self._tags[self._handle] = received.tag
            delivery = received.delivery
            output = Output("capability", SINK, delivery.message_id or "", "", "", delivery.body, STRUCTURED, {})
            out.append(Outgoing(self._handle, "", queue, output))
        self.transport.publish(out)

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        risen, tag = False, None
        for outcome in outcomes:
            tag = self._tags.pop(outcome.handle)
            risen = self._acks.finish(tag.number) or risen
        if risen and tag is not None:
            self.transport.ack(Tag(tag.generation, self._acks.value))
        self._done += len(outcomes)
        if self._done == self.count:
            self.measured.stop()
            self.transport.stop()


def _nothing() -> None: ...


class CountingMeter:
    """A meter that starts a measurement at the first decision and calls `done` at the last finished input."""

    def __init__(self, count: int, measured: Measured) -> None:
        self._left, self._measured, self._started = count, measured, False
        self.ends: dict[str, int] = {}
        self.commits = 0
        self.decide_s = self.commit_s = 0.0
        self.done: Callable[[], None] = _nothing

    def decided(self, decisions: Sequence[Decision], seconds: float) -> None:
        if not self._started:
            self._started = True
            self._measured.start()
            return  # the first batch was decided before the clock started
        self.decide_s += seconds

    def committed(self, entries: int, seconds: float) -> None:
        self.commits += 1
        self.commit_s += seconds

    def finished(self, decision: Decision, seconds: float) -> None:
        self.ends[decision.end] = self.ends.get(decision.end, 0) + 1
        self._left -= 1
        if self._left == 0:
            self._measured.stop()
            self.done()

    def confirmed(self, outputs: int, oldest_seconds: float) -> None: ...
    def retried(self, target: str) -> None: ...
    def excepted(self, how: str, code: str, outputs: int) -> None: ...
    def in_flight(self, inputs: int, outputs: int) -> None: ...
    def connected(self, up: bool) -> None: ...
    def blocked(self, blocked: bool) -> None: ...
