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
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from bus.shell.history_log import Log, Mark, records_of

Progress: TypeAlias = Callable[[int, int], None]
"""Told (position reached, last position) while a long look-up goes on."""

Spot: TypeAlias = tuple[int, int]
"""A record: (position of its segment, seq). Sorts in the order of commits."""

_STEP = 16  # segments a transaction: short enough that two readers take turns and progress is seen

_TABLES = (
    "CREATE TABLE IF NOT EXISTS reached(store_id TEXT NOT NULL, mark TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS conversation(id TEXT NOT NULL, position INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(id, position, seq)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS message(id TEXT NOT NULL, position INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(id, position, seq)) WITHOUT ROWID",
)


class HistoryIndex:
    """Args:
    log: what is indexed; it names the file. Where that cannot be written the index lives in memory and is built anew
        each time.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        path = log.index
        try:
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            self._lock = -1
        with self._turn():
            self._db = self._open(path)
            try:
                self._begin()
            except sqlite3.DatabaseError as error:
                self._db.close()
                if not _worthless(error):
                    raise
                path.unlink()
                self._db = self._open(path)
                self._begin()

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

    def _begin(self) -> None:
        self._db.execute("PRAGMA synchronous = NORMAL")
        newest = self._log.mark(self._log.last())
        with self._transaction():
            for table in _TABLES:
                self._db.execute(table)
            reached = self._db.execute("SELECT store_id, mark FROM reached").fetchone()
            if reached is None or reached[0] != self._log.store_id or _beyond(tuple(json.loads(reached[1])), newest):
                for name in ("reached", "conversation", "message"):
                    self._db.execute(f"DELETE FROM {name}")
                self._db.execute("INSERT INTO reached VALUES (?, '[]')", (self._log.store_id,))

    def advance(self, progress: Progress | None = None) -> None:
        """Index what has been committed by now."""
        last = self._log.last()
        position = self._advance()
        while position is not None and position < last:
            if progress is not None:
                progress(position, last)
            position = self._advance()
        if progress is not None and position is not None:
            progress(last, last)

    def _advance(self) -> int | None:
        """Index a few segments; returns the position of the last one, or None when there was nothing to do."""
        with self._turn(), self._transaction() as db:
            (mark,) = db.execute("SELECT mark FROM reached").fetchone()
            after, rows = self._log.after(tuple(json.loads(mark)), _STEP)
            if not rows:
                return None
            segments = [(row.position, each) for row in rows for each in records_of(row)]
            conversations = [(each.conversation, at, each.seq) for at, each in segments]
            messages = [(each.id, at, each.seq) for at, each in segments if each.id]
            db.executemany("INSERT OR IGNORE INTO conversation VALUES (?, ?, ?)", sorted(conversations))
            db.executemany("INSERT OR IGNORE INTO message VALUES (?, ?, ?)", sorted(messages))
            db.execute("UPDATE reached SET mark = ?", (json.dumps(after),))
        return rows[-1].position

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


def _beyond(mark: Mark, newest: Mark) -> bool:
    """Tell whether an index has read more than the store holds: it was made from another copy of it."""
    return len(mark) > len(newest) or any(read > there for read, there in zip(mark, newest, strict=False))


def _worthless(error: sqlite3.Error) -> bool:
    """Tell whether the file is no database, a damaged one, or none of ours: an index can always be made again."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}
