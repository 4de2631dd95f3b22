"""A store in memory, for the route tester and unit tests: the same contract, nothing on disk, no randomness.

It keeps what the real one would keep, packed the same way, so nothing that was committed is shared with the caller.
`reopen` stands for a crash and a new start: the log survives, the old instance is fenced by the new one's claim.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from bus.core.errors import StoreDown, StoreFailed
from bus.core.ingress import Ingress
from bus.ports import Claim, Commit, Entry, Excepted, Held, Share, State
from bus.shell.lease_rules import Leases, leased, released
from bus.shell.store_rules import Segment, advance, bucket_of, entries_of, fenced, moves_of, segments_of, unfinished

_Place = tuple[int, int, int]


@dataclass(slots=True)
class _Partition:
    epoch: int = 0
    next_seq: int = 1
    done: int = 0
    log: list[Segment] = field(default_factory=list)
    inbox: dict[int, dict[bytes, tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(dict))


@dataclass(slots=True)
class _Disk:
    """What survives a crash."""

    partitions: dict[int, _Partition] = field(default_factory=dict)
    held: dict[_Place, Held] = field(default_factory=dict)
    exceptions: dict[_Place, Excepted] = field(default_factory=dict)
    states: dict[tuple[int, str], State] = field(default_factory=dict)
    leases: Leases = field(default_factory=Leases)
    ingress: Ingress = field(default_factory=Ingress)
    configurations: dict[str, bytes] = field(default_factory=dict)


class MemoryStore:
    """The `bus.ports.Store` in memory.

    Args:
        store_id: 32 hex digits.
        secret: 32 bytes.
        clock: what leases run out by, seconds.

    Attributes:
        refusal: while it is not empty every commit fails with it, and the store is of no more use.
        full: while it is not empty every commit fails with it, like a full disk, and so does every claim after one.
        down: while it is not empty everything fails with it, like a database that cannot be reached.
    """

    def __init__(
        self, store_id: str = "0" * 32, secret: bytes = bytes(32), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store_id = store_id
        self._secret = secret
        self._clock = clock
        self._disk = _Disk()
        self._epochs: dict[int, int] = {}
        self._closed = False
        self._turned_away = False
        self.refusal = ""
        self.full = ""
        self.down = ""

    @property
    def store_id(self) -> str:
        """Identity of this store."""
        return self._store_id

    @property
    def secret(self) -> bytes:
        """Key that seals return addresses."""
        return self._secret

    def reopen(self) -> MemoryStore:
        """Open what was committed anew, as another process would, after a crash of this one or beside it."""
        other = MemoryStore(self._store_id, self._secret, self._clock)
        other._disk = self._disk
        return other

    def ingress(self) -> Ingress:
        """Read what partitions there are."""
        self._usable()
        return self._disk.ingress

    def set_ingress(self, before: Ingress, after: Ingress) -> bool:
        """Replace it if it still is `before`; returns whether it was."""
        self._usable()
        if self._disk.ingress != before:
            return False
        self._disk.ingress = after
        return True

    def lease(self, worker: str, of: int, ttl_s: float) -> Share:
        """Renew this worker's leases, take free slots up to its fair share, and say what it may own."""
        self._usable()
        self._disk.leases, share = leased(self._disk.leases, worker, of, self._clock(), ttl_s)
        return share

    def release(self, worker: str, slots: Collection[int] | None = None) -> None:
        """Give leases back at once; None gives back all and takes the worker off the list."""
        self._usable()
        self._disk.leases = released(self._disk.leases, worker, slots)

    def claim(self, of: int, partitions: Collection[int] | None = None) -> Sequence[Claim]:
        """Take these partitions, or all of 0..of-1, so that older owners can write nothing."""
        self._usable()
        if self._turned_away and self.full:
            raise StoreDown(self.full)
        self._turned_away = False
        disk = self._disk
        busy = {number for number, each in disk.partitions.items() if each.done < each.next_seq - 1}
        remembering = {partition for partition, _ in disk.states}
        beyond = max(busy | remembering | {place[0] for place in disk.held}, default=-1)
        if beyond >= of:
            raise unfinished(beyond, of)
        claims = []
        self._epochs.clear()
        for number in sorted(range(of) if partitions is None else partitions):
            partition = disk.partitions.setdefault(number, _Partition())
            partition.epoch += 1
            self._epochs[number] = partition.epoch
            claims.append(self._claim(number, partition))
        return claims

    def _claim(self, number: int, partition: _Partition) -> Claim:
        done = partition.done
        late = [each for each in partition.log if each.first_seq + each.count > done + 1]
        pending = [e for each in late for e in entries_of(number, each.first_seq, each.blob) if e.seq > done]
        held = [each for place, each in sorted(self._disk.held.items()) if place[0] == number]
        settled = frozenset([place[1:] for place in self._disk.exceptions if place[0] == number and place[1] > done])
        return Claim(number, partition.next_seq, done, pending, held, settled)

    def unfinished(self) -> bool:
        """Whether a claim would find anything to replay or to try again."""
        return bool(self._disk.held) or any(e.done < e.next_seq - 1 for e in self._disk.partitions.values())

    def commit(self, batch: Commit) -> None:
        """Write it all or nothing.

        Raises:
            StoreDown: nothing was written; claim again.
            StoreFailed: nothing of the batch may be published.
        """
        self._usable()
        if self.refusal:
            raise StoreFailed(self.refusal)
        if self.full:
            self._turned_away = True
            raise StoreDown(self.full)
        segments, moves = segments_of(batch), moves_of(batch)
        moved = []
        for move in moves:
            partition = self._owned(move.partition)
            moved.append((partition, advance(move, partition.next_seq, partition.done)))
        self._insert_keys(batch)
        for partition, place in moved:
            partition.next_seq, partition.done = place
        for each in segments:
            self._disk.partitions[each.partition].log.append(each)
        for gone in batch.release:
            self._disk.held.pop((gone.partition, gone.seq, gone.index), None)
        self._disk.held.update({(h.partition, h.seq, h.index): h for h in batch.hold})
        for each_state in batch.states:
            if each_state.body is None:
                self._disk.states.pop((each_state.partition, each_state.key), None)
            else:
                self._disk.states[each_state.partition, each_state.key] = each_state
        self._disk.exceptions.update({(e.partition, e.seq, e.index): e for e in batch.exceptions})

    def _insert_keys(self, batch: Commit) -> None:
        rows: dict[tuple[int, int, bytes], tuple[int, bytes]] = {}
        for number, entries in batch.entries.items():
            for entry in entries:
                if entry.inbox is not None:
                    bucket, key = bucket_of(entry.seq), entry.inbox.key
                    if (number, bucket, key) in rows or key in self._disk.partitions[number].inbox[bucket]:
                        what = f"input {entry.seq} of partition {number} is known already"
                        raise StoreFailed(f"{what}; nothing was written")
                    rows[number, bucket, key] = (entry.seq, entry.inbox.content)
        for (number, bucket, key), row in rows.items():
            self._disk.partitions[number].inbox[bucket][key] = row

    def keys(self, newest: int, partitions: Collection[int] | None = None) -> Iterable[tuple[int, int, bytes]]:
        """Yield (partition, bucket, key) of the newest inbox keys, at most `newest` per partition, oldest first."""
        self._usable()
        wanted = self._epochs if partitions is None else partitions
        for number, partition in sorted(self._disk.partitions.items()):
            if number not in wanted:
                continue
            rows = sorted([(seq, key) for keys in partition.inbox.values() for key, (seq, _) in keys.items()])
            for seq, key in rows[max(len(rows) - newest, 0) :]:
                yield number, bucket_of(seq), key

    def seen(self, partition: int, bucket: int, key: bytes) -> tuple[int, bytes] | None:
        """Return (seq, content) of an inbox key, or None."""
        self._usable()
        known = self._disk.partitions.get(partition)
        return known.inbox.get(bucket, {}).get(key) if known else None

    def entry(self, partition: int, seq: int) -> Entry:
        """Read one entry back.

        Raises:
            KeyError: there is none.
        """
        self._usable()
        for each in self._disk.partitions[partition].log:
            if each.first_seq <= seq < each.first_seq + each.count:
                return entries_of(partition, each.first_seq, each.blob)[seq - each.first_seq]
        raise KeyError((partition, seq))

    def states(self, partition: int) -> Sequence[tuple[str, float | None]]:
        """Return (key, due) of all that a partition remembers."""
        self._usable()
        return [(each.key, each.due_s) for each in self._disk.states.values() if each.partition == partition]

    def recall(self, partition: int, key: str) -> bytes | None:
        """Return what a partition remembers under a key, or None."""
        self._usable()
        found = self._disk.states.get((partition, key))
        return None if found is None else found.body

    def keep_configuration(self, version: str, bundle: bytes) -> None:
        """Keep what makes a configuration, as the one kept last."""
        self._usable()
        self._disk.configurations.pop(version, None)
        self._disk.configurations[version] = bundle

    def configuration(self, version: str) -> bytes | None:
        """Return what was kept of a configuration, or None."""
        self._usable()
        return self._disk.configurations.get(version)

    def versions(self) -> Collection[str]:
        """Return the configurations that something which is remembered needs."""
        self._usable()
        return {each.version for each in self._disk.states.values() if each.version is not None}

    def drop_configurations(self, newest: int) -> int:
        """Forget configurations that nothing remembered needs, but for those kept last; returns how many."""
        kept = {*self.versions(), *list(self._disk.configurations)[max(0, len(self._disk.configurations) - newest) :]}
        gone = [version for version in self._disk.configurations if version not in kept]
        for version in gone:
            del self._disk.configurations[version]
        return len(gone)

    def prune(self, keep: int) -> int:
        """Forget inbox keys but the newest `keep` per partition, in whole buckets; returns how many were dropped."""
        self._usable()
        dropped = 0
        for number in sorted(self._epochs):
            inbox, kept = self._owned(number).inbox, 0
            for bucket in sorted(inbox, reverse=True):
                if kept >= keep:
                    dropped += len(inbox.pop(bucket))
                else:
                    kept += len(inbox[bucket])
        return dropped

    def close(self) -> None:
        """Let go; what was committed stays for `reopen`."""
        self._closed = True

    def _owned(self, number: int) -> _Partition:
        partition = self._disk.partitions.get(number)
        if partition is None or partition.epoch != self._epochs.get(number):
            raise fenced(number)
        return partition

    def _usable(self) -> None:
        if self._closed:
            raise StoreFailed("the store is closed")
        if self.down:
            raise StoreDown(self.down)
