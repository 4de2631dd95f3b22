"""Steps that runs share: Aggregator and Resequencer, in any order of arrival; nothing is left over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core.table import RouteTable
from tests.core.run_world import RunWorld, catalog

AGGREGATE = """\
route: r
match: {type: asked}
serial_by: data.order
steps:
- aggregate: {by: data.order, complete: COMPLETE, join: {deadline: 10s, on_deadline: HOW}, into: vars.all}
- call: {capability: other, data: "{{ vars.all }}", into: vars.x}
to: {reply: ok, data: {order: "{{ data.order }}", all: "{{ vars.all }}"}}
"""


@pytest.fixture
def aggregated(tmp_path: Path) -> Any:
    def make(complete: str, how: str = "fail") -> RunWorld:
        return RunWorld(catalog(tmp_path, AGGREGATE.replace("COMPLETE", complete).replace("HOW", how)))

    return make


def test_a_group_goes_on_as_one(aggregated: Any) -> None:
    w = aggregated("{count: data.of}")
    ends = []
    for n, order in enumerate(("a", "b", "a", "a", "b")):
        w.send({"order": order, "n": n, "of": 3}, id_=f"m{n}")
        ends.append(w.decisions[-1].end)
    assert ends == ["waiting", "waiting", "consumed", "consumed", "consumed"]
    w.pass_time(0)
    [request] = w.requests
    assert [each["n"] for each in request["data"]["results"]] == [0, 2, 3]
    w.answer("other", 1)
    [heard] = w.heard()
    assert (heard["order"], heard["all"]["completeness"], heard["all"]["degraded"]) == ("a", 1.0, False)


def test_a_group_that_is_not_complete_in_time(aggregated: Any) -> None:
    w = aggregated("{count: data.of}", "partial")
    for n in range(2):
        w.send({"order": "a", "n": n, "of": 4}, id_=f"m{n}")
    w.pass_time(9.9)
    assert w.requests == []
    w.pass_time(0.1)
    found = w.requests[0]["data"]
    assert ([each["n"] for each in found["results"]], found["missing"], found["completeness"]) == ([0, 1], [2, 3], 0.5)
    w.answer("other", 1)
    assert (len(w.heard()), w.memory) == (1, {})
    w = aggregated("{when: data.last}")
    w.send({"order": "a", "last": False})
    w.pass_time(10)
    assert (w.heard()[0]["class"], w.heard()[0]["code"], w.memory) == ("timeout", "join", {})


def test_the_next_group_begins_when_one_is_complete(aggregated: Any) -> None:
    w = aggregated("{when: data.last}")
    for n, last in enumerate((False, True, False, False, True)):
        w.send({"order": "a", "n": n, "last": last}, id_=f"m{n}")
    w.pass_time(0)
    w.answer("other", 1)
    w.pass_time(0)
    w.answer("other", 1)
    assert [[each["n"] for each in heard["all"]["results"]] for heard in w.heard()] == [[0, 1], [2, 3, 4]]
    assert w.memory == {}


def test_a_group_whose_owner_has_failed_has_another(tmp_path: Path) -> None:
    routes = AGGREGATE.replace("COMPLETE", "{count: '3'}").replace("HOW", "fail")
    routes = routes.replace(
        "steps:", "deadline: 20s\nsteps:\n- call: {capability: third}\n  when: data.?long.orValue(false)", 1
    )
    w = RunWorld(catalog(tmp_path, routes.replace("deadline: 10s", "deadline: 15s")))
    for n in (0, 1):
        w.send({"order": "a", "n": n}, id_=f"m{n}")
        w.pass_time(1)
    w.send({"order": "a", "n": 2, "long": True}, id_="m2")  # has the turn when the owner's time is over
    w.pass_time(19)
    assert [each["class"] for each in w.heard()] == ["timeout"]
    w.answer("third", 1)
    w.pass_time(0)
    w.send({"order": "a", "n": 3}, id_="m3")
    w.pass_time(0)
    assert sorted(each["n"] for each in w.requests[0]["data"]["results"]) == [1, 2, 3]
    w.answer("other", 1)
    assert w.memory == {}


def test_groups_of_a_conversation(tmp_path: Path) -> None:
    routes = AGGREGATE.replace("serial_by: data.order\n", "").replace("by: data.order", "by: msg.conversationid")
    w = RunWorld(catalog(tmp_path, routes.replace("COMPLETE", "{when: data.last}").replace("HOW", "fail")))
    for n, (conversation, last) in enumerate((("a", False), ("b", False), ("a", True), ("a", False), ("a", True))):
        w.send({"order": conversation, "n": n, "last": last}, id_=f"m{n}", conversationid=conversation)
    w.pass_time(0)
    groups = sorted([each["n"] for each in request["data"]["results"]] for request in w.requests)
    assert groups == [[0, 2], [3, 4]]


def test_adding_to_a_group_costs_the_same_however_large_it_is(aggregated: Any) -> None:
    w = aggregated("{count: '300'}")
    sizes = []
    for n in range(299):
        w.send({"order": "a", "n": n, "text": "x" * 500}, id_=f"m{n}")
        sizes.append(sum(len(each.body or b"") for each in w.decisions[-1].changes))
    assert sizes[-1] < 1.2 * sizes[1]


def test_a_group_is_bounded(aggregated: Any) -> None:
    w = aggregated("{count: '1000'}")
    for n in range(9):
        w.send({"order": "a", "text": "x" * 250_000}, id_=f"m{n}")
    assert w.heard()[0]["class"] == "refusal"


RESEQUENCE = """\
route: r
match: {type: asked}
serial_by: data.account
steps:
- resequence: {by: data.account, sequence: data.n, deadline: 30s, on_gap: HOW}
- call: {capability: other, data: {n: "{{ data.n }}"}, into: vars.x}
  when: data.?calls.orValue(false)
to: {reply: ok, data: {account: "{{ data.account }}", n: "{{ data.n }}"}}
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RouteTable]:
    return {how: catalog(tmp_path_factory.mktemp(how), RESEQUENCE.replace("HOW", how)) for how in ("fail", "release")}


def numbers(world: RunWorld) -> list[Any]:
    return [each.get("n", each.get("code")) for each in world.heard()]


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations([(account, n) for account in "ab" for n in range(1, 5)]),
    repeats=st.lists(st.integers(0, 7), max_size=3),
    how=st.sampled_from(["fail", "release"]),
    calls=st.booleans(),
)
def test_numbers_go_on_in_order_whatever_order_they_come_in(
    tables: dict[str, RouteTable], order: list[tuple[str, int]], repeats: list[int], how: str, calls: bool
) -> None:
    world = RunWorld(tables[how])
    for account, n in order:
        world.send({"account": account, "n": n, "calls": calls}, id_=f"{account}{n}")
        world.pass_time(1)
    asked: list[tuple[str, int]] = []
    while world.requests:
        asked += [(each["conversationid"][0], each["data"]["n"]) for each in world.requests]
        assert len({account for account, _ in asked[-len(world.requests) :]}) == len(world.requests)
        world.answer("other", 1)
        asked = asked[: len(asked) - len(world.requests)]
        world.pass_time(1)
    for account in "ab":
        assert [each["n"] for each in world.heard() if each["account"] == account] == [1, 2, 3, 4]
        if calls:
            assert [n for each, n in asked if each == account] == [1, 2, 3, 4]
    assert [key for key in world.memory if key.startswith("flow:") or "serial" in key] == []


def sent(world: RunWorld, *numbers: int, apart_s: float = 0) -> RunWorld:
    for n in numbers:
        world.send({"account": "a", "n": n}, id_=f"m{n}")
        world.pass_time(apart_s)
    return world


def test_a_gap_is_left_out_or_fails(tables: dict[str, RouteTable]) -> None:
    world = sent(RunWorld(tables["release"]), 1, 5, 3, 4, 8, apart_s=5)
    assert numbers(world) == [1]
    world.pass_time(15)
    assert numbers(world) == [1, 3, 4, 5]
    world.pass_time(15)
    assert numbers(sent(world, 9, 2, 10)) == [1, 3, 4, 5, 8, 9, 2, 10]
    world = sent(RunWorld(tables["fail"]), 1, 3, 4, apart_s=5)
    world.pass_time(25)
    assert numbers(world) == [1, "gap", "gap"]
    sent(world, 2, 3, 2)
    assert numbers(world) == [1, "gap", "gap", 2, 3, "late"]


def test_who_stands_in_line_has_come(tables: dict[str, RouteTable]) -> None:
    world = RunWorld(tables["fail"])
    for n in (1, 2, 4, 3):
        world.send({"account": "a", "n": n, "calls": True}, id_=f"m{n}")
    for _ in range(4):  # each call takes longer than a message waits for those before it
        world.pass_time(40)
        world.answer("other", 1)
        world.pass_time(0)
    assert numbers(world) == [1, 2, 3, 4]


def test_what_begins_in_the_middle_waits_once(tables: dict[str, RouteTable]) -> None:
    for how in ("fail", "release"):
        world = sent(RunWorld(tables[how]), 57, 56, 58, apart_s=5)
        assert numbers(world) == []
        world.pass_time(15)
        assert numbers(sent(world, 59)) == [56, 57, 58, 59]
