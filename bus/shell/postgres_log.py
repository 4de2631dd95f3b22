"""The log in PostgreSQL, for readers: a read-only connection, to the server or to a standby of it.

Positions come from a sequence, and several workers commit side by side, so a lower position can become visible after
a higher one; a reader that went by positions would miss it. Within a partition that cannot happen: its owner commits
one after the other, under the lock of the partition's row. So a mark counts per partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bus.core.errors import NoStore, StoreDown, StoreFailed
from bus.core.ingress import Ingress, from_json
from bus.ports import Excepted
from bus.shell.history_log import LogRow, Mark
from bus.shell.postgres_link import TIMEOUT_S, Link, connect, explained, shown
from bus.shell.postgres_schema import text, version

_ROW = "SELECT s.position, s.partition, s.first_seq, s.count, s.blob FROM segment AS s"

# Positions first, then blobs: a partition's look-ahead costs an index scan and no bodies.
_AFTER = f"""
{_ROW} JOIN (
    SELECT ahead.position
    FROM (SELECT partition, coalesce((%(mark)s::bigint[])[partition + 1], 0) AS read FROM partition) AS each
    CROSS JOIN LATERAL (
        SELECT position FROM segment WHERE partition = each.partition AND first_seq > each.read
        ORDER BY first_seq LIMIT %(limit)s
    ) AS ahead
    ORDER BY position LIMIT %(limit)s
) AS chosen USING (position)
ORDER BY s.position
"""

_MARK = """
SELECT partition, coalesce((
    SELECT first_seq FROM segment AS s WHERE s.partition = p.partition AND position <= %s
    ORDER BY first_seq DESC LIMIT 1
), 0) FROM partition AS p
"""


# What a lease or a schedule is held under has `\0lease:` or `\0schedule:` in it: see bus.shell.leases, schedules.
_BACKLOG = """
SELECT partition, next - 1 - done,
       (SELECT count(*) FROM held AS h
        WHERE h.partition = p.partition AND position('\\x006c656173653a'::bytea IN key) = 0
        AND position('\\x007363686564756c653a'::bytea IN key) = 0)
FROM partition AS p
"""


class PostgresLog:
    """The `bus.shell.history_log.Log` of a namespace. A mark has, by partition, where the newest segment read begins.

    Args:
        url: as the store's; the role needs the reader's rights only.
        namespace: of the bus.
        home: where the side index lies; made if absent.
        timeout_s: longest that one look may take.

    Raises:
        StoreDown: the database cannot be reached.
        NoStore: no bus has made it yet.
        StoreFailed: it cannot be read.
    """

    def __init__(self, url: str, namespace: str, home: Path, *, timeout_s: float = 6 * TIMEOUT_S) -> None:
        self._url = url
        self._namespace = namespace
        self._home = home
        self._timeout_s = timeout_s
        self._db: Link | None = None
        self._store_id = ""
        self._connected()

    def _connected(self) -> Link:
        """The connection; a new one after the old one was lost, if it is still the same store."""
        if self._db is not None:
            return self._db
        db = connect(self._url, self._namespace, timeout_s=self._timeout_s, read_only=True)
        try:
            if not version(db, self._namespace):
                raise NoStore(
                    f"there is no store at {shown(self._url)} for namespace `{self._namespace}`; start the bus once"
                )
            row = db.execute(b"SELECT store_id FROM meta").fetchone()
            found = str(row[0]) if row else ""
            if found != (self._store_id or found):
                raise StoreFailed(f"store {found} answers at {shown(self._url)} where {self._store_id} did")
        except psycopg.Error as error:
            db.close()
            raise explained(error, self._url) from error
        except BaseException:
            db.close()
            raise
        self._db, self._store_id = db, found
        return db

    @property
    def name(self) -> str:
        """The database's address, without a password."""
        return shown(self._url)

    @property
    def store_id(self) -> str:
        """Identity of the store."""
        return self._store_id

    @property
    def index(self) -> Path:
        """In the home folder: the database is not ours to write."""
        try:
            self._home.mkdir(parents=True, exist_ok=True)
        except OSError:
            pass  # the index then lives in memory
        return self._home / f"history-{self._store_id}.index"

    def last(self) -> int:
        """Position of the newest segment; 0 when there is none."""
        return int(self._rows("SELECT coalesce(max(position), 0) FROM segment")[0][0])

    def mark(self, position: int) -> Mark:
        """For each partition, its newest segment up to a position."""
        found = dict(self._rows(_MARK, (position,)))
        return tuple([found.get(each, 0) for each in range(max(found, default=-1) + 1)])

    def after(self, mark: Mark, limit: int) -> tuple[Mark, Sequence[LogRow]]:
        """Read at most `limit` segments that follow a mark."""
        found = [LogRow(*each) for each in self._rows(_AFTER, {"mark": list(mark), "limit": limit})]
        read = dict(enumerate(mark))
        for each in found:
            read[each.partition] = each.first_seq
        return tuple([read.get(each, 0) for each in range(max(read, default=-1) + 1)]), found

    def at(self, position: int) -> LogRow:
        """Read the segment at a position that this log gave."""
        return LogRow(*self._rows(f"{_ROW} WHERE position = %s", (position,))[0])

    def before(self, position: int) -> tuple[int, int]:
        """Return how many entries the segment at `position` has, and the next lower position, or 0."""
        count, lower = self._rows(
            "SELECT count, coalesce((SELECT max(position) FROM segment WHERE position < s.position), 0)"
            " FROM segment AS s WHERE position = %s",
            (position,),
        )[0]
        return count, lower

    def holding(self, partition: int, seq: int) -> LogRow | None:
        """Read the segment that has an entry."""
        where = "WHERE partition = %s AND first_seq <= %s ORDER BY first_seq DESC LIMIT 1"
        for row in self._rows(f"{_ROW} {where}", (partition, seq)):
            found = LogRow(*row)
            return found if seq < found.first_seq + found.count else None
        return None

    def done(self) -> Mapping[int, int]:
        """The watermark of each partition."""
        return dict(self._rows("SELECT partition, done FROM partition"))

    def ingress(self) -> Ingress:
        """What partitions there are."""
        return from_json(self._rows("SELECT state FROM ingress")[0][0])

    def backlog(self) -> Mapping[int, tuple[int, int]]:
        """By partition, how many of its inputs are recorded and unfinished, and how many outputs are held."""
        rows = self._rows(_BACKLOG)
        return {partition: (unfinished, held) for partition, unfinished, held in rows}

    def fates(self, partition: int, seq: int) -> Sequence[tuple[int, str, str, float]]:
        """What became of an entry's outputs otherwise than delivered: (index, how, reason, time)."""
        rows = self._rows(
            "SELECT index, 'held', reason, due_s FROM held WHERE partition = %(partition)s AND seq = %(seq)s UNION ALL"
            " SELECT index, how, reason, at_s FROM exceptions WHERE partition = %(partition)s AND seq = %(seq)s",
            {"partition": partition, "seq": seq},
        )
        return [(index, how, text(reason), at_s) for index, how, reason, at_s in rows]

    def exceptions(self, how: str | None, limit: int) -> Sequence[Excepted]:
        """List outputs that did not end as delivered, newest first."""
        rows = self._rows(
            "SELECT partition, seq, index, how, at_s, reason FROM exceptions"
            " WHERE %(how)s::text IS NULL OR how = %(how)s ORDER BY at_s DESC, partition, seq LIMIT %(limit)s",
            {"how": how, "limit": limit},
        )
        return [
            Excepted(partition, seq, index, kind, at_s, text(reason))
            for partition, seq, index, kind, at_s, reason in rows
        ]

    def close(self) -> None:
        """Let go."""
        if self._db is not None:
            self._db.close()

    def _rows(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
        try:
            return self._connected().execute(statement.encode(), values, binary=True).fetchall()
        except psycopg.Error as error:
            known = explained(error, self._url)
            if isinstance(known, StoreDown):
                self.close()
                self._db = None  # whoever asks again gets a new one
            raise known from error
