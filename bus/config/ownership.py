"""Rule R1 at load: every message has one owner.

Exact type, then longest glob, then `source`, then `when`; the order is that of `bus.core.table`. Two routes that stand
equal for some type are `two-owners`; a route before which others take every message that it matches is `unreachable`.
Two routes with different `when` are allowed to stand equal: the first one that is true, in file order, owns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from bus.config.nodes import Node, Scalar
from bus.config.reader import Reader
from bus.core.table import GlobIndex, fits, is_glob, literal_length

_Rank: TypeAlias = tuple[int, int, int]
_ANY = "~"  # a segment that no declared type can have


@dataclass(frozen=True, slots=True)
class Claim:
    """What a route claims.

    Args:
        node: the `route:` value.
        patterns: its types with their nodes.
        when: text of its condition, "" for none.
        labels: labels it asks for; they narrow it like a condition.
    """

    node: Scalar
    patterns: tuple[tuple[Node, str], ...]
    source: str | None
    when: str
    labels: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.node.source.path}:{self.node.source.position(self.node.start)[0]}"

    @property
    def takes_all(self) -> bool:
        """Whether nothing but type and source decides."""
        return not self.labels and self.when.strip() in ("", "true")

    def best(self, type_: str) -> tuple[_Rank, Node] | None:
        """The rank of its best pattern for a type, lower is better; None when none fits."""
        found = [(_rank(pattern), node) for node, pattern in self.patterns if fits(pattern, type_)]
        return min(found, key=lambda each: each[0]) if found else None


def _rank(pattern: str | None) -> _Rank:
    if pattern is None:
        return (2, 0, 0)
    if not is_glob(pattern):
        return (0, 0, 0)
    segments, letters = literal_length(pattern)
    return (1, -segments, -letters)


def check_owners(claims: Iterable[Claim], types: Iterable[str], sources: Iterable[str], reader: Reader) -> None:
    """Report ties and routes that nothing reaches.

    Args:
        claims: all routes that own (not those that observe), in file order.
        types: all known message types.
        sources: all known senders.
    """
    table = _Table(tuple(claims), tuple(types), tuple(sources))
    tied: set[int] = set()
    for one, other, node in table.ties():
        tied |= {id(one), id(other)}
        what = f"{one.where} also owns `{node.text if isinstance(node, Scalar) else '...'}`"
        reader.report(node, "two-owners", what, "a `when`, a `source`, or `observe: true`")
    for claim in table.claims:
        before = table.taken_by(claim) if id(claim) not in tied else None
        if before is not None:
            what = f"{before.where} takes every match"
            reader.report(claim.node, "unreachable", what, "a narrower `type`, or delete this")


class _Table:
    """Claims by the known types that they fit."""

    def __init__(self, claims: tuple[Claim, ...], types: tuple[str, ...], sources: tuple[str, ...]) -> None:
        self.claims = claims
        self._sources = sources
        self._order = {id(claim): number for number, claim in enumerate(claims)}
        self._by_type: dict[str, list[tuple[_Rank, Claim, Node]]] = {}
        self._matched: dict[int, list[str]] = {}
        candidates = _Candidates(claims)
        # Patterns count as types of their own, so that equal globs tie even where no type is declared for them yet.
        examples = {_example(pattern) for claim in claims for _, pattern in claim.patterns}
        for type_ in sorted({*types, *examples}):
            for claim in candidates.of(type_):
                best = claim.best(type_)
                if best is not None:
                    self._by_type.setdefault(type_, []).append((best[0], claim, best[1]))
                    if type_ not in examples or _ANY not in type_:
                        self._matched.setdefault(id(claim), []).append(type_)

    def ties(self) -> Iterator[tuple[Claim, Claim, Node]]:
        seen: set[tuple[int, int]] = set()
        for ranked in self._by_type.values():
            for (rank, one, _), (other_rank, other, node) in combinations(ranked, 2):
                pair = (id(one), id(other))
                if pair not in seen and rank == other_rank and self._equal(one, other):
                    seen.add(pair)
                    yield one, other, node

    def _equal(self, one: Claim, other: Claim) -> bool:
        if _rank(one.source) != _rank(other.source) or not self._overlap(one.source, other.source):
            return False
        return (one.when.split(), sorted(one.labels)) == (other.when.split(), sorted(other.labels))

    def _overlap(self, one: str | None, other: str | None) -> bool:
        if one == other or one is None or other is None:
            return True
        return any(fits(one, each) and fits(other, each) for each in self._sources)

    def taken_by(self, claim: Claim) -> Claim | None:
        """A claim of those that together take all of `claim`'s messages first, or None."""
        taker: Claim | None = None
        for type_ in self._matched.get(id(claim)) or [_example(pattern) for _, pattern in claim.patterns]:
            first = next((each for each in self._before(claim, type_) if self._covers(each, claim)), None)
            if first is None:
                return None
            taker = taker or first
        return taker

    def _before(self, claim: Claim, type_: str) -> Iterator[Claim]:
        """Claims that are tried before `claim` for a type."""
        own = claim.best(type_)
        for rank, other, _ in self._by_type.get(type_, ()):
            if own is None or other is claim:
                continue
            theirs = (rank, _rank(other.source), not other.when, self._order[id(other)])
            if theirs < (own[0], _rank(claim.source), not claim.when, self._order[id(claim)]):
                yield other

    def _covers(self, other: Claim, claim: Claim) -> bool:
        """Whether `other` takes whatever `claim` would, as far as source and condition go."""
        if not other.takes_all:
            return False
        if other.source is None or other.source == claim.source:
            return True
        return claim.source is not None and not is_glob(claim.source) and fits(other.source, claim.source)


class _Candidates:
    """Claims that may fit a type, without asking every claim about every type."""

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        self._claims = claims
        self._exact: dict[str, list[int]] = {}
        globs: list[tuple[str, int]] = []
        for number, claim in enumerate(claims):
            for _, pattern in claim.patterns:
                if is_glob(pattern):
                    globs.append((pattern, number))
                else:
                    self._exact.setdefault(pattern, []).append(number)
        self._globs = GlobIndex(globs)

    def of(self, type_: str) -> Iterator[Claim]:
        numbers = {*self._exact.get(type_, ()), *(number for number, _ in self._globs.find(type_))}
        for number in sorted(numbers):
            yield self._claims[number]


def _example(pattern: str) -> str:
    """A type that a glob fits and that nobody would declare."""
    return ".".join(_ANY if "*" in segment else segment for segment in pattern.split("."))
