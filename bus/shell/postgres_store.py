"""The store for several workers, machines or roles: tables in PostgreSQL, one schema a namespace.

Theory of operation. The layout is that of `sqlite_store`: one blob per partition and commit in `segment`, identities
in `inbox` by bucket, owners and watermarks in `partition`, everything above `done` replayed by the next claim. What
must be atomic is one statement (see `postgres_statements`), so there are no transactions that a paused client could
leave open, and a commit is one round trip.

Failures. Whatever ends a connection, and whatever the server refuses for now (read-only, full, restarting, locked), is
`StoreDown`: the connection is dropped, and everything but `claim`, `lease` and `release` is refused until a claim has
succeeded on a new one. A commit that was cut off may have been written: the server goes on with it, holding the
partition's row, and the claim waits for that row; so what the claim returns is the truth.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg

from bus.core.errors import StoreDown, StoreFailed
from bus.core.ingress import Ingress, as_json, from_json
from bus.ports import Claim, Commit, Entry, Held, Share
from bus.shell import postgres_statements as statements
from bus.shell.lease_rules import Leases, leased, released
from bus.shell.postgres_arrays import Bigints
from bus.shell.postgres_columns import columns_of
from bus.shell.postgres_link import TIMEOUT_S, Link, connect, explained, shown
from bus.shell.postgres_schema import FORMAT, prepare, text, version
from bus.shell.store_rules import (
    advance,
    bucket_id,
    bucket_in,
    entries_of,
    fenced,
    moves_of,
    segments_of,
    unfinished,
)

_BUCKETS = 64  # buckets read or deleted by one statement: 65,536 keys, tens of milliseconds
_ROOM_BYTES = 32 << 10  # some pages of every table
_MIGRATION_S = 600.0  # tables may be large, and another worker may be at it already
_LEASE_TRIES = 50  # each try is lost only to another worker that has won; they lease once a second


class PostgresStore:
    """The `bus.ports.Store` in PostgreSQL. Makes the tables when there are none.

    Args:
        url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters.
        namespace: of the bus; the PostgreSQL schema of the same name holds its tables.
        timeout_s: longest that a statement may take, and a connection may be silent.

    Raises:
        StoreDown: the database cannot be reached.
        StoreFailed: it is of no use as a store: wrong tables, wrong version, missing rights, `fsync = off`.
    """

    _lock = statements.LOCK

    def __init__(self, url: str, namespace: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._closed = False
        self._down = ""
        self._room = 0  # bytes of a commit that failed
        self._epochs: dict[int, int] = {}
        self._db: Link | None = None
        self._id, self._secret = "", b""
        try:
            with self._explained():
                self._db = connect(url, namespace, timeout_s=timeout_s)
                if version(self._db, namespace) != FORMAT:
                    usual, self._db.answer_s = self._db.answer_s, _MIGRATION_S
                    prepare(self._db, namespace)
                    self._db.answer_s = usual
                self._id, self._secret = _identity(self._db)
        except BaseException:
            self._drop()
            raise

    @property
    def store_id(self) -> str:
        """Identity of this store: 32 hex digits."""
        return self._id

    @property
    def secret(self) -> bytes:
        """Key that seals return addresses: 32 bytes."""
        return self._secret

    def ingress(self) -> Ingress:
        """Read what partitions there are.

        Raises:
            StoreDown: the database cannot be reached.
        """
        with self._explained():
            row = self._connected().execute(statements.INGRESS).fetchone()
        if row is None:
            raise StoreFailed(f"{shown(self._url)} has lost its row of `ingress`; restore it from a copy")
        return from_json(row[0])

    def set_ingress(self, before: Ingress, after: Ingress) -> bool:
        """Replace it if it still is `before`; returns whether it was.

        Raises:
            StoreDown: the database cannot be reached; the outcome may be unknown.
        """
        old = orjson.dumps(as_json(before) if before.sizes else {}).decode()
        new = orjson.dumps(as_json(after)).decode()
        with self._explained():
            return self._connected().execute(statements.SET_INGRESS, (new, old)).fetchone() is not None

    def lease(self, worker: str, of: int, ttl_s: float) -> Share:
        """Renew this worker's leases, take free slots up to its fair share, and say what it may own.

        The lease lasts `ttl_s` by the database's clock, from a moment after this was called: whoever counts from
        before the call is safe. `worker` is a name that no other process has or had.

        Raises:
            StoreDown: the database cannot be reached.
        """
        share = Share(frozenset())

        def renew(state: Leases, now_s: float) -> Leases:
            nonlocal share
            state, share = leased(state, worker, of, now_s, ttl_s)
            return state

        self._change_leases(renew)
        return share

    def release(self, worker: str, slots: Collection[int] | None = None) -> None:
        """Give leases back at once; None gives back all and takes the worker off the list.

        Raises:
            StoreDown: the database cannot be reached; the leases run out by themselves.
        """
        self._change_leases(lambda state, now_s: released(state, worker, slots))

    def _change_leases(self, change: Callable[[Leases, float], Leases]) -> None:
        """Compare and set: no lock is held between reading and writing, so a paused worker holds up nobody."""
        for attempt in range(_LEASE_TRIES):
            with self._explained():
                db = self._connected()
                row = db.execute(statements.LEASES).fetchone()
                if row is None:
                    raise StoreFailed(f"{shown(self._url)} has lost its row of leases; restore it from a copy")
                version, workers, owners, now_s = row
                state = change(Leases(workers, {int(each): name for each, name in owners.items()}), now_s)
                after = (orjson.dumps(dict(state.workers)).decode(), _by_partition(state.owners), version)
                if db.execute(statements.SET_LEASES, after).fetchone():
                    return
            time.sleep(random.uniform(0, 0.002 * (attempt + 1)))
        raise self._is_down("its leases change too fast to renew one")

    def claim(self, of: int, partitions: Collection[int] | None = None) -> Sequence[Claim]:
        """Take these partitions, or all of 0..of-1, so that older owners can write nothing. Connects anew when needed.

        Raises:
            StoreDown: the database cannot be reached or written for now.
            StoreFailed: the store cannot be read, or a partition from `of` on has unfinished work.
        """
        wanted = sorted(range(of) if partitions is None else set(partitions))
        with self._explained():
            db = self._connected()
            if self._room:
                db.execute(statements.ROOM.format(size=self._room).encode())
                self._room = 0
            rows = db.execute(statements.CLAIM, {"of": of, "partitions": wanted}).fetchall()
            if rows[0][0] is not None:
                raise unfinished(rows[0][0], of)
            rows = [each[1:] for each in rows if each[1] is not None]
            claims = [_claim(db, partition, next_seq, done) for partition, _, next_seq, done in rows]
        self._epochs = {partition: epoch for partition, epoch, _, _ in rows}
        self._down = ""
        return claims

    def commit(self, batch: Commit) -> None:
        """Write it all or nothing; durable when this returns.

        Raises:
            Fenced: a partition of the batch has another owner.
            StoreDown: the outcome may be unknown: claim again and read.
            StoreFailed: nothing was written.
        """
        segments, moves = segments_of(batch), moves_of(batch)
        if not moves:
            return
        values: list[object] = [
            Bigints([move.partition for move in moves]),
            Bigints([self._epochs.get(move.partition, -1) for move in moves]),
            Bigints([move.first or 0 for move in moves]),
            Bigints([move.after for move in moves]),
            Bigints([-1 if move.done is None else move.done for move in moves]),
        ]
        parts = []
        for part, columns in columns_of(batch, segments):
            parts.append(part)
            values += columns
        try:
            rows = self._run(statements.commit(tuple(parts), self._lock), values)
        except StoreDown:
            self._room = max(_ROOM_BYTES, sum([len(each.blob) for each in segments]))
            raise
        if rows[0][0] is True:
            return
        found = {partition: (next_seq, done) for _, partition, next_seq, done in rows}
        for move in moves:
            if move.partition not in found:
                raise fenced(move.partition)
            advance(move, *found[move.partition])
        raise StoreFailed(f"{shown(self._url)} refused a commit that is in order; nothing was written")

    def keys(self, newest: int, partitions: Collection[int] | None = None) -> Iterable[tuple[int, int, bytes]]:
        """Yield (partition, bucket, key) of the newest inbox keys, at most `newest` per partition, oldest first."""
        for partition in sorted(self._epochs if partitions is None else partitions):
            start, surplus = self._window(partition, newest)
            stop = bucket_id(partition + 1, 0)
            last = self._run(b"SELECT max(bucket) FROM inbox WHERE bucket >= %s AND bucket < %s", (start, stop))[0][0]
            for at in range(start, start if last is None else last + 1, _BUCKETS):
                rows = self._run(statements.KEYS, (at, min(at + _BUCKETS, stop)))
                for bucket, key in rows[surplus:]:
                    yield partition, bucket_in(bucket), key
                surplus = 0

    def seen(self, partition: int, bucket: int, key: bytes) -> tuple[int, bytes] | None:
        """Return (seq, content) of an inbox key, or None."""
        rows = self._run(statements.SEEN, (bucket_id(partition, bucket), key))
        return (rows[0][0], rows[0][1]) if rows else None

    def entry(self, partition: int, seq: int) -> Entry:
        """Read one entry back.

        Raises:
            KeyError: there is none.
            StoreFailed: the log is damaged there.
        """
        rows = self._run(statements.ENTRY, (partition, seq))
        if not rows or seq >= rows[0][0] + rows[0][1]:
            raise KeyError((partition, seq))
        first_seq = int(rows[0][0])
        return entries_of(partition, first_seq, rows[0][2])[seq - first_seq]

    def states(self, partition: int) -> Sequence[tuple[str, float | None]]:
        """Return (key, due) of all that a partition remembers."""
        return self._run(statements.STATES, (partition,))

    def recall(self, partition: int, key: str) -> bytes | None:
        """Return what a partition remembers under a key, or None."""
        rows = self._run(statements.RECALL, (partition, key))
        return bytes(rows[0][0]) if rows else None

    def keep_configuration(self, version: str, bundle: bytes) -> None:
        """Keep what makes a configuration, as the one kept last."""
        with self._explained():
            where = {"version": version, "bundle": bundle}
            self._connected().execute(statements.KEEP_CONFIGURATION, where)

    def configuration(self, version: str) -> bytes | None:
        """Return what was kept of a configuration, or None."""
        rows = self._run(statements.CONFIGURATION, (version,))
        return bytes(rows[0][0]) if rows else None

    def versions(self) -> Collection[str]:
        """Return the configurations that something which is remembered needs."""
        return [version for (version,) in self._run(statements.VERSIONS, ())]

    def drop_configurations(self, newest: int) -> int:
        """Forget configurations that nothing remembered needs, but for those kept last; returns how many."""
        return int(self._run(statements.DROP_CONFIGURATIONS, (newest,))[0][0])

    def prune(self, keep: int) -> int:
        """Forget inbox keys but the newest `keep` per partition, in whole buckets; returns how many were dropped."""
        dropped = 0
        for partition, epoch in sorted(self._epochs.items()):
            stop, _ = self._window(partition, keep)
            first = bucket_id(partition, 0)
            oldest = self._run(b"SELECT min(bucket) FROM inbox WHERE bucket >= %s", (first,))[0][0]
            at = stop if oldest is None else oldest
            while True:
                upto = min(at + _BUCKETS, stop)
                where = {"partition": partition, "epoch": epoch, "first": at, "stop": upto}
                owned, gone = self._run(statements.PRUNE, where)[0]
                if not owned:
                    raise fenced(partition)
                dropped, at = dropped + gone, upto
                if at >= stop:
                    break
        return dropped

    def close(self) -> None:
        """Let go; what was committed is durable already."""
        self._closed = True
        self._drop()

    def _window(self, partition: int, newest: int) -> tuple[int, int]:
        """Find the newest keys: the bucket where they begin, and how many older ones stand there before them."""
        start = stop = bucket_id(partition + 1, 0)
        found = 0
        for bucket, count in self._run(statements.BUCKETS, (bucket_id(partition, 0), stop)):
            if found >= newest:
                break
            start, found = bucket, found + count
        return start, max(found - newest, 0)

    def _run(self, statement: bytes, values: Sequence[object] | Mapping[str, object]) -> list[Any]:
        """Run a statement of the owner's."""
        with self._explained():
            if self._down:
                raise StoreDown(f"{self._down}; the store must be claimed again first")
            return self._connected().execute(statement, values, prepare=True, binary=True).fetchall()

    def _connected(self) -> Link:
        if self._closed:
            raise StoreFailed(f"{shown(self._url)} is closed")
        if self._db is None:
            self._db = connect(self._url, self._namespace, timeout_s=self._timeout_s)
            found, _ = _identity(self._db)
            if found != self._id:
                self._drop()
                raise StoreFailed(
                    f"store {found} answers at {shown(self._url)} where {self._id} did; look at where its name leads to"
                )
        return self._db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            known = explained(error, self._url)
            if isinstance(known, StoreDown):
                self._down = str(known)
                self._drop()
            raise known from error
        except StoreDown as error:
            self._down = self._down or str(error)
            self._drop()
            raise
        except (UnicodeError, OverflowError) as error:
            raise StoreFailed(f"{shown(self._url)} cannot hold this value: {error}; nothing was written") from error

    def _is_down(self, what: str) -> StoreDown:
        self._down = f"{shown(self._url)} is down: {what}"
        self._drop()
        return StoreDown(self._down)

    def _drop(self) -> None:
        """Drop the connection; what was claimed on it stays ours until somebody else claims it."""
        if self._db is not None:
            self._db.close()
            self._db = None


def _identity(db: Link) -> tuple[str, bytes]:
    row = db.execute(statements.IDENTITY).fetchone()
    if row is None:
        raise StoreFailed("the store has no row in `meta`; restore the database from a copy")
    return str(row[0]), bytes(row[1])


def _claim(db: Link, partition: int, next_seq: int, done: int) -> Claim:
    pending: list[Entry] = []
    at = done + 1
    while at < next_seq:
        where = {"partition": partition, "next": next_seq, "from": at}
        rows = db.execute(statements.PENDING, where, binary=True).fetchall()
        pending += [each for first, _, blob in rows for each in entries_of(partition, first, blob) if each.seq >= at]
        after = rows[-1][0] + rows[-1][1] if rows else at
        if after <= at:
            raise StoreFailed(
                f"the log is damaged: partition {partition} has no entry {at} and should have {next_seq - 1}; "
                "restore the store from a copy"
            )
        at = after
    held = db.execute(statements.HELD, (partition,)).fetchall()
    settled = db.execute(statements.SETTLED, (partition, done)).fetchall()
    return Claim(partition, next_seq, done, pending, [_held(each) for each in held], frozenset(settled))


def _held(row: Sequence[Any]) -> Held:
    partition, seq, index, key, due_s, attempts, reason = row
    return Held(partition, seq, index, text(key), due_s, attempts, text(reason))


def _by_partition(owners: Mapping[int, str]) -> str:
    return orjson.dumps({str(each): name for each, name in owners.items()}).decode()
