"""What the documents declare, namespace-wide: the second pass fills it, the third compiles routes against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bus.config.contracts import LoadedContract
from bus.config.expressions import Compiled
from bus.config.files import Folder
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar
from bus.config.patterns import Patterns
from bus.config.types import ANY, Type
from bus.core.audience import Attributes
from bus.core.expression import Leaf
from bus.core.message import FAILED, Json
from bus.core.route import Agent, Entrance, Schedule

ASKED, ANSWERED, REFUSED = "requested", "replied", "failed"
"""Last segments of the three types that every capability brings."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document with its kind."""

    kind: str
    node: MappingNode
    folder: Folder
    integration: str


@dataclass(frozen=True, slots=True)
class DeclaredVersion:
    """One version of a type's contract.

    Args:
        node: its path in the document.
        upcast: makes the data of the next version, or None.
    """

    node: Node
    contract: LoadedContract
    upcast: Leaf | None


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """Args:
    versions: of its contract, oldest first; () for `any`.
    """

    node: Scalar
    versions: tuple[DeclaredVersion, ...]
    unrouted: bool

    @property
    def contract(self) -> LoadedContract | None:
        """The newest version, which routes see."""
        return self.versions[-1].contract if self.versions else None


@dataclass(frozen=True, slots=True)
class DeclaredCapability:
    node: Scalar
    request: LoadedContract | None
    reply: LoadedContract | None
    idempotent: bool
    lease_s: int | None


@dataclass(frozen=True, slots=True)
class DeclaredAgent:
    """Args:
    node: the agent's name; `body` what stands under it.
    """

    node: Scalar
    body: MappingNode
    agent: Agent


@dataclass(frozen=True, slots=True)
class DeclaredEntrance:
    """Args:
    http, type: the nodes of what it takes and what it makes, for findings that need all documents.
    """

    http: Scalar
    type: Scalar
    entrance: Entrance


@dataclass(frozen=True, slots=True)
class DeclaredSchedule:
    """Args:
    type, data: the nodes of what it sends, for findings that need all documents.
    """

    type: Scalar
    data: Node
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class DeclaredLabel:
    node: Scalar
    requires: Attributes


@dataclass(frozen=True, slots=True)
class Parameter:
    """Args:
    type: a word of `bus.core.steps.use.PARAMETER_TYPES`.
    default: what it is when a `use` does not say, or None.
    """

    type: str
    default: Compiled | None


@dataclass(frozen=True, slots=True)
class DeclaredFragment:
    node: Scalar
    document: Document
    parameters: Mapping[str, Parameter]


@dataclass(slots=True)
class Integration:
    """Args:
    config: values and static types of `config`.
    on_error: the node of `defaults.on_error`, or None.
    coverage: percent that its tests must reach, by unit.
    values: see `config_values`.
    """

    name: str
    folder: Folder
    node: Scalar | None = None
    config: dict[str, tuple[Json, Type]] = field(default_factory=dict)
    on_error: Node | None = None
    coverage: dict[str, int] = field(default_factory=dict)
    values: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Namespace:
    """Everything that has a name.

    Args:
        unread: kinds of documents that could not be parsed; what they would have declared is not reported missing.
        offered: capabilities that an agent has.
        subscribed: type patterns of all agents.
        matched: type patterns of all routes.
        owned: those of the routes that do not merely observe.
        entrances: entries of the gateway, in file order.
        schedules: what is sent by the clock, in file order.
        controls: switches that `detour` steps look at.
    """

    integrations: dict[str, Integration] = field(default_factory=dict)
    agents: dict[str, DeclaredAgent] = field(default_factory=dict)
    capabilities: dict[str, DeclaredCapability] = field(default_factory=dict)
    types: dict[str, DeclaredType] = field(default_factory=dict)
    labels: dict[str, DeclaredLabel] = field(default_factory=dict)
    fragments: dict[str, DeclaredFragment] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    offered: set[str] = field(default_factory=set)
    subscribed: Patterns = field(default_factory=Patterns)
    matched: Patterns = field(default_factory=Patterns)
    owned: Patterns = field(default_factory=Patterns)
    entrances: list[DeclaredEntrance] = field(default_factory=list)
    schedules: list[DeclaredSchedule] = field(default_factory=list)
    controls: set[str] = field(default_factory=set)

    def type_names(self) -> Iterator[str]:
        """Every known message type: declared ones and those that capabilities bring."""
        yield from self.types
        for capability in self.capabilities:
            for last in (ASKED, ANSWERED, REFUSED):
                yield f"{capability}.{last}"
        yield FAILED

    def contract_of(self, type_: str) -> LoadedContract | None:
        """The contract of a known type; None when it has none."""
        if type_ in self.types:
            return self.types[type_].contract
        capability, _, last = type_.rpartition(".")
        declared = self.capabilities.get(capability)
        if declared is None:
            return None
        return {ASKED: declared.request, ANSWERED: declared.reply}.get(last)

    def static_type(self, type_: str) -> Type:
        contract = self.contract_of(type_)
        return contract.type if contract is not None else ANY

    def declare_agent(self, declared: DeclaredAgent) -> None:
        """Take an agent in, with what it offers and subscribes to."""
        agent = declared.agent
        self.agents[agent.name] = declared
        self.offered.update(agent.capabilities)
        self.subscribed.add(agent.subscribes)

    def agents_unread(self) -> bool:
        """Whether agents or capabilities may be declared where nothing could be read."""
        return bool(self.unread & {"agents", "capabilities", ""})

    def types_unread(self) -> bool:
        return bool(self.unread & {"integration", "agents", "capabilities", ""})


def config_values(integration: Integration) -> dict[str, Json]:
    """The values, in one dictionary for all routes and fragments of the integration: a rehearsal changes it."""
    if not integration.values:
        integration.values.update({name: value for name, (value, _) in integration.config.items()})
    return integration.values
