"""The route table: a message's owner by type and source, at a cost that does not grow with the number of routes.

Exact types are a dictionary, globs a trie over the type's segments; whatever does not depend on the message (rank and
reason of each pattern) is worked out when the table is built. What a (type, source) pair finds is remembered, bounded
because agents choose the types. Within what is found R1 gives the order: exact type, then longest glob, then `source`,
then `when`; the first whose labels and `when` hold owns the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.core.expression import Contract
from bus.core.message import TASK_CLAIM
from bus.core.route import Agent, Capability, Catalog, Older, Route

_ANSWERS = (".replied", ".failed")
_REMEMBERED = 4096  # distinct (type, source) pairs of one generation; two are kept, so what is in use stays

_Rank = tuple[tuple[int, int, int], tuple[int, int, int], int]
"""By type, by source, by `when`: smaller is better."""


class Found(NamedTuple):
    """All that the configuration says of one (type, source): routes best first, each with why it matches.

    Args:
        declared: the source is an agent that may send this type: it publishes it, or answers for its capability,
            or may claim tasks.
        answers: the capability that such a message answers for, or None.
        contract: what the type's payload must keep, or None.
        older: versions of the contract before, oldest first.
        serial: an owner has a `serial_by`, or all its runs live in one partition.
    """

    owners: tuple[tuple[Route, str], ...]
    observers: tuple[tuple[Route, str], ...]
    subscribers: tuple[str, ...]
    declared: bool
    answers: str | None
    contract: Contract | None
    older: tuple[Older, ...]
    serial: bool = False


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    routes: list[tuple[int, str]] = field(default_factory=list)


class GlobIndex:
    """Globs over dotted names: `*` is one segment, `**` the rest (at least one)."""

    def __init__(self, globs: Iterable[tuple[str, int]] = ()) -> None:
        self._root = _Node()
        for glob, value in globs:
            self.add(glob, value)

    def add(self, glob: str, value: int) -> None:
        """Add a glob; it may be there already, with another value."""
        node = self._root
        for segment in glob.split("."):
            child = node.children.get(segment)
            if child is None:
                child = node.children[segment] = _Node()
            node = child
        node.routes.append((value, glob))

    def find(self, name: str) -> list[tuple[int, str]]:
        """Return (value, glob) of every glob that `name` fits."""
        found: list[tuple[int, str]] = []
        if self._root.children:
            self._walk(self._root, name.split("."), 0, found)
        return found

    def _walk(self, node: _Node, segments: list[str], at: int, found: list[tuple[int, str]]) -> None:
        if at == len(segments):
            found += node.routes
            return
        children = node.children
        if not children:
            return
        if "**" in children:
            found += children["**"].routes
        # A literal segment of a message is never `*`: types with one are refused by the codec.
        if segments[at] in children:
            self._walk(children[segments[at]], segments, at + 1, found)
        if "*" in children:
            self._walk(children["*"], segments, at + 1, found)


def is_glob(pattern: str) -> bool:
    """Whether a type or source pattern has a wildcard segment."""
    return "*" in pattern


def fits(pattern: str, name: str) -> bool:
    """Whether `name` fits a pattern of dotted segments."""
    if not is_glob(pattern):
        return pattern == name
    segments, globs = name.split("."), pattern.split(".")
    if globs[-1] == "**" and len(segments) >= len(globs):
        globs.pop()
    elif len(segments) != len(globs):
        return False
    return all(glob == "*" or glob == segment for glob, segment in zip(globs, segments, strict=False))


def literal_length(glob: str) -> tuple[int, int]:
    """How specific a glob is: (literal segments, literal characters); longer wins."""
    literals = [segment for segment in glob.split(".") if "*" not in segment]
    return len(literals), sum(map(len, literals))


def specificity(pattern: str | None) -> tuple[int, int, int]:
    """R1's rank of a type or source pattern, smaller is better: exact, then longest glob, then none at all."""
    if pattern is None:
        return 2, 0, 0
    if not is_glob(pattern):
        return 0, 0, 0
    segments, letters = literal_length(pattern)
    return 1, -segments, -letters


class _Entry(NamedTuple):
    """One pattern of a route, with all that does not depend on the message."""

    rank: _Rank
    number: int
    source: str | None
    told: tuple[Route, str]


class RouteTable:
    """The compiled catalog with its index. Immutable but for the bounded memory of look-ups, and for its elders.

    Elders are tables of configurations before this one. Runs that began under one stay with it; and an agent that only
    an elder knows may still say what is due of it: answer a request that it was given, and claim it.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._elders: dict[str, RouteTable] = {}
        self._routes = {route.name: route for route in catalog.routes}
        self._exact: dict[str, list[_Entry]] = {}
        self._globs = GlobIndex()
        self._entries: list[_Entry] = []
        for number, route in enumerate(catalog.routes):
            for pattern in route.match.types:
                entry = _entry(pattern, number, route)
                if is_glob(pattern):
                    self._globs.add(pattern, len(self._entries))
                    self._entries.append(entry)
                else:
                    self._exact.setdefault(pattern, []).append(entry)
        self._subscribers: dict[str, list[str]] = {}
        self._subscribed = GlobIndex()
        self._agents = tuple(sorted(catalog.agents))
        for index, agent in enumerate(self._agents):
            for pattern in catalog.agents[agent].subscribes:
                if is_glob(pattern):
                    self._subscribed.add(pattern, index)
                else:
                    self._subscribers.setdefault(pattern, []).append(agent)
        self._publishes: dict[str, tuple[frozenset[str], GlobIndex]] = {}  # by agent, when first asked for
        self._memory: dict[tuple[str, str], Found] = {}
        self._older: dict[tuple[str, str], Found] = {}

    def of(self, version: str) -> RouteTable | None:
        """The table of a configuration, this one or an earlier one that is still known."""
        return self if version == self.catalog.version else self._elders.get(version)

    @property
    def elders(self) -> Mapping[str, RouteTable]:
        """The tables before this one that are still needed, by version, oldest first."""
        return self._elders

    def succeed(self, elders: Mapping[str, RouteTable]) -> None:
        """Take these for its elders."""
        self._elders = {version: each for version, each in elders.items() if version != self.catalog.version}
        self._memory, self._older = {}, {}

    def agent(self, name: str) -> Agent | None:
        """An agent, if need be as the last elder that knows it has declared it."""
        found = (each.catalog.agents.get(name) for each in (self, *reversed(self._elders.values())))
        return next((each for each in found if each is not None), None)

    def capability(self, name: str) -> Capability | None:
        """A capability, if need be as the last elder that knows it has declared it."""
        found = (each.catalog.capabilities.get(name) for each in (self, *reversed(self._elders.values())))
        return next((each for each in found if each is not None), None)

    def route(self, name: str) -> Route | None:
        """A route by `integration/name`."""
        return self._routes.get(name)

    def find(self, type_: str, source: str) -> Found:
        """Return every route and subscriber for a message of this type from this source, best first."""
        pair = (type_, source)
        found = self._memory.get(pair)
        if found is not None:
            return found
        found = self._older.get(pair) or self._look_up(type_, source)
        if len(self._memory) >= _REMEMBERED:
            self._older, self._memory = self._memory, {}
        self._memory[pair] = found
        return found

    def answered(self, type_: str) -> str | None:
        """The capability that a message of type `<capability>.replied` or `.failed` answers for, or None."""
        if not type_.endswith(_ANSWERS):
            return None
        name = type_.rpartition(".")[0]
        return name if name in self.catalog.capabilities else None

    def _declared(self, type_: str, source: str, answers: str | None) -> bool:
        agent = self.catalog.agents.get(source)
        if agent is None:
            return False
        if answers is not None and answers in agent.capabilities:
            return True
        if type_ == TASK_CLAIM:
            return bool(agent.capabilities)
        known = self._publishes.get(source)
        if known is None:
            globs = GlobIndex((pattern, 0) for pattern in agent.publishes if is_glob(pattern))
            known = self._publishes[source] = frozenset(agent.publishes), globs
        exact, globs = known
        return type_ in exact or bool(globs.find(type_))

    def _look_up(self, type_: str, source: str) -> Found:
        answers = self.answered(type_)
        declared = self.catalog.types.get(type_)
        permitted = self._declared(type_, source, answers)
        if not permitted and self._elders:
            answers, permitted = self._left_over(type_, source, answers)
        owners: tuple[tuple[Route, str], ...] = ()
        observers = owners
        entries = self._fitting(type_, source)
        if entries:
            owners = tuple([each.told for each in entries if not each.told[0].observe])
            observers = tuple([each.told for each in entries if each.told[0].observe])
        return Found(
            owners,
            observers,
            self._subscribers_of(type_),
            permitted,
            answers,
            declared.contract if declared is not None else None,
            declared.older if declared is not None else (),
            any(route.serial_by is not None or route.homed for route, _ in owners),
        )

    def _left_over(self, type_: str, source: str, answers: str | None) -> tuple[str | None, bool]:
        """What an agent may say only because an elder has declared it: (answers, declared) as in `Found`."""
        for elder in reversed(self._elders.values()):
            capability = elder.answered(type_)
            due = capability is not None or type_ == TASK_CLAIM
            if due and elder._declared(type_, source, capability):
                return capability, True
        return answers, False

    def _fitting(self, type_: str, source: str) -> list[_Entry]:
        """The entries for a message, one a route, best first."""
        entries = self._exact.get(type_, [])
        globs = self._globs.find(type_)
        if globs:
            entries = [*entries, *[self._entries[index] for index, _ in globs]]
        entries = [each for each in entries if each.source is None or fits(each.source, source)]
        if len(entries) < 2:
            return entries
        entries.sort(key=_by_rank)
        # A route may fit by several patterns: the best one, which is first now, says why.
        best: dict[int, _Entry] = {}
        for each in entries:
            best.setdefault(each.number, each)
        return list(best.values())

    def _subscribers_of(self, type_: str) -> tuple[str, ...]:
        exact = self._subscribers.get(type_, ())
        globs = self._subscribed.find(type_)
        return tuple(dict.fromkeys([*exact, *[self._agents[index] for index, _ in globs]])) if globs else tuple(exact)


def _by_rank(entry: _Entry) -> tuple[_Rank, int]:
    return entry.rank, entry.number


def _entry(pattern: str, number: int, route: Route) -> _Entry:
    match = route.match
    why = f"glob {pattern}" if is_glob(pattern) else "exact type"
    if match.source is not None:
        why += f", source {match.source}"
    if match.when is not None:
        why += f", when {match.when.text}"
    rank = (specificity(pattern), specificity(match.source), 0 if match.when is not None else 1)
    return _Entry(rank, number, match.source, (route, why))
