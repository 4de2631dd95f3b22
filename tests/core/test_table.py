"""R1: one owner a message, found at a cost that does not grow with the number of routes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bus.core.table import GlobIndex, RouteTable, fits, specificity
from tests.core.world import catalog, expr, flow, route

YES = expr("true", lambda n: True)


def owners(*routes: object, type_: str = "order.eu.placed", source: str = "desk") -> list[str]:
    return [each.name for each, _ in RouteTable(catalog(*routes)).find(type_, source).owners]  # type: ignore[arg-type]


def test_exact_then_longest_glob_then_source_then_when() -> None:
    made = [
        route("rest", "order.**", flow()),
        route("one", "order.*.placed", flow()),
        route("plain", "order.eu.placed", flow()),
        route("when", "order.eu.placed", flow(), when=YES),
        route("from-glob", "order.eu.placed", flow(), source="*"),
        route("from", "order.eu.placed", flow(), source="desk"),
        route("other", "order.eu.placed", flow(), source="other"),
    ]
    assert owners(*made) == ["t/from", "t/from-glob", "t/when", "t/plain", "t/one", "t/rest"]


def test_observers_stand_aside() -> None:
    found = RouteTable(catalog(route("a", "x", flow(), observe=True), route("b", "x", flow()))).find("x", "desk")
    assert [r.name for r, _ in found.owners] == ["t/b"]
    assert [r.name for r, _ in found.observers] == ["t/a"]


def test_why_says_what_matched() -> None:
    table = RouteTable(catalog(route("a", "x.*", flow(), source="desk", when=YES)))
    assert [why for _, why in table.find("x.y", "desk").owners] == ["glob x.*, source desk, when true"]


def test_subscribers_by_exact_type_and_glob() -> None:
    table = RouteTable(catalog())
    assert table.find("news.today", "desk").subscribers == ("other",)
    assert table.find("news", "desk").subscribers == ()
    assert table.find("news.today.late", "desk").subscribers == ()


segment = st.sampled_from(["a", "b", "c"])
names = st.lists(segment, min_size=1, max_size=4).map(".".join)
globs = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).flatmap(
    lambda head: st.sampled_from([head, [*head, "**"]]).map(".".join)
)


@given(st.lists(globs, max_size=8), names)
def test_the_index_finds_what_trying_each_glob_finds(patterns: list[str], name: str) -> None:
    def slow(glob: str) -> bool:
        pattern = re.escape(glob).replace(r"\*\*", r".+").replace(r"\*", r"[^.]+")
        return re.fullmatch(pattern, name) is not None

    index = GlobIndex((pattern, number) for number, pattern in enumerate(patterns))
    found = sorted(number for number, _ in index.find(name))
    assert found == [number for number, pattern in enumerate(patterns) if slow(pattern)]
    assert all(fits(pattern, name) == slow(pattern) for pattern in patterns)


def test_looking_up_touches_no_more_routes_when_there_are_more() -> None:
    few = GlobIndex((f"t{number}.*", number) for number in range(10))
    many = GlobIndex((f"t{number}.*", number) for number in range(10_000))
    assert _nodes_visited(few, "t5.x") == _nodes_visited(many, "t5.x")


def _nodes_visited(index: GlobIndex, name: str) -> int:
    visited = 0
    walk = index._walk

    def counting(*args: object) -> object:
        nonlocal visited
        visited += 1
        return walk(*args)  # type: ignore[arg-type]

    index._walk = counting  # type: ignore[method-assign, assignment]
    list(index.find(name))
    return visited


def test_hostile_types_do_not_fill_the_memory() -> None:
    table = RouteTable(catalog(route("a", "x", flow())))
    for number in range(10_000):
        table.find(f"t{number}", "desk")
    assert len(table._memory) <= 4096


def test_pairs_in_use_stay_remembered_while_hostile_types_pass() -> None:
    table = RouteTable(catalog(route("a", "x", flow())))
    found = table.find("x", "desk")
    for number in range(20_000):
        table.find(f"t{number}", "desk")
        if number % 1000 == 0:
            assert table.find("x", "desk") is found


def test_a_route_with_several_fitting_types_owns_once_by_the_best() -> None:
    table = RouteTable(catalog(route("a", "x.*", flow()), route("b", ("**", "x.*", "x.y"), flow())))
    assert [(each.name, why) for each, why in table.find("x.y", "desk").owners] == [
        ("t/b", "exact type"),
        ("t/a", "glob x.*"),
    ]


@given(st.lists(st.lists(globs, min_size=1, max_size=3), max_size=6), st.lists(globs, max_size=2), names)
def test_owners_are_those_of_the_rule_route_by_route(types: list[list[str]], sources: list[str], name: str) -> None:
    made = [
        route(str(number), tuple(patterns), flow(), source=sources[number] if number < len(sources) else None)
        for number, patterns in enumerate(types)
    ]
    ranks = []
    for number, each in enumerate(made):
        fitting = [specificity(pattern) for pattern in each.match.types if fits(pattern, name)]
        if fitting and (each.match.source is None or fits(each.match.source, "a")):
            ranks.append((min(fitting), specificity(each.match.source), number, each.name))
    found = RouteTable(catalog(*made)).find(name, "a").owners
    assert [each.name for each, _ in found] == [each for *_, each in sorted(ranks)]
