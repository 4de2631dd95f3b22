"""What the worker owns: leases of the store, and what a claim must read before anything is decided.

A worker consumes only what it leases, and the leases say who consumes; the epochs, which `Store.claim` raises, say who
may write. The two are apart on purpose: a lease that has run out without its owner noticing costs repeats, never a
write. Everything here but `current` and `expired` runs on the store's thread.

Taking over and giving up are one thing: whenever the share of partitions changes, the worker finishes what it has
committed, lets go of its connection and begins anew with what it owns then.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bus.core.errors import StoreFailed
from bus.ports import Claim, Entry, Held, Share, Store

_log = logging.getLogger(__name__)

TTL_S = 3.0  # a dead worker's partitions are free after it; short against people, long against a slow commit
RENEW_S = 1.0  # so that two renewals may be late
STANDBY_S = 0.5  # how often a worker without a partition looks for one: takeover is TTL_S and this at most


Begin: TypeAlias = Callable[[Sequence[Claim], Iterable[tuple[int, int, bytes]]], None]
"""Told of claims and, as a stream, of the identities that the store remembers of them."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim read from the store: `held` pairs each held row with the entry it lies in."""

    claims: Sequence[Claim]
    held: Sequence[tuple[Held, Entry]]


class Tenancy:
    """Args:
    store: where leases and epochs are kept.
    worker: name of this worker, which no other has or had.
    of: how many partitions there are.
    window: identities to read per partition.
    monotonic: seconds; what counts how long a lease is good for, from before it was asked for.
    alive: told, whenever a lease is looked after, that this is no stall.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        of: int,
        window: int,
        monotonic: Callable[[], float],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._worker = worker
        self._of = of
        self._window = window
        self._monotonic = monotonic
        self._alive = alive
        self._until = 0.0
        self.owned: frozenset[int] = frozenset()

    def take(self, reach: Callable[[str], None], begin: Begin) -> Taken:
        """Lease, give back what others should have, and claim the rest.

        Args:
            reach: passes the failpoint `during-claim`.
            begin: told of what is claimed, if anything is.

        Raises:
            StoreFailed: the store cannot be reached or read.
        """
        self.owned = frozenset()
        share = self._lease()
        if share.surplus:
            self._store.release(self._worker, share.surplus)
        mine = share.owned - share.surplus
        if not mine:
            return Taken((), ())
        claims = self._store.claim(self._of, mine)
        reach("during-claim")
        begin(claims, self._renewing(self._store.keys(self._window)))
        held = [(row, self._store.entry(row.partition, row.seq)) for claim in claims for row in claim.held]
        self.owned = mine
        return Taken(claims, held)

    def _renewing(self, keys: Iterable[tuple[int, int, bytes]]) -> Iterable[tuple[int, int, bytes]]:
        """Reading a million identities takes longer than a lease lasts."""
        for key in keys:
            self.keep()
            yield key

    def keep(self) -> None:
        """Renew if it is time, in the middle of what takes longer on the store's thread than a lease lasts."""
        self._alive()
        if self._monotonic() > self._until - TTL_S + RENEW_S:
            self._lease()

    def renew(self) -> bool:
        """Renew; returns whether this worker should go on with just what it owns."""
        share = self._lease()
        return share.owned - share.surplus == self.owned

    def _lease(self) -> Share:
        asked = self._monotonic()
        share = self._store.lease(self._worker, self._of, TTL_S)
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
