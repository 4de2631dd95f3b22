"""Routes, and the table that finds a message's owner by type and source at a cost that does not grow with them.

Rule R1: one owner a message: exact type, then longest glob, then `source`, then `when`. `*` is one segment, `**` the
rest. The table is built once; a look-up is one dictionary access for types and sources seen before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from bus.core.audience import Attributes, Audience
from bus.core.expression import Contract, Expression, Leaf
from bus.core.message import Json
from bus.core.work import Flow, OnError


@dataclass(frozen=True, slots=True)
class Match:
    """Args:
    types: exact types and globs; any fits.
    source: exact agent name or glob, or None for any.
    labels: all must be on the message.
    when: the condition, or None.
    """

    types: tuple[str, ...]
    source: str | None = None
    labels: tuple[str, ...] = ()
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Args:
    name: `integration/route`.
    where: `file:line` of its `route:` key.
    observe: gets a copy; its failure touches nobody.
    deadline_s: seconds until what it sends expires, or None.
    memory: a step of it waits or remembers: each message begins a run, see bus.core.instance.
    homed: without `serial_by` all its runs live in one partition, since a step of it must see them all.
    serial_by: one message per key of this runs at a time, start to end, in the key's partition; None for all at once.
    """

    name: str
    where: str
    match: Match
    flow: Flow
    observe: bool = False
    deadline_s: float | None = None
    on_error: tuple[OnError, ...] = ()
    config: Mapping[str, Json] = field(default_factory=dict)
    memory: bool = False
    serial_by: Expression | None = None
    homed: bool = False


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as declared. Adapter settings are the adapter's business, with secrets already filled in.

    Args:
        source: folder of the integration that declares it.
    """

    name: str
    adapter: str
    capabilities: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    concurrency: int = 1
    timeout_s: float | None = None
    version: str = ""
    attributes: Mapping[str, Json] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """What agents may be asked to do: `<name>.requested` in, `<name>.replied` or `<name>.failed` out.

    Args:
        lease_s: work on it may take long: an agent accepts it, and may then be silent for so many seconds. None for
            work that holds its delivery.
    """

    name: str
    request: Contract
    reply: Contract
    idempotent: bool = False
    lease_s: int | None = None


@dataclass(frozen=True, slots=True)
class Older:
    """An older version of a type's contract.

    Args:
        upcast: makes the data of the next version; None when that takes it as it is.
    """

    contract: Contract
    upcast: Leaf | None


@dataclass(frozen=True, slots=True)
class MessageType:
    """A declared type. `contract` is None for `contract: any`; `unrouted` permits having nobody to go to.

    Args:
        older: versions of the contract before, oldest first.
    """

    name: str
    contract: Contract | None
    unrouted: bool = False
    older: tuple[Older, ...] = ()


@dataclass(frozen=True, slots=True)
class Entrance:
    """An entry of the Messaging Gateway: which HTTP request becomes which message.

    Args:
        name: `integration/entry`.
        method, path: as HTTP writes them; both must be equal.
        type: type of the message.
        wait_s: how long the request is held for the answer; None when nobody waits for one.
        on_timeout: what the client gets after that: 202 with a place to fetch the answer from, or 504.
    """

    name: str
    method: str
    path: str
    type: str
    wait_s: float | None = None
    on_timeout: Literal["accepted", "fail"] = "accepted"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A message that the bus sends by the clock.

    Args:
        name: `integration/schedule`.
        cron: five fields, as of Debian's cron.
        zone: IANA time zone that they are read in.
        data: the payload.
    """

    name: str
    cron: str
    zone: str
    type: str
    data: Json = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """The whole configuration, compiled: what `decide` works from. Immutable; a reload makes a new one.

    Args:
        version: first 12 hex digits of the configuration's hash; every decision in the log names it.
        routes: all routes, in file order.
        entrances: entries of the gateway, in file order.
        schedules: what is sent by the clock, in file order.
        labels: what each declared label requires of an agent's attributes.
        controls: switches that `detour` steps look at.
    """

    version: str
    agents: Mapping[str, Agent]
    capabilities: Mapping[str, Capability]
    types: Mapping[str, MessageType]
    routes: tuple[Route, ...]
    entrances: tuple[Entrance, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    labels: Mapping[str, Attributes] = field(default_factory=dict)
    controls: frozenset[str] = frozenset()

    def audience(self, agents: Iterable[str]) -> Audience:
        """These agents as those that a message may reach."""
        return Audience({name: self.agents[name].attributes for name in agents if name in self.agents}, self.labels)

    def audience_of(self, capability: str) -> Audience:
        """The agents that have a capability."""
        return self.audience(name for name, agent in self.agents.items() if capability in agent.capabilities)

    @property
    def subscriptions(self) -> str:
        """Names the set of all subscriptions: 8 hex digits."""
        subscribed = {name: sorted(agent.subscribes) for name, agent in self.agents.items() if agent.subscribes}
        return sha256(json.dumps(subscribed, sort_keys=True).encode()).hexdigest()[:8]


__all__ = ["Agent", "Capability", "Catalog", "Entrance", "Leaf", "Match", "MessageType", "Older", "Route", "Schedule"]
