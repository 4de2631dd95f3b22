"""The step `claim_check` by itself: what it leaves behind, what it takes up again, and what it fails by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.blobs import BLOB, name_of, referred
from bus.core.errors import StepFailed
from bus.core.message import Json, Message
from bus.core.registry import STEPS
from bus.core.work import Work

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def work(data: Json, **more: Any) -> Work:
    message = Message({"specversion": "1.0", "id": "m", "source": "desk", "type": "t"}, data)
    return Work(message, {"data": data, "vars": {}, "msg": {}}, **more)


def do(on: Work, **parsed: Any) -> Work:
    STEPS["claim_check"].build(parsed)(on)
    return on


@given(json_values)
def test_claim_check_gives_back_what_it_took(value: Json) -> None:
    left = do(work({"x": value}), store=("data", "x"), over=0)
    (change,) = left.changes
    assert change.body is not None
    assert change.key == BLOB + name_of(change.body)
    assert orjson.loads(change.body) == value
    kept = {change.key: change.body}
    assert do(work(left.names["data"], recall=kept.get), fetch=("data", "x")).names["data"] == {"x": value}
    assert do(left, fetch=("data", "x")).names["data"] == {"x": value}  # in the same flow, before it is written


def test_claim_check_leaves_what_is_small_and_what_is_no_reference() -> None:
    small: list[Json] = [{"x": "a"}, {"y": 1}]
    for data in small:
        on = do(work(data), store=("data", "x"), over=3)
        assert (on.names["data"], on.changes) == (data, [])
    assert do(work({"x": "abcd"}), store=("data", "x"), over=3).changes
    others: list[Json] = ["plain", {"$blob": "sha256:zz", "size": 1}, {"$blob": name_of(b""), "size": 0, "more": 1}]
    for value in others:
        assert do(work({"x": value}), fetch=("data", "x")).names["data"] == {"x": value}
        assert referred(value) is None


def test_claim_check_of_the_whole_payload_is_a_reference_alone() -> None:
    on = do(work({"text": "x" * 100}), store=("data",), over=10)
    assert referred(on.names["data"]) == name_of(orjson.dumps({"text": "x" * 100}))


def test_claim_check_fails_as_unavailable_when_the_blob_is_gone_or_cannot_be_kept() -> None:
    reference: Json = {"$blob": name_of(b"1"), "size": 1}
    on = work({"x": reference})
    for broken in (on, replace(on, recall=lambda key: b"\xff no JSON")):
        with pytest.raises(StepFailed) as caught:
            do(broken, fetch=("data", "x"))
        assert caught.value.failure == "unavailable"
    with pytest.raises(StepFailed) as caught:
        do(work({"x": "abcd"}, stores_blobs=False), store=("data", "x"), over=0)
    assert caught.value.failure == "unavailable"


@pytest.mark.parametrize(
    "parsed", [{}, {"store": ("data",), "fetch": ("data",)}, {"fetch": ("data",), "over": 1}, {"over": 1}]
)
def test_claim_check_stores_or_fetches(parsed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"store|fetch"):
        STEPS["claim_check"].build(parsed)
