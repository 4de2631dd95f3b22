"""The side index of the log: where the records of a conversation, and of a message, stand.

The log itself has no such index: one B-tree insert with a random key per message would cost more than all the rest of
a commit. Readers build it when they need it, from where the last one stopped. It holds nothing that is not in the log,
so it may be deleted at any time, and is thrown away when it does not fit the store or is damaged.

Several readers take turns by a lock on a file beside it, each going on from what the one before it has done. SQLite's
own locks are not enough: they belong to a file, so after the index was deleted in the middle of a transaction, the next
reader would find a rollback journal of the right name and play it into the new, empty index.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from bus.audit.record import Record

Progress: TypeAlias = Callable[[int, int], None]
"""Told (segments done, segments in all) while a long look-up goes on."""

Spot: TypeAlias = tuple[int, int]
"""A record: (position of its segment, seq). Sorts in the order of commits."""

Source: TypeAlias = Callable[[int, int], Sequence[tuple[int, Sequence[Record]]]]
"""Reads at most `limit` segments after a position: (position, records), in order."""

_STEP = 16  # segments a transaction: short enough that two readers take turns and progress is seen

_TABLES = (
    "CREATE TABLE IF NOT EXISTS state(store_id TEXT NOT NULL, position INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS conversation(id TEXT NOT NULL, position INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(id, position, seq)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS message(id TEXT NOT NULL, position INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(id, position, seq)) WITHOUT ROWID",
)


class HistoryIndex:
    """Args:
    path: the index file; where it cannot be written the index lives in memory and is built anew each time.
    store_id: the store that it must belong to.
    last: position of the store's newest segment, beyond which no index of this store can be.
    """

    def __init__(self, path: Path, store_id: str, last: int) -> None:
        try:
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            self._lock = -1
        with self._turn():
            self._db = self._open(path)
            try:
                self._begin(store_id, last)
            except sqlite3.DatabaseError as error:
                self._db.close()
                if not _worthless(error):
                    raise
                path.unlink()
                self._db = self._open(path)
                self._begin(store_id, last)

    def _open(self, path: Path) -> sqlite3.Connection:
        """Open the file, or a database in memory where the folder may not be written."""
        name: str | Path = path
        try:
            if not path.exists():
                Path(f"{path}-journal").unlink(missing_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            name = ":memory:"
        return sqlite3.connect(name, isolation_level=None, timeout=30.0)

    def _begin(self, store_id: str, last: int) -> None:
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            for table in _TABLES:
                self._db.execute(table)
            state = self._db.execute("SELECT store_id, position FROM state").fetchone()
            if state is None or state[0] != store_id or state[1] > last:
                for name in ("state", "conversation", "message"):
                    self._db.execute(f"DELETE FROM {name}")
                self._db.execute("INSERT INTO state VALUES (?, 0)", (store_id,))

    def advance(self, source: Source, last: int, progress: Progress | None = None) -> None:
        """Index what has been committed up to position `last`."""
        reached = self._advance(source)
        while reached is not None and reached < last:
            if progress is not None:
                progress(reached, last)
            reached = self._advance(source)
        if progress is not None and reached is not None:
            progress(last, last)

    def _advance(self, source: Source) -> int | None:
        """Index a few segments; returns the position reached, or None when there was nothing to do."""
        with self._turn(), self._transaction() as db:
            (position,) = db.execute("SELECT position FROM state").fetchone()
            segments = source(position, _STEP)
            if not segments:
                return None
            conversations = [(each.conversation, at, each.seq) for at, found in segments for each in found]
            messages = [(each.id, at, each.seq) for at, found in segments for each in found if each.id]
            db.executemany("INSERT OR IGNORE INTO conversation VALUES (?, ?, ?)", sorted(conversations))
            db.executemany("INSERT OR IGNORE INTO message VALUES (?, ?, ?)", sorted(messages))
            position = segments[-1][0]
            db.execute("UPDATE state SET position = ?", (position,))
        return int(position)

    def conversations(self, prefix: str, limit: int) -> list[str]:
        """List conversations whose id begins with `prefix`, at most `limit`."""
        rows = self._rows(
            "SELECT DISTINCT id FROM conversation WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (prefix, prefix + chr(0x10FFFF), limit),
        )
        return [name for (name,) in rows]

    def conversation(self, name: str) -> list[Spot]:
        """Where the records of a conversation stand, in the order of commits."""
        return self._rows("SELECT position, seq FROM conversation WHERE id = ?", (name,))

    def message(self, name: str) -> list[Spot]:
        """Where the records of a message stand: the first, then its repeats."""
        return self._rows("SELECT position, seq FROM message WHERE id = ?", (name,))

    def close(self) -> None:
        """Let go."""
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        with self._turn():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other reader uses the index; without a lock file it is in memory and ours alone."""
        if self._lock < 0:
            yield
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _worthless(error: sqlite3.Error) -> bool:
    """Tell whether the file is no database, a damaged one, or none of ours: an index can always be made again."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}
