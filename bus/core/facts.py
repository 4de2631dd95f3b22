"""What `decide` must be told because it may not look: the time, limits and identities. All frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what an agent may send.

    Args:
        body_bytes: longest accepted body. 256 KiB: larger payloads belong in a claim check.
        depth: deepest JSON nesting; 64 is far beyond any contract and far below any parser's limit.
        hops: hops a message may take when it does not say (`hopsleft`).
    """

    body_bytes: int = 256 * 1024
    depth: int = 64
    hops: int = 32


@lru_cache(maxsize=8)  # a bus has one
def of_the_bus(limits: Limits) -> Limits:
    """Bounds on what the bus says to itself: a message or an answer at the limit, with what it adds to it."""
    return replace(limits, body_bytes=2 * limits.body_bytes, depth=limits.depth + 8)


@dataclass(frozen=True, slots=True)
class Leased:
    """Args:
    seconds: how long its holder may be silent.
    holder: agent and inbox that have accepted the task; "" while nobody has.
    """

    seconds: int
    holder: str


def nothing_remembered(key: str) -> bytes | None:
    """The memory of a bus that has none yet."""
    return None


@dataclass(frozen=True, slots=True)
class Facts:
    """Args:
    now_s: seconds since the epoch.
    now: the same as RFC 3339, UTC, milliseconds.
    seal: secret key of this bus for return addresses, 32 bytes.
    bus_user: the broker user of the bus itself; only it may set `attempt`, `fence` and `redrive`.
    identity: `broker` requires that the verified user is the source agent; `shared` lets all agents share
        one user (private broker: every agent runs as the same person) and checks only that the source is declared.
    limits: what an agent may send.
    answered: number in the log of the answer to the task that a claim names; None when there is none, and for all
        other messages.
    controls: switches of the running bus, by name; one that is not there is off.
    leased: the lease of the task that a claim names, if there is one for the claim's fence.
    arriving: what was remembered elsewhere may still be on its way to this partition, see bus.shell.mover.
    paused: routes and targets that are paused, `route:shop/orders` for one.
    recall: reads what is remembered under a key in the partition of the delivery, or a blob, or None; nothing else
        happens.
    stores_blobs: whether the blob store can be written now; if not, a step that needs it fails.
    """

    now_s: float
    now: str
    seal: bytes
    bus_user: str = "bus"
    identity: Literal["broker", "shared"] = "shared"
    limits: Limits = Limits()
    answered: int | None = None
    leased: Leased | None = None
    controls: Mapping[str, bool] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    arriving: bool = False
    recall: Callable[[str], bytes | None] = nothing_remembered
    stores_blobs: bool = True
