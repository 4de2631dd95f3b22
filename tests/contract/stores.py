"""The stores that the shared suite runs on, and short ways to write entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from bus.core.actions import Output
from bus.ports import Commit, Entry, InboxKey, Store
from bus.shell.memory_store import MemoryStore
from bus.shell.postgres_store import PostgresStore
from bus.shell.sqlite_store import SqliteStore
from tests.postgres_server import fresh_namespace, shared_server

KINDS = ("memory", "sqlite", "postgres")


class Bench(Protocol):
    """One durable state and the stores opened on it."""

    store: Store

    def restart(self) -> Store:
        """Let go of the store and open it anew."""

    def rival(self) -> Store:
        """Open it a second time while the first lives, as if nothing had kept a second process out."""

    def fill(self, full: bool) -> None:
        """Let the disk be full, so that nothing of some size can be written, or no longer."""

    def close(self) -> None:
        """Let go of everything, and remove what is not in the test's folder."""


class MemoryBench:
    def __init__(self) -> None:
        self._memory = MemoryStore()
        self.store: Store = self._memory

    def restart(self) -> Store:
        survivor = self._memory.reopen()
        self.store.close()
        self.store = self._memory = survivor
        return survivor

    def rival(self) -> Store:
        return self._memory.reopen()

    def fill(self, full: bool) -> None:
        self._memory.full = "the disk is full" if full else ""

    def close(self) -> None:
        self.store.close()


class SqliteBench:
    """Args:
    open_store: opens the file; tests of the file itself vary it.
    """

    def __init__(self, path: Path, open_store: Callable[[Path], SqliteStore] = SqliteStore) -> None:
        self._path = path
        self._open = open_store
        self.store: Store = self._made()

    def _made(self) -> Store:
        self._sqlite = self._open(self._path)
        return self._sqlite

    def restart(self) -> Store:
        self.store.close()
        self.store = self._made()
        return self.store

    def rival(self) -> Store:
        Path(f"{self._path}.lock").unlink()  # what an operator in a hurry does
        return self._open(self._path)

    def fill(self, full: bool) -> None:
        self._sqlite._db.execute(f"PRAGMA max_page_count = {20 if full else 100_000}")

    def close(self) -> None:
        self.store.close()


class PostgresBench:
    """A PostgreSQL schema of its own on the server that all tests share."""

    def __init__(self) -> None:
        self._url, self._namespace = shared_server().url, fresh_namespace()
        self._opened: list[PostgresStore] = []
        self.store: Store = self.rival()

    def restart(self) -> Store:
        self.store.close()
        self.store = self.rival()
        return self.store

    def rival(self) -> Store:
        self._opened.append(PostgresStore(self._url, self._namespace))
        return self._opened[-1]

    def fill(self, full: bool) -> None:
        """A trigger stands for the server that finds its disk full: what is small goes in, what is large does not."""
        schema = f'"{self._namespace}"'
        shared_server().execute(
            f"CREATE FUNCTION {schema}.full() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;"
            f"CREATE TRIGGER full_disk BEFORE INSERT ON {schema}.segment FOR EACH ROW"
            f" WHEN (length(new.blob) > 20000) EXECUTE FUNCTION {schema}.full()"
            if full
            else f"DROP TRIGGER full_disk ON {schema}.segment"
        )

    def close(self) -> None:
        for each in self._opened:
            each.close()
        shared_server().execute(f'DROP SCHEMA "{self._namespace}" CASCADE')


def make(kind: str, folder: Path) -> Bench:
    """Make a fresh store of one of `KINDS`."""
    if kind == "memory":
        return MemoryBench()
    if kind == "postgres":
        return PostgresBench()
    return SqliteBench(folder / "bus.db", lambda path: SqliteStore(path, wal_bytes=1 << 16))


def output(text: str = "o", kind: str = "agent") -> Output:
    name = "greeter" if kind == "agent" else ""
    body = text.encode() * 20
    return Output("agent" if kind == "agent" else "dead", name, text, "t", "c", body, "application/json", {"n": 1})


def key_of(seq: int, salt: str = "") -> InboxKey:
    return InboxKey(*(blake2b(f"{salt}{seq}".encode(), digest_size=size).digest() for size in (16, 8)))


def entry(seq: int, salt: str = "", outputs: Sequence[Output] = ()) -> Entry:
    return Entry(seq, key_of(seq, salt), b'{"seq":%d}' % seq, b"in %d \0\xff" % seq, tuple(outputs))


def plain(first: int, last: int) -> list[Entry]:
    """Entries without identity: quick to write, and they move the sequence on."""
    return [Entry(seq, None, b"{}", b"", ()) for seq in range(first, last + 1)]


def log(*entries: Entry, partition: int = 0, done: int | None = None) -> Commit:
    return Commit({partition: entries}, {} if done is None else {partition: done})
