"""What is unfinished: inputs until each of their outputs is confirmed, held or excepted, and the watermarks.

Tags are acked only up to the lowest unfinished one (I2); a partition's `done` is the highest number below which
everything is finished. Both are a counter and a set of what finished out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bus.core.actions import Decision, Output
from bus.ports import Tag


@dataclass(slots=True, eq=False)
class Open:
    """One recorded input that is not finished.

    Args:
        partition, seq: where it stands in the log.
        outputs: what is to be published. Its record and its input are not kept: the log has them.
        left: outputs not yet confirmed, held or excepted.
        tags: deliveries to ack when it is finished: its own, and duplicates that came meanwhile.
        received_s: epoch seconds when it came.
        decision: None when it was read back after a restart.
        behind: number of the earlier input that this one repeats; without outputs, its tags are freed with that one's.
        queue: where it came from.
        decided_s, committed_s: epoch seconds when it was decided, and when that was durable.
    """

    partition: int
    seq: int
    outputs: Sequence[Output]
    left: int
    tags: list[Tag]
    received_s: float
    decision: Decision | None = None
    behind: int | None = None
    queue: str = ""
    decided_s: float = 0.0
    committed_s: float = 0.0


class Watermark:
    """Counts up over numbers that finish in any order."""

    def __init__(self, start: int) -> None:
        self.value = start
        self._ahead: set[int] = set()

    def finish(self, number: int) -> bool:
        """Mark `number` finished; returns whether the mark rose."""
        if number != self.value + 1:
            self._ahead.add(number)
            return False
        self.value = number
        while self.value + 1 in self._ahead:
            self.value += 1
            self._ahead.remove(self.value)
        return True


@dataclass(slots=True)
class Ledger:
    """The open inputs of the worker, and how far everything before them is finished."""

    open: dict[tuple[int, int], Open] = field(default_factory=dict)
    done: dict[int, Watermark] = field(default_factory=dict)
    risen: set[int] = field(default_factory=set)
    finished: list[Open] = field(default_factory=list)
    _acks: Watermark = field(default_factory=lambda: Watermark(0))
    _generation: int = 0
    _acked: int = 0

    def start(self, partition: int, done: int) -> None:
        """Begin counting a claimed partition."""
        self.done[partition] = Watermark(done)

    def add(self, each: Open) -> None:
        """Take in a committed input; one without outputs is finished at once, or with the one that it repeats."""
        earlier = None if each.behind is None or each.left else self.open.get((each.partition, each.behind))
        if earlier is not None:
            earlier.tags += each.tags
            each.tags = []
        if each.left:
            self.open[each.partition, each.seq] = each
        else:
            self._finish(each)

    def settle(self, each: Open) -> None:
        """One output of it is confirmed, held or excepted."""
        each.left -= 1
        if each.left == 0:
            del self.open[each.partition, each.seq]
            self._finish(each)

    def _finish(self, each: Open) -> None:
        if self.done[each.partition].finish(each.seq):
            self.risen.add(each.partition)
        for tag in each.tags:
            self.free(tag)
        self.finished.append(each)

    def free(self, tag: Tag) -> None:
        """A delivery needs nothing more."""
        if tag.generation != self._generation:
            if tag.generation < self._generation:
                return
            # Tags count from 1 on every new channel.
            self._generation, self._acks, self._acked = tag.generation, Watermark(0), 0
        self._acks.finish(tag.number)

    def ackable(self) -> Tag | None:
        """The tag up to which everything may be acked now, if that is news."""
        if self._acks.value == self._acked:
            return None
        self._acked = self._acks.value
        return Tag(self._generation, self._acked)

    def marks(self) -> dict[int, int]:
        """Watermarks that rose since the last call, for the next commit."""
        marks = {partition: self.done[partition].value for partition in self.risen}
        self.risen.clear()
        return marks
