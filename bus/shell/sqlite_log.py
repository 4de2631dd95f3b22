"""The log in a SQLite file, for readers: opened read-only, beside the process that holds the store.

Every look is one short statement, since a long one would keep the writer from shortening its write-ahead log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bus.core.errors import NoStore, StoreFailed
from bus.core.ingress import Ingress
from bus.ports import Excepted
from bus.shell.history_log import LogRow, Mark
from bus.shell.sqlite_schema import HOLDING, check, meta, read_ingress

_ROW = "SELECT position, partition, first_seq, count, blob FROM segment"


# What a lease or a schedule is held under has `\0lease:` or `\0schedule:` in it: see bus.shell.leases, schedules.
_BACKLOG = """
SELECT partition, next - 1 - done,
       (SELECT count(*) FROM held AS h
        WHERE h.partition = p.partition AND instr(CAST(key AS BLOB), x'006C656173653A') = 0
        AND instr(CAST(key AS BLOB), x'007363686564756C653A') = 0)
FROM partition AS p
"""


class SqliteLog:
    """The `bus.shell.history_log.Log` of a file. A mark is a position: one writer, so they are visible in their order.

    Args:
        path: the store's file.

    Raises:
        NoStore: there is no such file.
        StoreFailed: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise NoStore(f"there is no store at {path}; start the bus once, or give its --home")
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

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._path)

    @property
    def store_id(self) -> str:
        """Identity of the store."""
        return self._store_id

    @property
    def index(self) -> Path:
        """Beside the file."""
        return Path(f"{self._path}.index")

    def last(self) -> int:
        """Position of the newest segment; 0 when there is none."""
        return int(self._rows("SELECT coalesce(max(position), 0) FROM segment", ())[0][0])

    def mark(self, position: int) -> Mark:
        """The position itself."""
        return (position,)

    def after(self, mark: Mark, limit: int) -> tuple[Mark, Sequence[LogRow]]:
        """Read at most `limit` segments that follow a mark."""
        rows = self._rows(f"{_ROW} WHERE position > ? ORDER BY position LIMIT ?", (mark[0] if mark else 0, limit))
        found = [LogRow(*each) for each in rows]
        return (found[-1].position,) if found else mark, found

    def at(self, position: int) -> LogRow:
        """Read the segment at a position that this log gave."""
        return LogRow(*self._rows(f"{_ROW} WHERE position = ?", (position,))[0])

    def before(self, position: int) -> tuple[int, int]:
        """Return how many entries the segment at `position` has, and the next lower position, or 0."""
        count, lower = self._rows(
            "SELECT count, coalesce((SELECT max(position) FROM segment WHERE position < s.position), 0)"
            " FROM segment AS s WHERE position = ?",
            (position,),
        )[0]
        return count, lower

    def holding(self, partition: int, seq: int) -> LogRow | None:
        """Read the segment that has an entry."""
        for row in self._rows(HOLDING, (partition, seq)):
            found = LogRow(*row)
            return found if seq < found.first_seq + found.count else None
        return None

    def done(self) -> Mapping[int, int]:
        """The watermark of each partition."""
        return dict(self._rows("SELECT partition, done FROM partition", ()))

    def ingress(self) -> Ingress:
        """What partitions there are."""
        with self._explained():
            return read_ingress(self._db)

    def backlog(self) -> Mapping[int, tuple[int, int]]:
        """By partition, how many of its inputs are recorded and unfinished, and how many outputs are held."""
        rows = self._rows(_BACKLOG, ())
        return {partition: (unfinished, held) for partition, unfinished, held in rows}

    def fates(self, partition: int, seq: int) -> Sequence[tuple[int, str, str, float]]:
        """What became of an entry's outputs otherwise than delivered: (index, how, reason, time)."""
        found: list[tuple[int, str, str, float]] = []
        for what in ("'held', reason, due_s FROM held", "how, reason, at_s FROM exceptions"):
            found += self._rows(f'SELECT "index", {what} WHERE partition = ? AND seq = ?', (partition, seq))
        return found

    def exceptions(self, how: str | None, limit: int) -> Sequence[Excepted]:
        """List outputs that did not end as delivered, newest first."""
        rows = self._rows(
            "SELECT * FROM exceptions WHERE ?1 IS NULL OR how = ?1 ORDER BY at_s DESC, partition, seq LIMIT ?2",
            (how, limit),
        )
        return [Excepted(*each) for each in rows]

    def close(self) -> None:
        """Let go."""
        self._db.close()

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        with self._explained():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            instead = "restore it from a copy or give another --home"
            raise StoreFailed(f"{self._path} cannot be read: {error}; {instead}") from error
