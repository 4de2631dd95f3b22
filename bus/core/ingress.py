"""The ingress of a namespace as a value: generations of partitions, and which of them is worked on.

A hash exchange that gets or loses a queue moves conversations between the others, so a namespace never
changes the partitions that it has. It grows by a whole new generation, with an exchange and queues of its own, and goes
over to it once and for good:

    grown       the new generation is recorded; workers make its queues and lead `NS.in` to it (see bus.shell.entry)
    drained     one by one, old partitions have nothing left in queue or store; their owners say so
    served      all are drained: the new generation is consumed, and the old one is retired

Partitions are numbered on over generations: after 4 and 8 there are 0..3 and 4..11. A worker leases slots: who has slot
n works on the n-th partition of the generation that is served, and of every retired one. What still comes out of a
retired partition is not decided there but passed on through `NS.in`, so that one inbox knows all that is decided now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bus.core.errors import BusError

MOST = 100
"""Partitions of one generation at most."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Partitions `first` to `first + size - 1`, behind one exchange of their own."""

    number: int
    first: int
    size: int

    @property
    def partitions(self) -> range:
        """Their numbers in the log."""
        return range(self.first, self.first + self.size)


@dataclass(frozen=True, slots=True)
class Ingress:
    """What the store keeps of it. The empty one is that of a namespace which no bus has ever worked on.

    Args:
        sizes: how many partitions each generation has, oldest first.
        serving: number of the generation that is worked on; the last one, but while the namespace grows.
        drained: partitions of that generation that have nothing left, while it grows.
    """

    sizes: tuple[int, ...] = ()
    serving: int = 0
    drained: frozenset[int] = frozenset()

    @property
    def generations(self) -> tuple[Generation, ...]:
        """All generations, oldest first."""
        return tuple(Generation(n, sum(self.sizes[:n]), size) for n, size in enumerate(self.sizes))

    @property
    def served(self) -> Generation:
        """The generation that is worked on."""
        return self.generations[self.serving]

    @property
    def last(self) -> Generation:
        """The generation that new messages go to."""
        return self.generations[-1]

    @property
    def growing(self) -> bool:
        """Whether the last generation waits for the one before it."""
        return self.serving < len(self.sizes) - 1

    @property
    def left(self) -> tuple[int, ...]:
        """The partitions that the last generation still waits for."""
        return tuple(each for each in self.served.partitions if each not in self.drained) if self.growing else ()

    def attended(self, slots: Collection[int]) -> tuple[int, ...]:
        """The partitions that the owner of these slots works on, those that are retired included."""
        known = self.generations[: self.serving + 1]
        return tuple(each.first + slot for each in known for slot in sorted(slots) if slot < each.size)

    def retired(self, partition: int) -> bool:
        """Whether nothing is decided in this partition any more."""
        return partition < self.served.first or partition in self.drained


def grown(ingress: Ingress, partitions: int) -> Ingress:
    """Add a generation of so many partitions; asking again for the one that is being made changes nothing.

    Raises:
        BusError: it would be none, or too many, or fewer than there are, or the last growth is not over.
    """
    if not 1 <= partitions <= MOST:
        raise BusError(f"{partitions} partitions cannot be made; write a number from 1 to {MOST}")
    if not ingress.sizes:
        return Ingress((partitions,))
    now = ingress.last.size
    if partitions == now:
        return ingress
    if ingress.growing:
        raise BusError(
            f"it grows from {ingress.served.size} to {now} partitions now; write --partitions {now} to see how far it "
            "is, and grow again after that"
        )
    if partitions < now:
        raise BusError(
            f"{now} partitions cannot become {partitions}: messages of one conversation would come apart; idle "
            "partitions cost next to nothing, so leave them, or give a new bus a --namespace of its own"
        )
    return replace(ingress, sizes=(*ingress.sizes, partitions))


def drained(ingress: Ingress, partitions: Collection[int]) -> Ingress:
    """Note that these have nothing left; with the last of them the new generation is served."""
    gone = ingress.drained | (set(partitions) & set(ingress.left))
    after = replace(ingress, drained=frozenset(gone))
    if ingress.growing and not after.left:
        return replace(ingress, serving=ingress.serving + 1, drained=frozenset())
    return after


def setting_note(ingress: Ingress, wanted: int | None) -> str:
    """Compare BUS_PARTITIONS, or None, with what there is; returns what an operator should know, or "".

    A number that was right before the namespace grew is no reason not to start: a restart in the middle of it has it.

    Raises:
        BusError: the number was never right, and nobody may believe that it does anything.
    """
    if wanted is None or not ingress.sizes or wanted == ingress.last.size:
        return ""
    now = ingress.last.size
    if wanted in ingress.sizes:
        return f"BUS_PARTITIONS is {wanted}, and there are {now} by now; write {now}, or leave it out"
    instead = (
        f"write {now} or leave it out, then `bus topology grow --partitions {wanted}` while the bus runs"
        if wanted > now
        else f"partitions never become fewer; write {now} or leave it out"
    )
    raise BusError(f"BUS_PARTITIONS is {wanted}, and the namespace has {now}, which stay; {instead}")


def as_json(ingress: Ingress) -> dict[str, object]:
    """How stores write it."""
    return {"sizes": list(ingress.sizes), "serving": ingress.serving, "drained": sorted(ingress.drained)}


def from_json(value: Mapping[str, Any]) -> Ingress:
    """Read what `as_json` gave; {} is the empty one."""
    return Ingress(tuple(value.get("sizes", ())), value.get("serving", 0), frozenset(value.get("drained", ())))
