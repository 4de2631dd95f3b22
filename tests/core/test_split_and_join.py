"""Splitter with a join: items ask at the same time, as many as may; their results come together by index."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.core.run_world import RunWorld, catalog

SPLIT = """\
route: r
match: {type: asked}
steps:
- split:
    each: data.list
    parallel: 2
    steps:
    - call: {capability: grade, data: {item: "{{ data }}"}, into: vars.grade}
    - set: {data: "{{ vars.grade.text }}"}
    join: JOIN
    into: vars.out
to: {reply: ok, data: {out: "{{ vars.out }}"}}
"""


@pytest.fixture
def world(tmp_path: Path) -> Any:
    return lambda join: RunWorld(catalog(tmp_path, SPLIT.replace("JOIN", join)))


def items(w: RunWorld) -> list[Any]:
    return [each["data"]["item"] for each in w.requests]


def test_as_many_items_as_may_ask_at_a_time(world: Any) -> None:
    w = world("{policy: all, deadline: 1h}")
    w.send({"list": ["a", "b", "c", "d"]})
    assert items(w) == ["a", "b"]
    w.requests.reverse()
    w.answer("grade", {"text": "B"})
    assert items(w) == ["a", "c"]
    for text in "ACD":
        w.answer("grade", {"text": text})
    whole = {"results": ["A", "B", "C", "D"], "completeness": 1.0, "missing": [], "degraded": False}
    assert (w.heard(), w.memory) == ([{"out": whole}], {})


@pytest.mark.parametrize(
    ("join", "outcome"),
    [
        ("{policy: best_effort, deadline: 9s}", ["A", None, "C"]),
        ("{policy: all, deadline: 9s, on_deadline: partial}", "tool_error"),
        ("{policy: quorum, n: 2, deadline: 9s}", ["A", None, "C"]),
        ("{policy: any, deadline: 9s}", ["A", None, None]),
    ],
)
def test_an_item_that_fails_is_missing(world: Any, join: str, outcome: Any) -> None:
    w = world(join)
    w.send({"list": ["a", "b", "c"]})
    w.answer("grade", {"text": "A"})
    if w.requests:
        w.fail("grade", "tool_error")
    if w.requests:
        w.answer("grade", {"text": "C"})
    [heard] = w.heard()
    assert (heard["class"] if "class" in heard else heard["out"]["results"]) == outcome
    assert w.memory == {}


def test_late_items_are_missing_and_none_is_none(world: Any) -> None:
    w = world("{policy: best_effort, deadline: 9s}")
    w.send({"list": ["a", "b", "c"]})
    w.answer("grade", {"text": "A"})
    w.pass_time(9)
    out = w.heard()[0]["out"]
    assert (out["results"], out["missing"], out["completeness"]) == (["A", None, None], [1, 2], pytest.approx(1 / 3))
    w.send({"list": []}, id_="m2")
    assert (w.heard()[1]["out"]["results"], w.memory) == ([], {})


def test_a_thousand_items_stay_cheap(world: Any) -> None:
    w = world("{policy: all, deadline: 1h}")
    w.send({"list": list(range(1000))})
    took = []
    for n in range(1000):
        assert items(w)[0] == n
        began = time.process_time()
        w.answer("grade", {"text": "x" * 100})
        took.append(time.process_time() - began)
    print(f"a turn: {1e3 * sum(took[:50]) / 50:.2f} ms at first, {1e3 * sum(took[-50:]) / 50:.2f} ms at last")
    assert [len(each) for each in w.heard()[0]["out"]["results"]] == [100] * 1000
    # What items have come to is carried along, 130 bytes each, and the way to it is not.
    assert max(len(each.body or b"") for decision in w.decisions for each in decision.changes) < 160_000
