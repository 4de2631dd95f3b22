"""Who sends what to whom: the graph of a configuration, from its catalog and the sketches of its routes.

An agent stands in it twice when it does both: once among those who send, once among those who receive; so the picture
reads from left to right. Agents that answer requests stand with their capability. The types that a capability brings
(`<capability>.replied` and so on) are shown where somebody wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bus.config.drawing.sketch import Arrow, RouteSketch
from bus.core.identity import GATEWAY
from bus.core.route import Agent, Catalog
from bus.core.table import fits

NodeKind = Literal["sender", "type", "route", "capability", "receiver"]


@dataclass(frozen=True, slots=True)
class GraphNode:
    """Args:
    key: kind and name, unique.
    note: the agents that offer a capability, the name of a type's contract, when a schedule sends; or "".
    """

    key: str
    kind: NodeKind
    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """Args:
    arrow: for edges that leave a route, the number of its arrow, in the sketch's order; -1 otherwise.
    how: what it means: `publishes`, `matches`, `observes`, `asks`, `sends`, `subscribes`, `answers`.
    """

    source: str
    target: str
    how: str
    arrow: int = -1


@dataclass(slots=True)
class Graph:
    """Nodes by their key, and edges without repeats, in file order."""

    nodes: dict[str, GraphNode] = field(default_factory=dict)
    edges: dict[Edge, None] = field(default_factory=dict)
    routes: dict[str, RouteSketch] = field(default_factory=dict)

    def add(self, kind: NodeKind, name: str, note: str = "") -> str:
        """Add a node, unless it is there; returns its key."""
        key = f"{kind}:{name}"
        self.nodes.setdefault(key, GraphNode(key, kind, name, note))
        return key

    def join(self, source: str, target: str, how: str, arrow: int = -1) -> None:
        self.edges.setdefault(Edge(source, target, how, arrow))


def graph_of(catalog: Catalog, routes: Sequence[RouteSketch]) -> Graph:
    """Make the graph.

    Args:
        catalog: the compiled configuration.
        routes: the sketches of its routes.
    """
    graph = Graph()
    matched = [each for route in routes for each in route.types]
    subscribed = [each for agent in catalog.agents.values() for each in agent.subscribes]
    wanted = _Wanted(catalog, (*matched, *subscribed))
    for sender, note, type_ in _senders(catalog):
        graph.join(graph.add("sender", sender, note), _type(graph, catalog, type_), "publishes")
    for name in catalog.types:
        _type(graph, catalog, name)
    for route in routes:
        key = graph.add("route", route.name)
        graph.routes[key] = route
        for pattern in route.types:
            for type_ in wanted.fitting(pattern):
                graph.join(_type(graph, catalog, type_), key, "observes" if route.observe else "matches")
        for number, arrow in enumerate(route.arrows()):
            _follow(graph, catalog, key, arrow, number)
    for capability, types in wanted.brought.items():
        for type_ in types:
            graph.join(_capability(graph, catalog, capability), _type(graph, catalog, type_), "answers")
    for agent in catalog.agents.values():
        _subscriptions(graph, catalog, agent, wanted)
    return graph


def _senders(catalog: Catalog) -> Iterable[tuple[str, str, str]]:
    """Who brings messages in, with a word about it, and their types: agents, HTTP requests, the clock."""
    for agent in catalog.agents.values():
        if agent.name != GATEWAY:
            yield from ((agent.name, "", type_) for type_ in agent.publishes)
    for entrance in catalog.entrances:
        yield f"{entrance.method} {entrance.path}", "over HTTP", entrance.type
    for schedule in catalog.schedules:
        yield schedule.name, f"{schedule.cron} {schedule.zone}", schedule.type


@dataclass(slots=True)
class _Wanted:
    """The types that somebody wants: declared ones, and of those that capabilities bring the ones that are named."""

    catalog: Catalog
    patterns: tuple[str, ...]
    brought: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for capability in self.catalog.capabilities:
            for last in ("replied", "failed"):
                type_ = f"{capability}.{last}"
                if any(fits(pattern, type_) for pattern in self.patterns):
                    self.brought.setdefault(capability, []).append(type_)

    def fitting(self, pattern: str) -> Iterable[str]:
        known = (*self.catalog.types, *(each for types in self.brought.values() for each in types))
        found = [each for each in known if fits(pattern, each)]
        return found or [pattern]


def _type(graph: Graph, catalog: Catalog, name: str) -> str:
    declared = catalog.types.get(name)
    contract = declared.contract.name if declared is not None and declared.contract is not None else ""
    return graph.add("type", name, contract)


def _capability(graph: Graph, catalog: Catalog, name: str) -> str:
    agents = [agent.name for agent in catalog.agents.values() if name in agent.capabilities]
    return graph.add("capability", name, ", ".join(agents))


def _follow(graph: Graph, catalog: Catalog, route: str, arrow: Arrow, number: int) -> None:
    if arrow.kind == "event":
        graph.join(route, _type(graph, catalog, arrow.name), "sends", number)
    elif arrow.kind == "capability":
        graph.join(route, _capability(graph, catalog, arrow.name), "asks", number)
    elif arrow.kind == "agent":
        has: Mapping[str, Agent] = catalog.agents
        capabilities = has[arrow.name].capabilities if arrow.name in has else ()
        for capability in capabilities[:1]:
            graph.join(route, _capability(graph, catalog, capability), "asks", number)


def _subscriptions(graph: Graph, catalog: Catalog, agent: Agent, wanted: _Wanted) -> None:
    for pattern in agent.subscribes:
        for type_ in wanted.fitting(pattern):
            receiver = graph.add("receiver", agent.name)
            graph.join(_type(graph, catalog, type_), receiver, "subscribes")
