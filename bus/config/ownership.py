"""Rule R1 at load: every message has one owner.

Exact type, then longest glob, then `source`, then `when`; the order is that of `bus.core.table`. Two routes that stand
equal for some type are `two-owners`; a route before which others take every message that it matches is `unreachable`.
Two routes with different `when` are allowed to stand equal: the first one that is true, in file order, owns.

Only pairs that can matter are looked at: claims that fit the same type, and of these either alike in rank and condition
(ties), or one that takes everything from sources that the other has (takers). So the work grows with the routes, not
with their pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, TypeAlias

from bus.config.nodes import Node, Scalar
from bus.config.reader import Reader
from bus.core.table import GlobIndex, fits, is_glob, specificity

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

    @property
    def condition(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What else decides: equal for claims that are true for the same messages."""
        return tuple(self.when.split()), tuple(sorted(self.labels))


def check_owners(claims: Iterable[Claim], types: Iterable[str], sources: Iterable[str], reader: Reader) -> None:
    """Report ties and routes that nothing reaches.

    Args:
        claims: all routes that own (not those that observe), in file order.
        types: all known message types.
        sources: all known senders.
    """
    owners = Owners(tuple(claims), types, tuple(sources))
    tied: set[int] = set()
    for one, other, node in owners.ties():
        tied |= {id(one), id(other)}
        what = f"{one.where} also owns `{node.text if isinstance(node, Scalar) else '...'}`"
        reader.report(node, "two-owners", what, "a `when`, a `source`, or `observe: true`")
    for claim in owners.claims:
        before = owners.taken_by(claim) if id(claim) not in tied else None
        if before is not None:
            what = f"{before.where} takes every match"
            reader.report(claim.node, "unreachable", what, "a narrower `type`, or delete this")


class _Fit(NamedTuple):
    """A claim that fits a type: its best pattern's rank for it, that pattern's node, and its place in file order."""

    rank: _Rank
    node: Node
    number: int
    claim: Claim

    @property
    def order(self) -> tuple[_Rank, _Rank, bool, int]:
        """Smaller is tried before."""
        return self.rank, specificity(self.claim.source), not self.claim.when, self.number


class Owners:
    """Claims by the known types that they fit."""

    def __init__(self, claims: tuple[Claim, ...], types: Iterable[str], sources: tuple[str, ...]) -> None:
        self.claims = claims
        self._sources = sources
        self._by_type: dict[str, dict[int, _Fit]] = {}  # by the claim's id, in file order
        self._takers: dict[tuple[str, str | None], list[_Fit]] = {}  # those that take all, by type and their source
        self._glob_takers: dict[str, list[_Fit]] = {}  # and of these the ones whose source is a glob
        self._matched: dict[int, list[str]] = {}
        index = _Index(claims)
        # Patterns count as types of their own, so that equal globs tie even where no type is declared for them yet.
        examples = {_example(pattern) for claim in claims for _, pattern in claim.patterns}
        for type_ in sorted({*types, *examples}):
            found = self._by_type[type_] = {id(each.claim): each for each in index.fitting(type_)}
            for each in found.values():
                self._note_taker(type_, each)
                if type_ not in examples or _ANY not in type_:
                    self._matched.setdefault(id(each.claim), []).append(type_)

    def _note_taker(self, type_: str, fit: _Fit) -> None:
        source = fit.claim.source
        if fit.claim.takes_all:
            self._takers.setdefault((type_, source), []).append(fit)
            if source is not None and is_glob(source):
                self._glob_takers.setdefault(type_, []).append(fit)

    def ties(self) -> Iterator[tuple[Claim, Claim, Node]]:
        """Yield each two claims that stand equal for some type, with the second one's pattern for it."""
        seen: set[tuple[int, int]] = set()
        for fitting in self._by_type.values():
            for alike in _alike(fitting.values()) if len(fitting) > 1 else ():
                for (_, _, _, one), (_, node, _, other) in combinations(alike, 2):
                    pair = (id(one), id(other))
                    if pair not in seen and self.overlap(one.source, other.source):
                        seen.add(pair)
                        yield one, other, node

    def overlap(self, one: str | None, other: str | None) -> bool:
        """Whether some sender fits both sources."""
        if one == other or one is None or other is None:
            return True
        return any(fits(one, each) and fits(other, each) for each in self._sources)

    def taken_by(self, claim: Claim) -> Claim | None:
        """A claim of those that together take all of `claim`'s messages first, or None."""
        taker: Claim | None = None
        for type_ in self._matched.get(id(claim)) or [_example(pattern) for _, pattern in claim.patterns]:
            own = self._by_type[type_][id(claim)]
            before = [each for each in self._covering(claim, type_) if self.precedes(each, own)]
            if not before:
                return None
            taker = taker or min(before, key=lambda each: each.number).claim
        return taker

    def precedes(self, one: _Fit, other: _Fit) -> bool:
        """Whether the first is tried before the second."""
        return one.order < other.order

    def _covering(self, claim: Claim, type_: str) -> Iterator[_Fit]:
        """Claims that take whatever `claim` would, as far as type, source and condition go."""
        for source in {None, claim.source}:
            yield from self._takers.get((type_, source), ())
        if claim.source is not None and not is_glob(claim.source):
            for each in self._glob_takers.get(type_, ()):
                if fits(each.claim.source or "", claim.source):
                    yield each


def _alike(fitting: Iterable[_Fit]) -> Iterable[list[_Fit]]:
    """Those that tie if their sources overlap, together. Two exact sources overlap only when they are the same."""
    groups: dict[object, list[_Fit]] = {}
    for each in fitting:
        source = each.claim.source
        exact = source if source is not None and not is_glob(source) else None
        groups.setdefault((each.rank, specificity(source), exact, each.claim.condition), []).append(each)
    return groups.values()


class _Index:
    """Claims by pattern, to find those that fit a type without asking every one."""

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        self._exact: dict[str, list[_Fit]] = {}
        self._fits: list[_Fit] = []
        self._globs = GlobIndex()
        for number, claim in enumerate(claims):
            for node, pattern in claim.patterns:
                fit = _Fit(specificity(pattern), node, number, claim)
                if is_glob(pattern):
                    self._globs.add(pattern, len(self._fits))
                    self._fits.append(fit)
                else:
                    self._exact.setdefault(pattern, []).append(fit)

    def fitting(self, type_: str) -> list[_Fit]:
        """The claims that fit a type, in file order, each by its best pattern: of equals the first it lists."""
        globs = sorted(index for index, _ in self._globs.find(type_))
        best: dict[int, _Fit] = {}
        for fit in (*self._exact.get(type_, ()), *(self._fits[index] for index in globs)):
            known = best.get(fit.number)
            if known is None or fit.rank < known.rank:
                best[fit.number] = fit
        return [best[number] for number in sorted(best)]


def _example(pattern: str) -> str:
    """A type that a glob fits and that nobody would declare."""
    return ".".join(_ANY if "*" in segment else segment for segment in pattern.split("."))
