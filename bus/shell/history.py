"""The log as operators read it: `bus trace`, `bus tap`, counts. It never touches the writer.

The store is opened read-only, while the bus runs or after it stopped. Conversations and messages are found by a side
index. Where the log lies, in a file or a database, is behind the port `history_log.Log`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bus.audit.record import Record
from bus.audit.trace import ENDED, PENDING, Fate, Place
from bus.core.actions import ROWS
from bus.core.errors import BusError, StoreFailed
from bus.core.ingress import Ingress
from bus.ports import Entry, Excepted
from bus.shell.history_index import HistoryIndex, Progress, Spot
from bus.shell.history_log import Log, Mark, records_of
from bus.shell.store_rules import entries_of

PREFIX_MIN = 4  # shorter beginnings of an id fit too many conversations to be of use
_LISTED = 5
_BACK = 1000  # records that are looked back at first
_NEAR = 16  # segments kept unpacked: conversations of one time stand in the same ones


class History:
    """The log of one store, for reading.

    Args:
        log: where it lies; closed with this.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._index: HistoryIndex | None = None
        self._near: OrderedDict[tuple[int, int], Sequence[Entry]] = OrderedDict()

    @property
    def name(self) -> str:
        """What the store is called in messages to people."""
        return self._log.name

    def conversation(self, name: str, progress: Progress | None = None) -> list[Record]:
        """Read a conversation, in the order of commits.

        Args:
            name: its id, or the beginning of it, at least 4 characters, that fits no other.
            progress: told how far indexing is, when there is much to do.

        Raises:
            BusError: no conversation, or several, begin so.
        """
        with self._explained():
            index = self._indexed(progress)
            spots = index.conversation(name) or index.conversation(self._complete(index, name))
            return self._at(spots)

    def _complete(self, index: HistoryIndex, prefix: str) -> str:
        if len(prefix) < PREFIX_MIN:
            raise BusError(f"`{prefix}` is too short; write at least {PREFIX_MIN} characters of the conversation's id")
        found = index.conversations(prefix, _LISTED + 1)
        if not found:
            raise BusError(f"no conversation in {self._log.name} begins with `{prefix}`; see `bus tap` for recent ones")
        if len(found) > 1:
            some = ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
            raise BusError(f"`{prefix}` fits several conversations; write more of one of: {some}")
        return found[0]

    def message(self, name: str, progress: Progress | None = None) -> list[Record]:
        """Read the records of a message id: the decision, then its repeats; empty when the log has none."""
        with self._explained():
            return self._at(self._indexed(progress).message(name))

    def ingress(self) -> Ingress:
        """What partitions there are."""
        return self._log.ingress()

    def backlog(self) -> Mapping[int, tuple[int, int]]:
        """By partition, how many of its inputs are recorded and unfinished, and how many outputs are held."""
        return self._log.backlog()

    def entry(self, partition: int, seq: int) -> Entry:
        """Read one entry with its bodies.

        Raises:
            KeyError: there is none.
        """
        row = self._log.holding(partition, seq)
        if row is None:
            raise KeyError((partition, seq))
        near = self._near.pop((partition, row.first_seq), None) or entries_of(partition, row.first_seq, row.blob)
        self._near[partition, row.first_seq] = near
        if len(self._near) > _NEAR:
            self._near.popitem(last=False)
        return near[seq - row.first_seq]

    def entries(self, found: Iterable[Record]) -> list[tuple[Record, Entry]]:
        """Read the bodies that belong to these records."""
        return [(each, self.entry(each.partition, each.seq)) for each in found]

    def since(self, epoch_s: float) -> list[str]:
        """List the conversations in which something arrived since then, in order."""
        tail = self._before(epoch_s)
        names: dict[str, None] = {}
        while found := tail.read():
            names.update(dict.fromkeys(each.conversation for each in found if each.received_s >= epoch_s))
        names.pop("", None)  # of what could not be understood, and came under no key
        return list(names)

    def _before(self, epoch_s: float) -> Tail:
        """A tail that begins before a time, found from the end of the log in strides that grow."""
        back, last = _BACK, list[Record]()
        while True:
            oldest = self.tail(back).read(1)[:1]
            if not oldest or oldest == last or oldest[0].received_s < epoch_s:
                return self.tail(back)
            back, last = back * 8, oldest

    def tail(self, back: int | None = 0) -> Tail:
        """Follow the log from its end.

        Args:
            back: how many of the newest records to begin with; None begins with the first.
        """
        if back is None:
            return Tail(self._log, (), 0)
        position, missing = self._log.last(), back
        while missing > 0 and position > 0:
            count, position = self._log.before(position)
            missing -= count
        return Tail(self._log, self._log.mark(position), max(-missing, 0))

    def ends(self, count: int | None = None, progress: Progress | None = None) -> Mapping[str, int]:
        """Count the newest `count` records, or all, by how their input ended."""
        tail, last = self.tail(count), self._log.last()
        ends: Counter[str] = Counter()
        while found := tail.read():
            ends.update([each.end for each in found])
            if progress is not None:
                progress(tail.position, max(last, tail.position))
        return ends

    def exceptions(self, how: str | None = None, limit: int = 1000) -> list[Excepted]:
        """List outputs that did not end as delivered, newest first, at most `limit`; `how` picks one kind."""
        return list(self._log.exceptions(how, limit))

    def fates(self, found: Iterable[Record]) -> dict[Place, Fate]:
        """Tell what became of each output of these records, for `bus.audit.trace.trace_tree`."""
        done = self._log.done()
        fates: dict[Place, Fate] = {}
        for record in found:
            delivered = PENDING if record.seq > done.get(record.partition, 0) else Fate("delivered")
            for index, output in enumerate(record.outputs):
                fate = ENDED if output.kind in ROWS else delivered
                fates[record.partition, record.seq, index] = fate
            for index, how, reason, at_s in self._log.fates(record.partition, record.seq):
                fates[record.partition, record.seq, index] = Fate(how, reason, at_s)
        return fates

    def close(self) -> None:
        """Let go."""
        self._log.close()
        if self._index is not None:
            self._index.close()

    def _at(self, spots: Sequence[Spot]) -> list[Record]:
        """Read records, each segment once; neighbours in `spots` are neighbours in the log."""
        found, here, first, segment = [], 0, 0, list[Record]()
        for position, seq in spots:
            if position != here:
                row = self._log.at(position)
                here, first, segment = position, row.first_seq, records_of(row)
            found.append(segment[seq - first])
        return found

    def _indexed(self, progress: Progress | None) -> HistoryIndex:
        if self._index is None:
            self._index = HistoryIndex(self._log)
        self._index.advance(progress)
        return self._index

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._log.index} cannot be read: {error}; delete it, it is made again") from error


class Tail:
    """A place in the log that moves on as it is read; who follows it waits between reads that return nothing.

    Attributes:
        mark: what it has read; a tail of the same store goes on from there.
        position: the newest segment read, 0 before the first.
    """

    def __init__(self, log: Log, mark: Mark, skip: int) -> None:
        self._log = log
        self._skip = skip
        self.mark = mark
        self.position = 0

    def read(self, segments: int = 64) -> list[Record]:
        """Return what was committed since, in the order of commits, from at most `segments` segments; often nothing."""
        self.mark, rows = self._log.after(self.mark, segments)
        if not rows:
            return []
        self.position = rows[-1].position
        skip, self._skip = self._skip, 0
        return [each for row in rows for each in records_of(row)][skip:]
