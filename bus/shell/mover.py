"""Moving what a partition keeps that is to be retired: its leases, and what routes with memory remember.

`send` is for the old partition, when nothing comes to it any more: each lease and each state leaves by a recorded
message. `Arrivals` is for the new one, where bus.shell.newcomers takes them in. What is moved was published before
anything of the new partition is consumed, but behind what had come to its queue by then. So until a mark comes back
that was published when it is consumed, an answer to a run that is not known here waits, and so does a message that
would begin a run (`Facts.arriving`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from bus.core import naming
from bus.core.actions import Change, Output
from bus.core.leases import moved as lease_moved
from bus.core.message import Json
from bus.core.moving import ARRIVED, Remembered, moved, moves
from bus.ports import Held, Outgoing, Store
from bus.shell.drainage import AGAIN_S, MARK
from bus.shell.judge import Judge
from bus.shell.judged import Judged

_STATE = ("partition", "seq", "index", "due_s", "attempts", "reason")
"""What goes with a lease to another partition: where it stands in the log, which every worker can read, and its row."""


def send(judge: Judge, store: Store, partitions: Collection[int], judged: Judged, most: int) -> None:
    """Send leases and at most `most` states of partitions that are to be retired after their keys."""
    facts = judge.facts_now()
    send_leases(judge, store, judge.leases.within(partitions), judged)
    places = [(partition, key) for partition in sorted(partitions) for key in judge.remembered.keys(partition, "")]
    for partition, key in places[:most]:
        body = judge.remembered.recall(partition, key)
        if key == ARRIVED:
            judge.remembered.apply(partition, [Change(key, None)])
        elif body is not None and moves(key):
            state = Remembered(key, body, judge.remembered.due_of(partition, key))
            delivery, decision = moved(state, partition, judge.next_seq(partition), facts)
            judge.record(partition, delivery, decision, facts, judged)


def send_leases(judge: Judge, store: Store, rows: Iterable[Held], judged: Judged) -> None:
    """Send leases, which stand in the log, to the partitions of their conversations."""
    facts = judge.facts_now()
    for row in rows:
        output = store.entry(row.partition, row.seq).outputs[row.index]
        lease: dict[str, Json] = {name: getattr(row, name) for name in _STATE}
        delivery, decision = lease_moved(output, f"{row.partition}/{row.seq}/{row.index}", lease, facts)
        judge.leases.end(row.partition, output.name)
        judge.record(row.partition, delivery, decision, facts, judged)


class Arrivals:
    """Marks through the queues of partitions that something may be on its way to.

    Args:
        namespace: of the bus.
        partitions: those that it is not certain of.
        word: unguessable; new for each tenure.
        clock: seconds.
    """

    def __init__(self, namespace: str, partitions: Collection[int], word: str, clock: Callable[[], float]) -> None:
        self._queues = {naming.ingress_queue(namespace, each): each for each in partitions}
        self._word = word.encode()
        self._clock = clock
        self._sent: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def due(self) -> Sequence[Outgoing]:
        """The marks that are to be published now."""
        now = self._clock()
        found = [queue for queue in self._queues if now >= self._sent.get(queue, -AGAIN_S) + AGAIN_S]
        self._sent.update(dict.fromkeys(found, now))
        return [self._mark(queue) for queue in found]

    def _mark(self, queue: str) -> Outgoing:
        partition = self._queues[queue]
        output = Output("ingress", "", f"arrivals-{partition}", "bus.mark", queue, self._word, MARK, {})
        return Outgoing(-(1 << 40) - partition, "", queue, output)

    def marked(self, queue: str, body: bytes) -> int | None:
        """A mark has come out of a queue; returns the partition to which all has come, if it was one of these."""
        return self._queues.pop(queue, None) if body == self._word else None
