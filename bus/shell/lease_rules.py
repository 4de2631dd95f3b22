"""Who owns which partition, as a value: leases are renewed, taken up to a fair share, and given back.

A worker's leases last until `until`, which each renewal moves on; after it they are free. Every worker computes the
same quotas from the same state: of `of` partitions and n living workers, the first `of % n` by what they hold (most
first, then by name) may hold one more than the others. Who is below takes what is free, up to that; who is above has a
surplus to give back when it is done there. So counts end up differing by one at most, and nothing is taken away from
a worker that lives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bus.ports import Share


@dataclass(frozen=True, slots=True)
class Leases:
    """Args:
    workers: until when each worker's leases last, seconds by the store's clock.
    owners: who leases each partition.
    """

    workers: Mapping[str, float] = field(default_factory=dict)
    owners: Mapping[int, str] = field(default_factory=dict)


def leased(state: Leases, worker: str, of: int, now_s: float, ttl_s: float) -> tuple[Leases, Share]:
    """Renew `worker`'s leases and take what is free, up to its quota.

    Args:
        of: partitions are 0..of-1; what the worker held beyond them is given back.
        now_s: the store's clock.
    """
    workers = {name: until for name, until in state.workers.items() if until > now_s}
    workers[worker] = now_s + ttl_s
    owners = {
        each: name for each, name in state.owners.items() if name in workers and not (name == worker and each >= of)
    }
    quota = _quota(workers, owners, worker, of)
    mine = sorted(each for each, name in owners.items() if name == worker)
    free = [each for each in range(of) if each not in owners]
    taken = free[: max(quota - len(mine), 0)]
    owners.update(dict.fromkeys(taken, worker))
    return Leases(workers, owners), Share(frozenset([*mine, *taken]), frozenset(mine[quota:]))


def released(state: Leases, worker: str, partitions: Collection[int] | None) -> Leases:
    """Free these partitions of `worker`'s; None frees all and forgets the worker."""
    gone = {
        each for each, name in state.owners.items() if name == worker and (partitions is None or each in partitions)
    }
    owners = {each: name for each, name in state.owners.items() if each not in gone}
    workers = {name: until for name, until in state.workers.items() if partitions is not None or name != worker}
    return Leases(workers, owners)


def _quota(workers: Mapping[str, float], owners: Mapping[int, str], worker: str, of: int) -> int:
    counts = dict.fromkeys(workers, 0)
    for partition, name in owners.items():
        if partition < of:
            counts[name] += 1
    least, more = divmod(of, len(counts))
    rank = sorted(counts, key=lambda name: (-counts[name], name)).index(worker)
    return least + (rank < more)
