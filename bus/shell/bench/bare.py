"""The barest relay over the bus's own transport: what is left of a message's cost when the bus does not look at it.

Against the bus it shows what decode, contract, condition, translate, record and commit cost; against the shovel, what
the transport costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bus.core import naming
from bus.core.actions import Output
from bus.core.outputs import STRUCTURED
from bus.ports import Outcome, Outgoing, Received, Tag, Transport
from bus.shell.bench.clock import Stopwatch
from bus.shell.bench.load import SINK, Quiet, confirmed
from bus.shell.ledger import Watermark


@dataclass(slots=True)
class BareRelay(Quiet):
    """Moves `count` messages from ingress to the sink's queue, confirmed before ack, unread."""

    transport: Transport
    namespace: str
    partitions: int
    prefetch: int
    count: int
    clock: Stopwatch
    _tags: dict[int, Tag] = field(default_factory=dict)
    _handle: int = 0
    _done: int = 0
    _acks: Watermark = field(default_factory=lambda: Watermark(0))

    def on_connected(self) -> None:
        self.clock.start()
        queues = [naming.ingress_queue(self.namespace, number) for number in range(self.partitions)]
        self.transport.consume(queues, max(1, self.prefetch // len(queues)))

    def on_batch(self, batch: Sequence[Received]) -> None:
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
        self._done += confirmed(outcomes)
        for outcome in outcomes:
            tag = self._tags.pop(outcome.handle)
            risen = self._acks.finish(tag.number) or risen
        if risen and tag is not None:
            self.transport.ack(Tag(tag.generation, self._acks.value))
        if self._done == self.count:
            self.clock.stop()
            self.transport.stop()
