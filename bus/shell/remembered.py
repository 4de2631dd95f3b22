"""What routes with memory remember, between the store and the deciding of a batch: see bus.core.instance.

A decision must see what the decisions before it in the same batch have changed, so changes are kept here from the
moment they are decided, and written with the commit. What was read or written of late stays in memory, bounded; the
times at which something is due are all known, from the claim on. Used on the store's thread. If a commit fails, the
tenure ends, and all of it is read anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from heapq import heapify, heappop, heappush

from bus.core.actions import Change
from bus.ports import State, Store

_KEPT_BYTES = 64 << 20  # of bodies in memory: some ten thousand runs
_OVERHEAD_BYTES = 300  # of one body in memory beside its bytes
_COMPACT_AT = 1024  # times in the heap beyond those that count before it is made anew

_Place = tuple[int, str]


class Remembered:
    """Args:
    store: where it is read from.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed: dict[_Place, State] = {}
        self._kept: OrderedDict[_Place, bytes | None] = OrderedDict()
        self._bytes = 0
        self._known: set[_Place] = set()
        self._due: dict[_Place, float] = {}
        self._times: list[tuple[float, _Place]] = []

    def __len__(self) -> int:
        return len(self._known)

    def load(self, partition: int) -> None:
        """Begin with what the store holds of a partition that was claimed."""
        for key, due_s in self._store.states(partition):
            self._known.add((partition, key))
            if due_s is not None:
                self._due[partition, key] = due_s
        self._times = [(due_s, place) for place, due_s in self._due.items()]
        heapify(self._times)

    def due_of(self, partition: int, key: str) -> float | None:
        """When what is remembered under a key wants to go on, or None."""
        return self._due.get((partition, key))

    def within(self, partitions: Collection[int]) -> frozenset[int]:
        """Those of the partitions that remember anything."""
        return frozenset([where for where, _ in self._known if where in partitions]) if partitions else frozenset()

    def keys(self, partition: int, prefix: str) -> list[str]:
        """The keys of a partition that begin so."""
        return [key for where, key in self._known if where == partition and key.startswith(prefix)]

    def recall(self, partition: int, key: str) -> bytes | None:
        """What is remembered under a key, after all that was decided so far."""
        place = partition, key
        if place not in self._known:
            return None
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        body = self._store.recall(partition, key)
        self._keep(place, body)
        return body

    def apply(self, partition: int, changes: Iterable[Change]) -> None:
        """Take in what a decision changes."""
        for key, body, due_s, version in changes:
            place = partition, key
            self._changed[place] = State(partition, key, body, due_s, version)
            self._keep(place, body)
            if body is None:
                self._known.discard(place)
            else:
                self._known.add(place)
            if body is None or due_s is None:
                self._due.pop(place, None)
            elif self._due.get(place) != due_s:
                self._due[place] = due_s
                heappush(self._times, (due_s, place))

    def _keep(self, place: _Place, body: bytes | None) -> None:
        before = self._kept.pop(place, None)
        self._bytes -= 0 if before is None else len(before) + _OVERHEAD_BYTES
        if body is None:
            return
        self._kept[place] = body
        self._bytes += len(body) + _OVERHEAD_BYTES
        while self._bytes > _KEPT_BYTES:
            oldest = next((each for each in self._kept if each not in self._changed), None)
            if oldest is None:
                return
            self._bytes -= len(self._kept.pop(oldest) or b"") + _OVERHEAD_BYTES

    def due(self, now_s: float, most: int) -> dict[_Place, float]:
        """Take out what is due, and since when, oldest first, at most so many; again only when it was changed."""
        found: dict[_Place, float] = {}
        times = self._times
        while times and times[0][0] <= now_s and len(found) < most:
            due_s, place = heappop(times)
            if self._due.get(place) == due_s:
                found[place] = due_s
        if len(times) > 2 * len(self._due) + _COMPACT_AT:
            self._times = [(due_s, place) for place, due_s in self._due.items() if place not in found]
            heapify(self._times)
        return found

    def next_s(self) -> float | None:
        """When the next is due, or None."""
        while self._times and self._due.get(self._times[0][1]) != self._times[0][0]:
            heappop(self._times)
        return self._times[0][0] if self._times else None

    def changes(self) -> Sequence[State]:
        """What the next commit must write, each key once; from the next call on it counts as written."""
        changed, self._changed = self._changed, {}
        return list(changed.values())
