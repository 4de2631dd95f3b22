"""Matchers and diffs: what fits, and what a person is shown where it does not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.errors import ExpressionFailed
from bus.rehearsal.matching import (
    ABSENT,
    Absent,
    Anything,
    Equal,
    Every,
    Fields,
    Has,
    Holds,
    Items,
    Matcher,
    Matching,
    Near,
    OfType,
    compare,
    exactly,
    fits,
)
from tests.core.world import expr

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner),
)
BIG = Holds(expr("value > 3", lambda names: names["value"] > 3))


def fails(names: Any) -> Any:
    raise ExpressionFailed("no such field")


@pytest.mark.parametrize(
    ("matcher", "good", "bad"),
    [
        (Equal(1), [1, 1.0], [2, True, "1", None, ABSENT]),
        (Equal(True), [True], [1, False]),
        (Equal(None), [None], [ABSENT, 0, ""]),
        (Anything(), [None, 0, {}], [ABSENT]),
        (Absent(), [ABSENT], [None, 0]),
        (OfType("integer"), [1], [1.5, True, "1", ABSENT]),
        (OfType("number"), [1, 1.5], [True, None]),
        (OfType("array"), [[]], [{}]),
        (Matching(re.compile("^Sor")), ["Sorry"], ["So sorry", 1, ABSENT]),
        (Near(0.667, 0.001), [2 / 3], [0.7, "0.667", True, ABSENT]),
        (Has((Equal("a"), Equal("b"))), [["b", "x", "a"], "cab"], [["a"], "a", 7, ABSENT]),
        (Has((Fields({"id": Equal(1)}),)), [[{"id": 1, "n": 2}]], [[{"id": 2}], [], "id"]),
        (BIG, [4], [3, ABSENT]),
        (Holds(expr("value.x", fails)), [], [1]),
        (Every((OfType("string"), Matching(re.compile("x")))), ["x"], ["y", 1]),
        (Fields({"a": Equal(1), "b": Absent()}), [{"a": 1}, {"a": 1, "c": 2}], [{"a": 1, "b": None}, {}, [], ABSENT]),
        (Items((Equal(1), Anything())), [[1, 2]], [[1], [1, 2, 3], [2, 1], {}, ABSENT]),
        (exactly({"a": [1, {"b": 2}]}), [{"a": [1, {"b": 2}]}], [{"a": [1, {"b": 2, "c": 3}]}, {"a": [1]}]),
    ],
    ids=str,
)
def test_what_fits(matcher: Matcher, good: list[Any], bad: list[Any]) -> None:
    assert [each for each in good if not fits(matcher, each)] == []
    assert [each for each in bad if fits(matcher, each)] == []


@given(JSON, JSON)
def test_exactly_is_equality_and_every_diff_shows_both_sides(one: Any, other: Any) -> None:
    found = compare(exactly(one), other)
    marks = {each.mark for each in found.lines}
    assert (found.wrong == 0) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))
    assert (found.wrong > 0) == bool(marks & {"-", "+"})


def drawn(matcher: Matcher, actual: Any) -> list[str]:
    return [f"{each.mark} {'  ' * each.depth}{each.text}" for each in compare(matcher, actual).lines]


def test_a_diff_goes_down_to_what_differs() -> None:
    expected = Fields(
        {"found": Fields({"missing": Items((Equal("knowledge"),)), "score": Near(0.5, 0.1)}), "n": Equal(1)}
    )
    actual = {"found": {"missing": [], "score": 0.52, "late": True}, "n": 1, "extra": 0}
    assert drawn(expected, actual) == [
        "  found:",
        '-   missing: ["knowledge"]',
        "+   missing: []",
        "    score: 0.52",
        "    (not compared: late)",
        "  n: 1",
        "  (not compared: extra)",
    ]


def test_a_misspelt_field_is_pointed_at() -> None:
    assert drawn(Fields({"txt": Equal("x")}), {"text": "x"})[:2] == ['- txt: "x"', "+ txt: (absent; there is `text`)"]


def test_long_texts_get_a_mark_where_they_differ() -> None:
    lines = drawn(Equal("Please freeze your card"), "Please freeze the card")
    assert lines == ['- "Please freeze your card"', '+ "Please freeze the card"', "?                ^"]
    assert lines[1][lines[2].index("^")] == "t"


def test_what_is_as_expected_takes_one_line() -> None:
    many = dict.fromkeys("abcdef", 1)
    assert drawn(Fields({"inner": Fields({name: Equal(1) for name in many})}), {"inner": many}) == [
        "  inner: (as expected)"
    ]


def test_lists_show_what_is_missing_and_what_is_too_many() -> None:
    expected = Items((Fields({"id": Equal(1)}), Fields({"id": Equal(2)})))
    assert drawn(expected, [{"id": 1}]) == ["  [0]:", "    id: 1", "- [1]: {id: 2}"]
    assert drawn(expected, [{"id": 1}, {"id": 2}, {"id": 3}])[-1] == '+ [2]: {"id": 3}'
