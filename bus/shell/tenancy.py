"""What the worker owns: leases of the store, and what a claim must read before anything is decided.

A worker consumes only what it leases, and the leases say who consumes; the epochs, which `Store.claim` raises, say who
may write. The two are apart on purpose: a lease that has run out without its owner noticing costs repeats, never a
write. Everything here but `current` and `expired` runs on the store's thread.

Taking over and giving up are one thing: whenever the share of partitions changes, or the partitions themselves, the
worker finishes what it has committed, lets go of its connection and begins anew with what it owns then.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bus.core.errors import StoreFailed
from bus.core.ingress import Ingress, drained
from bus.core.route import Catalog
from bus.ports import Claim, Entry, Held, Share, Store
from bus.shell.inbox import Elders

_log = logging.getLogger(__name__)

TTL_S = 3.0  # a dead worker's partitions are free after it; short against people, long against a slow commit
RENEW_S = 1.0  # so that two renewals may be late
STANDBY_S = 0.5  # how often a worker without a partition looks for one: takeover is TTL_S and this at most


Begin: TypeAlias = Callable[
    [Sequence[Claim], Iterable[tuple[int, int, bytes]], Elders | None, Collection[int], Collection[int]], None
]
"""Told of claims and, as a stream, of the identities that the store remembers of them; of the identities that earlier
generations hold, while a later one has no full window of its own; of the partitions that are retired; and of those
whose generation has followed on another."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim read from the store.

    Args:
        ingress: what partitions there are; read after the lease was had.
        claims: those that the worker works on, retired ones included; none makes a standby.
        held: each held row with the entry it lies in.
    """

    ingress: Ingress
    claims: Sequence[Claim] = ()
    held: Sequence[tuple[Held, Entry]] = ()

    @property
    def to_drain(self) -> frozenset[int]:
        """Partitions that the next generation waits for, of those that the worker works on."""
        return frozenset(each.partition for each in self.claims) & frozenset(self.ingress.left)


@dataclass(slots=True)
class Layout:
    """What is known of the ingress, and what the last connection has declared of it.

    Args:
        known: as the store said last.
        catalog: the configuration whose queues are declared, once it is another than at the start.
        declared: sizes of the generations; () where somebody else declares everything.
    """

    known: Ingress = field(default_factory=Ingress)
    catalog: Catalog | None = None
    declared: tuple[int, ...] = ()

    def declaring(self) -> Ingress:
        """Note that what is known is being declared."""
        self.declared = self.known.sizes
        return self.known


class Tenancy:
    """Args:
    store: where leases and epochs are kept.
    worker: name of this worker, which no other has or had.
    partitions: how many a namespace gets that has none yet.
    window: identities to read per partition.
    monotonic: seconds; what counts how long a lease is good for, from before it was asked for.
    layout: is told what the store says.
    alive: told, whenever a lease is looked after, that this is no stall.

    Attributes:
        owned: slots that are this worker's: see bus.core.ingress.
        broken: the lease has run out since it was taken, for however short, or the ingress has changed.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        partitions: int,
        window: int,
        monotonic: Callable[[], float],
        layout: Layout,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._worker = worker
        self._partitions = partitions
        self._window = window
        self._monotonic = monotonic
        self._alive = alive
        self._until = 0.0
        self._taken = Ingress()
        self.owned: frozenset[int] = frozenset()
        self.layout = layout
        self.broken = False

    def take(self, reach: Callable[[str], None], begin: Begin) -> Taken:
        """Lease, give back what others should have, and claim the rest.

        Args:
            reach: passes the failpoint `during-claim`.
            begin: told of what is claimed, if anything is.

        Raises:
            StoreFailed: the store cannot be reached or read.
        """
        self.owned = frozenset()
        ingress, share = self._leased()
        if share.surplus:
            self._store.release(self._worker, share.surplus)
        mine = share.owned - share.surplus
        if not mine:
            return Taken(ingress)
        claims = self._store.claim(sum(ingress.sizes), ingress.attended(mine))
        reach("during-claim")
        young = any(each.partition in ingress.served.partitions and each.next_seq <= self._window for each in claims)
        elders = self._elders(ingress) if young and ingress.serving else None
        # A retired partition decides nothing; only the first one goes on recording what the broker gives up on.
        retired = {each.partition for each in claims if ingress.retired(each.partition)}
        known = [each.partition for each in claims if each.partition == 0 or each.partition not in retired]
        grown = [each.partition for each in claims if ingress.serving and each.partition in ingress.served.partitions]
        begin(claims, self._renewing(self._store.keys(self._window, known)), elders, retired, grown)
        held = [(row, self._store.entry(row.partition, row.seq)) for claim in claims for row in claim.held]
        # Reading may have taken long, and whoever leads the ingress must not act on old news: see bus.shell.entry.
        self.broken = self.broken or not _alike(self._read(), ingress)
        self.owned = mine
        return Taken(ingress, claims, held)

    def _leased(self) -> tuple[Ingress, Share]:
        """Lease slots of the generation that is served. What is known of it is known after the lease was had: see
        bus.shell.entry for why."""
        self.broken = False
        ingress = self._read()
        while True:
            share = self._lease()
            read = self._read()
            if _alike(read, ingress):
                self._taken = read
                return read, share
            ingress = read

    def _read(self) -> Ingress:
        ingress = self._store.ingress()
        while not ingress.sizes:
            self._store.set_ingress(ingress, Ingress((self._partitions,)))
            ingress = self._store.ingress()
        self.layout.known = ingress
        return ingress

    def _elders(self, ingress: Ingress) -> Elders:
        """Read the identities of the generations before, newest first, until one has as many as a window holds."""
        elders = Elders(self._store, self._window)
        for generation in reversed(ingress.generations[: ingress.serving]):
            before = len(elders)
            elders.remember(self._renewing(self._store.keys(self._window, generation.partitions)))
            if len(elders) - before >= self._window * generation.size:
                break
        return elders

    def _renewing(self, keys: Iterable[tuple[int, int, bytes]]) -> Iterable[tuple[int, int, bytes]]:
        """Reading a million identities takes longer than a lease lasts."""
        for key in keys:
            self.keep()
            yield key

    def keep(self) -> None:
        """Renew if it is time, in the middle of what takes longer on the store's thread than a lease lasts."""
        self._alive()
        now = self._monotonic()
        if now > self._until - TTL_S + RENEW_S:
            self.broken = self.broken or now > self._until
            self._lease()

    def renew(self) -> bool:
        """Renew; returns whether this worker should go on with just what it owns."""
        share, read = self._lease(), self._read()
        return _alike(read, self._taken) and share.owned - share.surplus == self.owned

    def drained(self, partitions: Collection[int]) -> None:
        """Note in the store that these have nothing left."""
        while True:
            before = self._read()
            if self._store.set_ingress(before, drained(before, partitions)):
                self._read()
                return

    def _lease(self) -> Share:
        asked = self._monotonic()
        share = self._store.lease(self._worker, self.layout.known.served.size, TTL_S)
        if share.exclusive:
            self._until = math.inf
        else:
            self._until = asked + TTL_S if self.owned <= share.owned else 0.0
        return share

    @property
    def expired(self) -> bool:
        """Whether somebody else may own by now what we think we own."""
        return self._monotonic() > self._until

    def leave(self) -> None:
        """Give everything back, so that others need not wait for it to run out."""
        try:
            self._store.release(self._worker)
        except StoreFailed as error:
            _log.warning("leases are not given back, they run out in %g s: %s", TTL_S, error)


def _alike(one: Ingress, other: Ingress) -> bool:
    """Whether the same partitions are worked on, and the same are led to."""
    return (one.sizes, one.serving) == (other.sizes, other.serving)
