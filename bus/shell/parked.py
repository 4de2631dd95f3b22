"""Messages that wait for routes which are paused, as their partition's owner knows them: see bus.core.parking.

They are let go in the order in which they came, before anything that comes later: while one of a route waits in a
partition, later ones of that route wait behind it, though it is paused no more. Used on the store's thread.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable

from bus.core.parking import route_of

SUSPECTS = 512  # of each route, as many as one commit lets go


class Parked:
    """Keys of what is remembered of them, by partition and route."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, str], deque[str]] = {}
        self._old: set[tuple[int, str]] = set()

    def load(self, partition: int, keys: Iterable[str]) -> None:
        """Begin with what the store holds of a partition that was claimed.

        What was to go next may be what has ended the process before: no broker counts how often it was tried.
        """
        first: Counter[str] = Counter()
        for key in sorted(keys, key=lambda each: each.rpartition(":")[2]):
            self.add(partition, key)
            first[route_of(key)] += 1
            if first[route_of(key)] <= SUSPECTS:
                self._old.add((partition, key))

    def add(self, partition: int, key: str) -> None:
        """One more waits."""
        self._keys.setdefault((partition, route_of(key)), deque()).append(key)

    def paused(self, partition: int) -> frozenset[str]:
        """Routes for which messages wait in a partition, as `Facts.paused` has them."""
        return frozenset([f"route:{route}" for where, route in self._keys if where == partition])

    def ready(self, paused: Collection[str], closed: Collection[int] = ()) -> bool:
        """Whether any may go, when these routes are paused, and none may in these partitions."""
        return any(f"route:{route}" not in paused and where not in closed for where, route in self._keys)

    def take(self, paused: Collection[str], most: int, closed: Collection[int] = ()) -> list[tuple[int, str, bool]]:
        """Take out some that may go, in order for each route: partition, key, whether it may have ended a process."""
        found: list[tuple[int, str, bool]] = []
        for place, keys in list(self._keys.items()):
            while place[0] not in closed and keys and len(found) < most and f"route:{place[1]}" not in paused:
                key = keys.popleft()
                found.append((place[0], key, (place[0], key) in self._old))
                self._old.discard((place[0], key))
            if not keys:
                del self._keys[place]
        return found
