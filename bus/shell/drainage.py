"""When an old partition has nothing left: told by marks that go through its queue, not by the queue's own figures.

A broker may report a queue empty that is only just coming up. So the owner publishes a mark into the queue, behind all
that is in it, and takes it out again: what came before it has been decided by then. One mark is not enough, because a
message can be on its way from the exchange to the queue while the exchange no longer leads there. So a partition is
calm when a mark comes back, and drained when another one that was sent `SETTLE_S` later has come back, too, with
nothing in between and nothing unfinished or held. What comes later still is passed on, see bus.core.ingress; only its
order is not kept, and it would have been on its way for longer than any broker that works.

Marks carry a word that only this tenure knows: those of an earlier one, or of somebody who made one up, say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bus.core import naming
from bus.core.actions import Output
from bus.ports import Outgoing

MARK = "application/x-agentbus-mark"
SETTLE_S = 2.0  # on its way from exchange to queue a message is for milliseconds; a slow cluster may need a second
AGAIN_S = 10.0  # a mark that a full queue has refused, or that was lost, is sent again after it


@dataclass(slots=True)
class _Watch:
    sent_s: float | None = None  # when the mark that is under way was sent
    calm_s: float | None = None  # since when nothing has come but marks
    settled: bool = False  # the second mark is back


class Drainage:
    """Args:
    namespace: of the bus.
    partitions: those that are to be drained.
    word: unguessable; new for each tenure.
    clock: seconds.
    """

    def __init__(self, namespace: str, partitions: Collection[int], word: str, clock: Callable[[], float]) -> None:
        self._namespace = namespace
        self._word = word
        self._clock = clock
        self._watches = {each: _Watch() for each in partitions}
        self._queues = {naming.ingress_queue(namespace, each): each for each in partitions}
        self._handle = 0

    def __bool__(self) -> bool:
        return bool(self._watches)

    def arrived(self, queue: str) -> None:
        """A message, and no mark, has come out of a queue."""
        partition = self._queues.get(queue)
        if partition is not None:
            watch = self._watches[partition]
            watch.calm_s, watch.settled = None, False

    def marked(self, queue: str, body: bytes) -> None:
        """A mark has come out of a queue."""
        partition = self._queues.get(queue)
        if partition is None or body != self._word.encode():
            return
        watch, now = self._watches[partition], self._clock()
        if watch.calm_s is None:
            watch.calm_s = now
        elif watch.sent_s is not None and watch.sent_s >= watch.calm_s + SETTLE_S:
            watch.settled = True
        watch.sent_s = None

    def due(self) -> Sequence[Outgoing]:
        """The marks that are to be published now."""
        now, marks = self._clock(), []
        for queue, partition in self._queues.items():
            watch = self._watches[partition]
            under_way = watch.sent_s is not None and now < watch.sent_s + AGAIN_S
            waits = watch.calm_s is not None and now < watch.calm_s + SETTLE_S
            if not (under_way or waits or watch.settled):
                watch.sent_s = now
                marks.append(self._mark(queue, partition))
        return marks

    def _mark(self, queue: str, partition: int) -> Outgoing:
        self._handle -= 1
        name = f"mark-{partition}"
        mark = Output("ingress", "", name, "bus.mark", queue, self._word.encode(), MARK, {})
        return Outgoing(self._handle, "", queue, mark)

    def settled(self) -> frozenset[int]:
        """The partitions whose queues have nothing left."""
        return frozenset(each for each, watch in self._watches.items() if watch.settled)

    def end(self, partitions: Collection[int]) -> None:
        """These are noted in the store as drained."""
        for each in partitions:
            self._queues.pop(naming.ingress_queue(self._namespace, each), None)
            self._watches.pop(each, None)
