"""The embedded store: one SQLite file, one writing process, one transaction a batch.

Theory of operation. The log is `segment`, one blob per partition and commit, insert-only; `place` says where segments
stand. `runs` holds the identities of the newest inputs, one blob per partition, commit and bucket. `partition` holds
each owner's epoch, the next number and the watermark `done`; everything above `done` is replayed by the next claim.
`held` and `exceptions` are small. A commit is one statement, see bus.shell.sqlite_rows, and more where rows wait or
routes remember. The file is in WAL mode with `synchronous=FULL`: COMMIT returns after the write-ahead log is on disk.

One process holds the file by an OS lock. Should a second one come all the same (the lock file was removed), the epoch
fences the first: the commit's transaction holds SQLite's write lock, so what it reads of the epoch stays true until
it is done.

Checkpoints (copying the write-ahead log into the database) are ours, not SQLite's: its automatic one ignores errors,
and it would stand between a commit and the publishing that waits for it. They run on a thread of their own, over the
one writing connection, after a commit has returned; a commit that comes meanwhile waits.

Failures. Before COMMIT is tried nothing is written, and a full disk (`StoreDown`) or a broken rule leaves the store
usable. Any other I/O error is fatal: after a failed fsync the kernel may drop the pages and report success next time,
so nothing that this process reads is known to be on disk. The store then refuses everything; it must be opened anew,
by a new process, which checkpoints before it hands out anything, so that what it read is written and synced again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bus.core.control import PAUSED
from bus.core.errors import BusError, StoreDown, StoreFailed
from bus.core.ingress import Ingress, grown
from bus.ports import SHARED, Claim, Commit, Entry, Held, Share
from bus.shell import growth_wish
from bus.shell.sqlite_rows import APPEND, APPENDING, Run, appended, key_runs, write_states, write_waiting
from bus.shell.sqlite_schema import HOLDING, make_private, meta, prepare, read_ingress, write_ingress
from bus.shell.store_lock import StoreLock
from bus.shell.store_rules import (
    Move,
    Segment,
    advance,
    bucket_id,
    bucket_in,
    entries_of,
    fenced,
    moves_of,
    partition_in,
    segments_of,
    unfinished,
)

_log = logging.getLogger(__name__)

WAL_BYTES = (
    4 << 20
)  # written between checkpoints: each then holds up a commit for under 10 ms, not 30 to 70 with 16 MiB
PAGE_BYTES = (
    16 << 10
)  # each page is two writes, and a batch's blob mostly one; a commit of one message likes 4 KiB better
_PAGES = 5  # that a commit writes besides blobs: the first, numbers, identities and their index, the root of the log
CACHE_KIB = 4 << 10  # holds the last pages of all partitions and one large batch


@dataclass(slots=True)
class _Bucket:
    """The keys of a bucket, and those that a commit adds to them."""

    bucket: int
    known: set[bytes]
    added: set[bytes] = field(default_factory=set)


_KEY, _IDENTITY = 16, 24  # bytes of a key, and of a key with its content

_HARMLESS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG}
"""What SQLite reports before it has tried to make anything durable; a roll-back leaves the store as it was."""


class SqliteStore:
    """The `bus.ports.Store` in one file.

    Args:
        path: the file; made with its folder when absent, readable by its owner only.
        wal_bytes: about how much is written between two checkpoints.

    Raises:
        StoreFailed: another process holds the file, it is no store, or it cannot be opened.
    """

    def __init__(self, path: Path, *, wal_bytes: int = WAL_BYTES) -> None:
        self._path = path
        self._wal_bytes = wal_bytes
        self._written = 0
        self._room = 0  # bytes of a commit that found the disk full
        self._refusal = ""
        self._epochs: dict[int, int] = {}
        self._newest: dict[int, _Bucket] = {}  # by partition
        self._busy = threading.Lock()
        self._tidier = ThreadPoolExecutor(1, "store-checkpoint")
        try:
            make_private(path)
        except OSError as error:
            raise StoreFailed(f"{path} cannot be made: {error.strerror}; give another --home") from error
        self._lock = StoreLock(path)
        try:
            self._db = _open(path)
            self._id = str(meta(self._db, "store_id"))
            secret = meta(self._db, "secret")
        except BaseException as error:
            self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise StoreFailed(f"{path} cannot be opened: {error}; restore it or give another --home") from error
            raise
        self._secret = secret if isinstance(secret, bytes) else b""

    @property
    def store_id(self) -> str:
        """Identity of this store: 32 hex digits."""
        return self._id

    @property
    def secret(self) -> bytes:
        """Key that seals return addresses: 32 bytes."""
        return self._secret

    def ingress(self) -> Ingress:
        """Read what partitions there are; a wish that lies beside the file is taken in first, if nothing is paused."""
        wish = growth_wish.waiting(self._path)
        if wish is not None and any(key.startswith(PAUSED) for key, _ in self.states(SHARED)):
            wish = None
        with self._transaction() as db:
            found = read_ingress(db)
            if wish is not None:
                try:
                    found = grown(found, wish)
                    write_ingress(db, found)
                except BusError as refused:
                    _log.warning("the wish for %d partitions is dropped: %s", wish, refused)
        if wish is not None:
            growth_wish.taken(self._path)  # after the commit: a crash in between repeats it, which changes nothing
        return found

    def set_ingress(self, before: Ingress, after: Ingress) -> bool:
        """Replace it if it still is `before`; returns whether it was."""
        with self._transaction() as db:
            if read_ingress(db) != before:
                return False
            write_ingress(db, after)
        return True

    def lease(self, worker: str, of: int, ttl_s: float) -> Share:
        """Lease everything to the one process that holds the file."""
        return Share(frozenset(range(of)), exclusive=True)

    def release(self, worker: str, slots: Collection[int] | None = None) -> None:
        """Nobody else could take them."""

    def claim(self, of: int, partitions: Collection[int] | None = None) -> Sequence[Claim]:
        """Take these partitions, or all of 0..of-1, so that older owners can write nothing.

        Raises:
            StoreDown: the disk is still full.
            StoreFailed: the store cannot be read, or a partition from `of` on has unfinished work.
        """
        self._find_room()
        with self._transaction() as db:
            beyond = db.execute(
                "SELECT partition FROM partition AS p WHERE partition >= ? AND (done < next - 1"
                " OR EXISTS (SELECT 1 FROM held WHERE held.partition = p.partition)"
                " OR EXISTS (SELECT 1 FROM state WHERE state.partition = p.partition)) ORDER BY 1 DESC",
                (of,),
            ).fetchone()
            if beyond:
                raise unfinished(beyond[0], of)
            rows = []
            for partition in sorted(range(of) if partitions is None else partitions):
                db.execute("INSERT OR IGNORE INTO partition VALUES (?, 0, 1, 0)", (partition,))
                db.execute("UPDATE partition SET epoch = epoch + 1 WHERE partition = ?", (partition,))
                rows.append(db.execute("SELECT * FROM partition WHERE partition = ?", (partition,)).fetchone())
            claims = [_claim(db, partition, next_seq, done) for partition, _, next_seq, done in rows]
        self._epochs = {partition: epoch for partition, epoch, _, _ in rows}
        self._newest.clear()
        return claims

    def commit(self, batch: Commit) -> None:
        """Write it all or nothing; durable when this returns.

        Raises:
            StoreDown: the disk is full, and nothing was written.
            StoreFailed: nothing of the batch may be published.
        """
        segments, moves = segments_of(batch), moves_of(batch)
        runs = [run for partition, entries in batch.entries.items() for run in key_runs(partition, entries)]
        more = batch.hold or batch.release or batch.exceptions or batch.states
        buckets: list[_Bucket] = []
        try:
            buckets = self._unique(runs)
            with self._transaction(alone=not more) as db:
                db.execute(APPEND, appended(moves, self._epochs, segments, runs))
                write_waiting(db, batch)
                write_states(db, batch)
        except StoreDown:
            self._room = max(PAGE_BYTES, sum([len(each.blob) for each in segments]))
            raise
        except StoreFailed:
            self._check(moves)
            raise
        for each in buckets:
            each.known |= each.added
            self._newest[partition_in(each.bucket)] = each
        self._note_written(segments)

    def keys(self, newest: int, partitions: Collection[int] | None = None) -> Iterable[tuple[int, int, bytes]]:
        """Yield (partition, bucket, key) of the newest inbox keys, at most `newest` per partition, oldest first."""
        for partition in self._partitions() if partitions is None else sorted(partitions):
            start, surplus = self._window(partition, newest)
            stop = bucket_id(partition + 1, 0)
            buckets = self._read("SELECT DISTINCT bucket FROM runs WHERE bucket >= ? AND bucket < ?", (start, stop))
            for (bucket,) in buckets:
                identities = b"".join(keys for _, keys in self._runs(bucket))
                for at in range(surplus * _IDENTITY, len(identities), _IDENTITY):
                    yield partition, bucket_in(bucket), identities[at : at + _KEY]
                surplus = 0

    def seen(self, partition: int, bucket: int, key: bytes) -> tuple[int, bytes] | None:
        """Return (seq, content) of an inbox key, or None."""
        for first, keys in self._runs(bucket_id(partition, bucket)):
            at = keys.find(key)
            while at >= 0 and at % _IDENTITY:
                at = keys.find(key, at + 1)
            if at >= 0:
                return first + at // _IDENTITY, keys[at + _KEY : at + _IDENTITY]
        return None

    def _runs(self, bucket: int) -> Sequence[tuple[int, bytes]]:
        return self._read("SELECT first, keys FROM runs WHERE bucket = ? ORDER BY first", (bucket,))

    def entry(self, partition: int, seq: int) -> Entry:
        """Read one entry back.

        Raises:
            KeyError: there is none.
            StoreFailed: the log is damaged there.
        """
        rows = self._read(HOLDING, (partition, seq))
        if not rows or seq >= rows[0][2] + rows[0][3]:
            raise KeyError((partition, seq))
        first_seq = int(rows[0][2])
        return entries_of(partition, first_seq, rows[0][4])[seq - first_seq]

    def states(self, partition: int) -> Sequence[tuple[str, float | None]]:
        """Return (key, due) of all that a partition remembers."""
        return self._read("SELECT key, due_s FROM state WHERE partition = ?", (partition,))

    def recall(self, partition: int, key: str) -> bytes | None:
        """Return what a partition remembers under a key, or None."""
        rows = self._read("SELECT body FROM state WHERE partition = ? AND key = ?", (partition, key))
        return rows[0][0] if rows else None

    def keep_configuration(self, version: str, bundle: bytes) -> None:
        """Keep what makes a configuration, as the one kept last."""
        with self._transaction() as db:
            last = db.execute("SELECT version FROM config ORDER BY kept DESC LIMIT 1").fetchone()
            if last is None or last[0] != version:
                place = "(SELECT coalesce(max(kept), 0) + 1 FROM config)"
                db.execute(f"INSERT OR REPLACE INTO config VALUES (?, {place}, ?)", (version, bundle))

    def configuration(self, version: str) -> bytes | None:
        """Return what was kept of a configuration, or None."""
        rows = self._read("SELECT bundle FROM config WHERE version = ?", (version,))
        return rows[0][0] if rows else None

    def versions(self) -> Collection[str]:
        """Return the configurations that something which is remembered needs."""
        rows = self._read("SELECT DISTINCT version FROM state WHERE version IS NOT NULL", ())
        return [version for (version,) in rows]

    def drop_configurations(self, newest: int) -> int:
        """Forget configurations that nothing remembered needs, but for those kept last; returns how many."""
        with self._transaction() as db:
            return db.execute(
                "DELETE FROM config WHERE version NOT IN (SELECT version FROM config ORDER BY kept DESC LIMIT ?)"
                " AND version NOT IN (SELECT version FROM state WHERE version IS NOT NULL)",
                (newest,),
            ).rowcount

    def prune(self, keep: int) -> int:
        """Forget inbox keys but the newest `keep` per partition, in whole buckets; returns how many were dropped."""
        dropped = 0
        for partition in self._partitions():
            start, _ = self._window(partition, keep)
            first = bucket_id(partition, 0)
            with self._transaction() as db:
                self._fence(db, partition)
                gone = "FROM runs WHERE bucket >= ? AND bucket < ?"
                bytes_ = db.execute(f"SELECT coalesce(sum(length(keys)), 0) {gone}", (first, start)).fetchone()[0]
                db.execute(f"DELETE {gone}", (first, start))
                dropped += bytes_ // _IDENTITY
        return dropped

    def close(self) -> None:
        """Checkpoint and let go."""
        self._tidier.shutdown()
        with self._busy:
            self._refusal = self._refusal or f"{self._path} is closed"
            try:
                self._db.close()
            finally:
                self._lock.release()

    def _find_room(self) -> None:
        """Write as much as the commit that found the disk full, and take it back."""
        if self._room:
            with self._transaction() as db:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('room', zeroblob(?))", (self._room,))
            with self._transaction() as db:
                db.execute("DELETE FROM meta WHERE name = 'room'")
            self._room = 0

    def _partitions(self) -> list[int]:
        return sorted(self._epochs)

    def _window(self, partition: int, newest: int) -> tuple[int, int]:
        """Find the newest keys: the bucket where they begin, and how many older ones stand there before them."""
        start = stop = bucket_id(partition + 1, 0)
        counts = self._read(
            f"SELECT bucket, sum(length(keys)) / {_IDENTITY} FROM runs WHERE bucket >= ? AND bucket < ?"
            " GROUP BY bucket ORDER BY bucket DESC",
            (bucket_id(partition, 0), stop),
        )
        found = 0
        for bucket, count in counts:
            if found >= newest:
                break
            start, found = bucket, found + count
        return start, max(found - newest, 0)

    def _check(self, moves: Sequence[Move]) -> None:
        """Say more exactly why a commit failed, when its partitions are another's by now, or it does not follow on."""
        if not self._refusal:
            with self._transaction() as db:
                for move in moves:
                    advance(move, *self._fence(db, move.partition))

    def _unique(self, runs: Sequence[Run]) -> list[_Bucket]:
        """See that no key is in its bucket already; returns the buckets that become the newest of their partitions."""
        buckets: dict[int, _Bucket] = {}
        for bucket, first, identities in runs:
            keys = {identities[at : at + _KEY] for at in range(0, len(identities), _IDENTITY)}
            its = buckets.get(bucket) or self._bucket(bucket)
            twice = len(keys) * _IDENTITY != len(identities)
            if twice or not its.known.isdisjoint(keys) or not its.added.isdisjoint(keys):
                partition = partition_in(bucket)
                raise StoreFailed(
                    f"{self._path}: one of the identities from entry {first} of partition {partition} on is recorded "
                    "already; nothing was written"
                )
            its.added.update(keys)
            buckets[bucket] = its
        return list(buckets.values())

    def _bucket(self, bucket: int) -> _Bucket:
        """What is known of a bucket. What another owner adds to it meanwhile does not matter: it has a newer epoch."""
        newest = self._newest.get(partition_in(bucket))
        if newest is not None and newest.bucket == bucket:
            newest.added = set()
            return newest
        rows = self._runs(bucket)
        return _Bucket(bucket, {kept[at : at + _KEY] for _, kept in rows for at in range(0, len(kept), _IDENTITY)})

    def _fence(self, db: sqlite3.Connection, partition: int) -> tuple[int, int]:
        """Return the partition's (next, done); the transaction's lock keeps its epoch as it is read here."""
        row = db.execute("SELECT epoch, next, done FROM partition WHERE partition = ?", (partition,)).fetchone()
        if row is None or row[0] != self._epochs.get(partition):
            raise fenced(partition)
        return row[1], row[2]

    def _read(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        with self._busy:
            if self._refusal:
                raise StoreFailed(self._refusal)
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    @contextmanager
    def _transaction(self, *, alone: bool = False) -> Iterator[sqlite3.Connection]:
        """Everything or nothing; `alone` is one statement, which needs no others around it for that."""
        with self._busy:
            if self._refusal:
                raise StoreFailed(self._refusal)
            try:
                if not alone:
                    self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                if not alone:
                    self._db.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    raise self._failed(error) from error
                if isinstance(error, (UnicodeError, OverflowError)):
                    raise StoreFailed(f"{self._path} cannot hold this value: {error}; nothing was written") from error
                raise

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._failed(error)

    def _failed(self, error: sqlite3.Error) -> StoreFailed:
        """Say what failed, and refuse everything from now on unless it was harmless."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF == sqlite3.SQLITE_FULL:
            return StoreDown(f"the disk of {self._path} is full; nothing was written; free some space")
        if code & 0xFF in _HARMLESS:
            return StoreFailed(f"{self._path}: {error}; nothing was written")
        name = getattr(error, "sqlite_errorname", "")
        self._refusal = f"{self._path} failed: {error} ({name}); look after the disk, then start the bus again"
        return StoreFailed(self._refusal)

    def _note_written(self, segments: Sequence[Segment]) -> None:
        """Ask for a checkpoint when about `wal_bytes` were written: blobs, and the pages of all else."""
        self._written += sum([len(each.blob) for each in segments]) + _PAGES * PAGE_BYTES
        if self._written >= self._wal_bytes:
            self._written = 0
            self._tidier.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        with self._busy:
            try:
                if not self._refusal:
                    self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                self._failed(error)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("PRAGMA temp_store = MEMORY")  # else each commit makes and removes a file, to undo one statement
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {4 * WAL_BYTES}")
        prepare(db, path)
        db.executescript(APPENDING)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def _claim(db: sqlite3.Connection, partition: int, next_seq: int, done: int) -> Claim:
    pending: list[Entry] = []
    for start, *_ in db.execute(HOLDING, (partition, done + 1)).fetchall() if done + 1 < next_seq else ():
        rows = db.execute(
            "SELECT first_seq, blob FROM segment WHERE position >= ? AND partition = ? ORDER BY position",
            (start, partition),
        )
        pending += [each for first, blob in rows for each in entries_of(partition, first, blob) if each.seq > done]
    place = (partition, done)
    held = db.execute('SELECT * FROM held WHERE partition = ? ORDER BY seq, "index"', (partition,)).fetchall()
    settled = db.execute('SELECT seq, "index" FROM exceptions WHERE partition = ? AND seq > ?', place).fetchall()
    return Claim(partition, next_seq, done, pending, [Held(*each) for each in held], frozenset(settled))
