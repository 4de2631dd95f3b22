"""Each step by itself: what it writes, when it ends the route, what it refuses to be built from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.errors import StepFailed
from bus.core.message import Json, Message
from bus.core.paths import drop, find, put
from bus.core.registry import STEPS
from bus.core.work import Ended, Flow, Target, Work
from tests.core.world import TEXT, expr


def work(data: Json, **more: Json) -> Work:
    message = Message({"specversion": "1.0", "id": "m", "source": "desk", "type": "t"}, data)
    return Work(message, {"data": data, "request": data, "vars": {}, "msg": {"type": "t"}, **more})


def do(kind: str, parsed: Any, on: Work) -> Ended | None:
    return STEPS[kind].build(parsed)(on)


def test_set_copies_what_it_changes() -> None:
    original: Json = {"a": {"b": 1}, "c": [1]}
    on = work(original)
    do("set", {("data", "a", "d"): lambda n: 2, ("vars", "x", "y"): lambda n: n["data"]["a"]["d"]}, on)
    assert on.names["data"] == {"a": {"b": 1, "d": 2}, "c": [1]}
    assert on.names["vars"] == {"x": {"y": 2}}
    assert on.names["request"] == original == {"a": {"b": 1}, "c": [1]}


def test_set_through_something_that_is_no_map_fails() -> None:
    with pytest.raises(StepFailed, match=r"`data\.a` is not a map"):
        do("set", {("data", "a", "b"): lambda n: 1}, work({"a": 3}))


def test_keep_and_remove() -> None:
    on = work({"a": {"b": 1, "c": 2}, "d": 3})
    do("remove", (("data", "a", "b"), ("data", "zz", "y")), on)
    assert on.names["data"] == {"a": {"c": 2}, "d": 3}
    do("keep", (("data", "a", "c"), ("data", "none")), on)
    assert on.names["data"] == {"a": {"c": 2}}
    with pytest.raises(ValueError, match="cannot be kept"):
        STEPS["keep"].build((("vars", "x"),))


def test_translate_replaces_and_renames() -> None:
    on = work({"a": 1})
    do("translate", {"data": lambda n: {"b": n["data"]["a"]}, "type": "u"}, on)
    assert on.names["data"] == {"b": 1}
    assert on.names["msg"] == {"type": "u"}


def test_filter_says_what_did_not_hold() -> None:
    condition = expr("data.n > 3", lambda names: names["data"]["n"] > 3)
    assert do("filter", condition, work({"n": 4})) is None
    assert do("filter", condition, work({"n": 3})) == Ended("filtered", "filter: data.n > 3 is false")


def test_render_writes_the_text_where_it_is_told() -> None:
    class Letter:
        name = "letter.j2"

        def render(self, names: Any) -> str:
            return f"Dear {names['data']['name']}"

    on = work({"name": "Ada"})
    assert do("render", {"template": Letter(), "into": ("vars", "mail", "text")}, on) is None
    assert on.names["vars"] == {"mail": {"text": "Dear Ada"}}
    assert on.notes == ["render letter.j2"]


def test_contract_names_the_field() -> None:
    assert do("contract", TEXT, work({"text": "x"})) is None
    with pytest.raises(StepFailed) as caught:
        do("contract", TEXT, work({}))
    assert caught.value.failure == "contract"
    assert caught.value.findings[0].pointer == "/text"


def test_choose_takes_the_first_case_that_holds() -> None:
    def sends(name: str) -> Flow:
        return Flow((), (Target("event", name, name),))

    def over(least: int) -> dict[str, Any]:
        return {"when": expr(f"n>{least}", lambda x: x["data"]["n"] > least), "flow": sends(f"over{least}")}

    cases = [over(10), over(5)]
    for value, sent in ((11, ["over10"]), (6, ["over5"]), (1, ["low"])):
        on = work({"n": value})
        ended = do("choose", {"cases": cases, "otherwise": sends("low")}, on)
        assert ended == Ended("sent")
        assert [each.target.name for each in on.sent] == sent
    assert do("choose", {"cases": cases}, work({"n": 1})) is None


def test_fail_says_what_the_author_wrote() -> None:
    with pytest.raises(StepFailed) as caught:
        do("fail", {"class": "refusal", "reason": lambda n: f"no {n['data']['x']}"}, work({"x": "dogs"}))
    assert (caught.value.failure, caught.value.reason) == ("refusal", "no dogs")


def test_recipients_must_be_distinct_and_no_reply() -> None:
    with pytest.raises(ValueError, match="twice"):
        STEPS["recipient_list"].build({"each": expr("x", lambda n: []), "allow": (Target("event", "a", "a"),) * 2})
    for kind, parsed in (
        ("recipient_list", {"each": expr("x", lambda n: []), "allow": (Target("reply", "ok", ""),)}),
        ("wire_tap", Target("reply", "ok", "")),
    ):
        with pytest.raises(ValueError, match="repl"):
            STEPS[kind].build(parsed)


keys = st.sampled_from("abc")
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)
paths = st.lists(keys, min_size=1, max_size=3).map(lambda parts: ("data", *parts))


@given(st.dictionaries(keys, trees), paths, st.integers())
def test_what_is_put_is_found_and_what_is_dropped_is_not(
    tree: dict[str, Any], path: tuple[str, ...], value: int
) -> None:
    names: dict[str, Json] = {"data": tree}
    before = repr(tree)
    try:
        put(names, path, value)
    except StepFailed:
        assert find({"data": tree}, path) == (False, None)
        return
    assert find(names, path) == (True, value)
    drop(names, path)
    assert find(names, path) == (False, None)
    assert repr(tree) == before
