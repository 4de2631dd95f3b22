"""The route table: a message's owner by type and source, at a cost that does not grow with the number of routes.

Exact types are a dictionary, globs a trie over the type's segments; what a (type, source) pair finds is remembered,
bounded because agents choose the types. Within what is found R1 gives the order: exact type, then longest glob, then
`source`, then `when`; the first whose labels and `when` hold owns the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.core.expression import Contract
from bus.core.route import Catalog, Route

_ANSWERS = (".replied", ".failed")
_REMEMBERED = 4096  # distinct (type, source) pairs; past it the memory starts afresh


class Found(NamedTuple):
    """All that the configuration says of one (type, source): routes best first, each with why it matches.

    Args:
        declared: the source is an agent that may send this type: it publishes it, or answers for its capability.
        answers: the capability that such a message answers for, or None.
        contract: what the type's payload must keep, or None.
    """

    owners: tuple[tuple[Route, str], ...]
    observers: tuple[tuple[Route, str], ...]
    subscribers: tuple[str, ...]
    declared: bool
    answers: str | None
    contract: Contract | None


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    routes: list[tuple[int, str]] = field(default_factory=list)


class GlobIndex:
    """Globs over dotted names: `*` is one segment, `**` the rest (at least one)."""

    def __init__(self, globs: Iterable[tuple[str, int]]) -> None:
        self._root = _Node()
        for glob, value in globs:
            node = self._root
            for segment in glob.split("."):
                node = node.children.setdefault(segment, _Node())
            node.routes.append((value, glob))

    def find(self, name: str) -> Iterator[tuple[int, str]]:
        """Yield (value, glob) of every glob that `name` fits."""
        yield from self._walk(self._root, name.split("."), 0)

    def _walk(self, node: _Node, segments: list[str], at: int) -> Iterator[tuple[int, str]]:
        if at == len(segments):
            yield from node.routes
            return
        rest = node.children.get("**")
        if rest is not None:
            yield from rest.routes
        for key in (segments[at], "*"):
            child = node.children.get(key)
            # A literal segment of a message is never `*`: types with one are refused by the codec.
            if child is not None:
                yield from self._walk(child, segments, at + 1)


def is_glob(pattern: str) -> bool:
    """Whether a type or source pattern has a wildcard segment."""
    return "*" in pattern


def fits(pattern: str, name: str) -> bool:
    """Whether `name` fits a pattern of dotted segments."""
    if not is_glob(pattern):
        return pattern == name
    return any(True for _ in GlobIndex([(pattern, 0)]).find(name))


def literal_length(glob: str) -> tuple[int, int]:
    """How specific a glob is: (literal segments, literal characters); longer wins."""
    literals = [segment for segment in glob.split(".") if "*" not in segment]
    return len(literals), sum(map(len, literals))


class RouteTable:
    """The compiled catalog with its index. Immutable but for the bounded memory of look-ups."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._exact: dict[str, list[int]] = {}
        globs: list[tuple[str, int]] = []
        for number, route in enumerate(catalog.routes):
            for pattern in route.match.types:
                if is_glob(pattern):
                    globs.append((pattern, number))
                else:
                    self._exact.setdefault(pattern, []).append(number)
        self._globs = GlobIndex(globs)
        self._subscribers: dict[str, list[str]] = {}
        subscribed: list[tuple[str, int]] = []
        self._agents = tuple(sorted(catalog.agents))
        for index, agent in enumerate(self._agents):
            for pattern in catalog.agents[agent].subscribes:
                if is_glob(pattern):
                    subscribed.append((pattern, index))
                else:
                    self._subscribers.setdefault(pattern, []).append(agent)
        self._subscribed = GlobIndex(subscribed)
        self._publishes: dict[str, tuple[frozenset[str], GlobIndex]] = {}  # by agent, when first asked for
        self._memory: dict[tuple[str, str], Found] = {}

    def find(self, type_: str, source: str) -> Found:
        """Return every route and subscriber for a message of this type from this source, best first."""
        known = self._memory.get((type_, source))
        if known is not None:
            return known
        found = self._look_up(type_, source)
        if len(self._memory) >= _REMEMBERED:
            self._memory.clear()
        self._memory[(type_, source)] = found
        return found

    def answered(self, type_: str) -> str | None:
        """The capability that a message of type `<capability>.replied` or `.failed` answers for, or None."""
        if not type_.endswith(_ANSWERS):
            return None
        name = type_.rpartition(".")[0]
        return name if name in self.catalog.capabilities else None

    def _declared(self, type_: str, source: str) -> bool:
        agent = self.catalog.agents.get(source)
        if agent is None:
            return False
        known = self._publishes.get(source)
        if known is None:
            globs = GlobIndex([(pattern, 0) for pattern in agent.publishes if is_glob(pattern)])
            known = self._publishes[source] = frozenset(agent.publishes), globs
        exact, globs = known
        return type_ in exact or any(True for _ in globs.find(type_)) or self.answered(type_) in agent.capabilities

    def _look_up(self, type_: str, source: str) -> Found:
        ranked: dict[int, tuple[tuple[object, ...], str]] = {}
        for number in self._exact.get(type_, ()):
            self._rank(ranked, number, (0, 0, 0), "exact type", source)
        for number, glob in self._globs.find(type_):
            segments, letters = literal_length(glob)
            self._rank(ranked, number, (1, -segments, -letters), f"glob {glob}", source)
        order = sorted(ranked, key=lambda number: (*ranked[number][0], number))
        routes = [(self.catalog.routes[number], ranked[number][1]) for number in order]
        agents = dict.fromkeys(self._subscribers.get(type_, ()))
        agents.update(dict.fromkeys(self._agents[index] for index, _ in self._subscribed.find(type_)))
        declared = self.catalog.types.get(type_)
        return Found(
            owners=tuple(each for each in routes if not each[0].observe),
            observers=tuple(each for each in routes if each[0].observe),
            subscribers=tuple(agents),
            declared=self._declared(type_, source),
            answers=self.answered(type_),
            contract=declared.contract if declared is not None else None,
        )

    def _rank(
        self,
        ranked: dict[int, tuple[tuple[object, ...], str]],
        number: int,
        by_type: tuple[int, int, int],
        why: str,
        source: str,
    ) -> None:
        match = self.catalog.routes[number].match
        by_source: tuple[int, int, int] = (2, 0, 0)
        if match.source is not None:
            if not fits(match.source, source):
                return
            if is_glob(match.source):
                segments, letters = literal_length(match.source)
                by_source = (1, -segments, -letters)
            else:
                by_source = (0, 0, 0)
            why += f", source {match.source}"
        if match.when is not None:
            why += f", when {match.when.text}"
        rank = (by_type, by_source, 0 if match.when is not None else 1)
        if number not in ranked or rank < ranked[number][0]:
            ranked[number] = (rank, why)
