"""The log as operators read it: `bus trace`, `bus tap`, counts. It never touches the writer.

The store is opened read-only, while the bus runs or after it stopped; every look is one short statement, since a long
one would keep the writer from shortening its write-ahead log. Conversations and messages are found by a side index.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bus.audit.record import Record, decode
from bus.audit.segment import records
from bus.audit.trace import PENDING, Fate, Place
from bus.core.errors import BusError, StoreFailed
from bus.ports import Entry, Excepted
from bus.shell.history_index import HistoryIndex, Progress, Spot
from bus.shell.sqlite_schema import check, meta
from bus.shell.store_rules import entries_of

PREFIX_MIN = 4  # shorter beginnings of an id fit too many conversations to be of use
_LISTED = 5


class History:
    """The log of one store, for reading.

    Args:
        path: the store's file.

    Raises:
        StoreFailed: there is no store, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index: HistoryIndex | None = None
        if not path.is_file():
            raise StoreFailed(f"there is no store at {path}; start the bus once, or give its --home")
        with self._explained():
            uri = f"file:{quote(str(path.absolute()))}?mode=ro"
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
        try:
            with self._explained():
                check(self._db, path)
                self._store_id = str(meta(self._db, "store_id"))
        except BaseException:
            self._db.close()
            raise

    def conversation(self, name: str, progress: Progress | None = None) -> list[Record]:
        """Read a conversation, in the order of commits.

        Args:
            name: its id, or the beginning of it, at least 4 characters, that fits no other.
            progress: told how far indexing is, when there is much to do.

        Raises:
            BusError: no conversation, or several, begin so.
        """
        with self._explained(".index"):
            index = self._indexed(progress)
            spots = index.conversation(name) or index.conversation(self._complete(index, name))
            return self._at(spots)

    def _complete(self, index: HistoryIndex, prefix: str) -> str:
        if len(prefix) < PREFIX_MIN:
            raise BusError(f"`{prefix}` is too short; write at least {PREFIX_MIN} characters of the conversation's id")
        found = index.conversations(prefix, _LISTED + 1)
        if not found:
            raise BusError(f"no conversation in {self._path} begins with `{prefix}`; see `bus tap` for recent ones")
        if len(found) > 1:
            some = ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
            raise BusError(f"`{prefix}` fits several conversations; write more of one of: {some}")
        return found[0]

    def message(self, name: str, progress: Progress | None = None) -> list[Record]:
        """Read the records of a message id: the decision, then its repeats; empty when the log has none."""
        with self._explained(".index"):
            return self._at(self._indexed(progress).message(name))

    def entry(self, partition: int, seq: int) -> Entry:
        """Read one entry with its bodies.

        Raises:
            KeyError: there is none.
        """
        rows = self._rows(
            "SELECT first_seq, count, blob FROM segment WHERE partition = ? AND first_seq <= ?"
            " ORDER BY first_seq DESC LIMIT 1",
            (partition, seq),
        )
        if not rows or seq >= rows[0][0] + rows[0][1]:
            raise KeyError((partition, seq))
        first = int(rows[0][0])
        return entries_of(partition, first, rows[0][2])[seq - first]

    def tail(self, back: int | None = 0) -> Tail:
        """Follow the log from its end.

        Args:
            back: how many of the newest records to begin with; None begins with the first.
        """
        if back is None:
            return Tail(self, 0, 0)
        position, missing = self._last(), back
        while missing > 0 and position > 0:
            count, position = self._rows(
                "SELECT count, coalesce((SELECT max(position) FROM segment WHERE position < s.position), 0)"
                " FROM segment AS s WHERE position = ?",
                (position,),
            )[0]
            missing -= count
        return Tail(self, position, max(-missing, 0))

    def ends(self, count: int | None = None, progress: Progress | None = None) -> Mapping[str, int]:
        """Count the newest `count` records, or all, by how their input ended."""
        tail, last = self.tail(count), self._last()
        ends: Counter[str] = Counter()
        while found := tail.read():
            ends.update([each.end for each in found])
            if progress is not None:
                progress(tail.position, max(last, tail.position))
        return ends

    def exceptions(self, how: str | None = None, limit: int = 1000) -> list[Excepted]:
        """List outputs that did not end as delivered, newest first, at most `limit`; `how` picks one kind."""
        rows = self._rows(
            "SELECT * FROM exceptions WHERE ?1 IS NULL OR how = ?1 ORDER BY at_s DESC, partition, seq LIMIT ?2",
            (how, limit),
        )
        return [Excepted(*each) for each in rows]

    def fates(self, found: Iterable[Record]) -> dict[Place, Fate]:
        """Tell what became of each output of these records, for `bus.audit.trace.trace_tree`."""
        done = dict(self._rows("SELECT partition, done FROM partition", ()))
        fates: dict[Place, Fate] = {}
        for record in found:
            delivered = PENDING if record.seq > done.get(record.partition, 0) else Fate("delivered")
            fates.update({(record.partition, record.seq, i): delivered for i in range(len(record.outputs))})
            for what in ("'held', reason, due_s FROM held", "how, reason, at_s FROM exceptions"):
                statement = f'SELECT "index", {what} WHERE partition = ? AND seq = ?'
                for index, how, reason, at_s in self._rows(statement, (record.partition, record.seq)):
                    fates[record.partition, record.seq, index] = Fate(how, reason, at_s)
        return fates

    def close(self) -> None:
        """Let go."""
        self._db.close()
        if self._index is not None:
            self._index.close()

    def _segments(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[Record]]]:
        rows = self._rows(
            "SELECT position, partition, first_seq, blob FROM segment WHERE position > ? ORDER BY position LIMIT ?",
            (after, limit),
        )
        return [(at, [decode(each) for each in records(part, first, blob)]) for at, part, first, blob in rows]

    def _at(self, spots: Sequence[Spot]) -> list[Record]:
        """Read records, each segment once; neighbours in `spots` are neighbours in the log."""
        found, here, first, notes = [], 0, 0, list[bytes]()
        for position, seq in spots:
            if position != here:
                row = self._rows("SELECT partition, first_seq, blob FROM segment WHERE position = ?", (position,))[0]
                here, first, notes = position, row[1], records(*row)
            found.append(decode(notes[seq - first]))
        return found

    def _last(self) -> int:
        return int(self._rows("SELECT coalesce(max(position), 0) FROM segment", ())[0][0])

    def _indexed(self, progress: Progress | None) -> HistoryIndex:
        last = self._last()
        if self._index is None:
            self._index = HistoryIndex(Path(f"{self._path}.index"), self._store_id, last)
        self._index.advance(self._segments, last, progress)
        return self._index

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        with self._explained():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _explained(self, suffix: str = "") -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            instead = "delete it, it is made again" if suffix else "restore it from a copy or give another --home"
            raise StoreFailed(f"{self._path}{suffix} cannot be read: {error}; {instead}") from error


class Tail:
    """A place in the log that moves on as it is read; who follows it waits between reads that return nothing.

    Attributes:
        position: the newest segment read.
    """

    def __init__(self, history: History, position: int, skip: int) -> None:
        self._history = history
        self._skip = skip
        self.position = position

    def read(self, segments: int = 64) -> list[Record]:
        """Return what was committed since, in the order of commits, from at most `segments` segments; often nothing."""
        rows = self._history._segments(self.position, segments)
        if not rows:
            return []
        self.position = rows[-1][0]
        skip, self._skip = self._skip, 0
        return [each for _, found in rows for each in found][skip:]
