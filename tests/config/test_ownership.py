"""Owners at load: the indexed way finds what comparing every pair finds, and looks at few pairs."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.config.finding import ConfigFinding, Findings
from bus.config.nodes import Scalar
from bus.config.ownership import Claim, Owners, check_owners
from bus.config.reader import Reader
from bus.config.source import Source
from bus.core.table import fits, is_glob, specificity

SOURCES = ("desk", "shop.a", "shop.b")
_TEXT = Source("r.yaml", "\n" * 10_000)


def claim(number: int, *types: str, source: str | None = None, when: str = "", labels: tuple[str, ...] = ()) -> Claim:
    """The claim of a route in line `number`; its types stand in columns of their own lines."""
    node = Scalar(_TEXT, number, number, f"r{number}", f"r{number}")
    patterns = [Scalar(_TEXT, number, number, each, each) for each in types]
    return Claim(node, tuple((each, each.text) for each in patterns), source, when, labels)


def found(claims: list[Claim], types: list[str]) -> tuple[ConfigFinding, ...]:
    findings = Findings()
    check_owners(claims, types, SOURCES, Reader(findings))
    return findings.sorted()


# --- the plain definition: every claim against every other, for every type ---


def example(pattern: str) -> str:
    return ".".join("~" if "*" in segment else segment for segment in pattern.split("."))


def best(each: Claim, type_: str) -> tuple[tuple[int, int, int], Scalar] | None:
    fitting = [(specificity(pattern), node) for node, pattern in each.patterns if fits(pattern, type_)]
    rank, node = min(fitting, key=lambda one: one[0]) if fitting else (None, None)
    return (rank, node) if rank is not None and isinstance(node, Scalar) else None


def overlap(one: str | None, other: str | None) -> bool:
    same = one == other or one is None or other is None
    return same or any(fits(str(one), each) and fits(str(other), each) for each in SOURCES)


def equal(one: Claim, other: Claim) -> bool:
    alike = one.when.split() == other.when.split() and sorted(one.labels) == sorted(other.labels)
    return alike and specificity(one.source) == specificity(other.source) and overlap(one.source, other.source)


def covers(other: Claim, one: Claim) -> bool:
    if other.labels or other.when not in ("", "true"):
        return False
    if other.source is None or other.source == one.source:
        return True
    return one.source is not None and not is_glob(one.source) and fits(other.source, one.source)


def before(other: Claim, one: Claim, type_: str, claims: list[Claim]) -> bool:
    theirs, own = best(other, type_), best(one, type_)
    if other is one or theirs is None or own is None:
        return False
    return (theirs[0], specificity(other.source), not other.when, claims.index(other)) < (
        own[0], specificity(one.source), not one.when, claims.index(one),
    )  # fmt: skip


def plain(claims: list[Claim], types: list[str]) -> tuple[ConfigFinding, ...]:
    findings, tied = Findings(), set()
    reader = Reader(findings)
    everything = sorted({*types, *(example(pattern) for each in claims for _, pattern in each.patterns)})
    for one, other in combinations(claims, 2):
        for type_ in everything:
            mine, theirs = best(one, type_), best(other, type_)
            if mine is not None and theirs is not None and mine[0] == theirs[0] and equal(one, other):
                tied |= {id(one), id(other)}
                what = f"{one.where} also owns `{theirs[1].text}`"
                reader.report(theirs[1], "two-owners", what, "a `when`, a `source`, or `observe: true`")
                break
    for one in (each for each in claims if id(each) not in tied):
        matched = [type_ for type_ in everything if best(one, type_) and "~" not in type_]
        takers = [
            next((each for each in claims if before(each, one, type_, claims) and covers(each, one)), None)
            for type_ in matched or [example(pattern) for _, pattern in one.patterns]
        ]
        if None not in takers and takers[0] is not None:
            what = f"{takers[0].where} takes every match"
            reader.report(one.node, "unreachable", what, "a narrower `type`, or delete this")
    return findings.sorted()


segments = st.sampled_from(["a", "b"])
names = st.lists(segments, min_size=1, max_size=3).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).flatmap(
    lambda head: st.sampled_from([head, [*head, "**"]]).map(".".join)
)
drawn = st.tuples(
    st.lists(patterns, min_size=1, max_size=3),
    st.sampled_from([None, None, "desk", "shop.a", "shop.*", "*.b", "**"]),
    st.sampled_from(["", "", "data.x", "data.x ", "data.y", "true"]),
    st.sampled_from([(), (), ("p",), ("q", "p"), ("p", "q")]),
)


@given(st.lists(drawn, max_size=6), st.lists(names, max_size=6))
def test_findings_are_those_of_comparing_every_pair(
    routes: list[tuple[list[str], str | None, str, tuple[str, ...]]], types: list[str]
) -> None:
    claims = [
        claim(number, *matched, source=source, when=when, labels=labels)
        for number, (matched, source, when, labels) in enumerate(routes)
    ]
    assert found(claims, types) == plain(claims, types)


class Counting(Owners):
    """Counts the pairs of claims that are looked at."""

    pairs = 0

    def overlap(self, one: str | None, other: str | None) -> bool:
        self.pairs += 1
        return super().overlap(one, other)

    def precedes(self, one: object, other: object) -> bool:
        self.pairs += 1
        return super().precedes(one, other)  # type: ignore[arg-type]


def looked_at(claims: list[Claim]) -> int:
    types = [pattern.replace("*", "x") for each in claims for _, pattern in each.patterns]
    owners = Counting(tuple(claims), types, SOURCES)
    assert list(owners.ties()) == []
    assert not any(owners.taken_by(each) for each in claims)
    return owners.pairs


@pytest.mark.parametrize("count", [10, 1000])
def test_routes_of_different_types_are_looked_at_one_by_one(count: int) -> None:
    claims = [claim(number, f"t{number}.placed" if number % 2 else f"t{number}.*") for number in range(count)]
    assert looked_at([*claims, claim(count, "**")]) <= 4 * (
        count + 1
    )  # each with the glob over all, in either order, twice


@pytest.mark.parametrize("count", [10, 1000])
def test_so_are_routes_of_one_type_with_different_conditions_or_sources(count: int) -> None:
    by_condition = [claim(number, "a.b", when=f"data.n == {number}") for number in range(count)]
    by_source = [claim(number, "a.b", source=f"agent-{number}") for number in range(count)]
    assert looked_at([*by_condition, claim(count, "a.b")]) <= 2 * (count + 1)
    assert looked_at([*by_source, claim(count, "a.b")]) <= 2 * (count + 1)
