"""The steps that choose ways: what goes where, what is kept apart, and what is bounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.errors import StepFailed
from bus.core.message import Json
from bus.core.paths import find
from bus.core.registry import STEPS
from bus.core.work import MOST_ITEMS, Ended, Flow, OnError, Target
from tests.core.test_steps import do, work
from tests.core.world import FACTS, carried, catalog, expr, flow, opened, route, run, structured, to_capability

LIST = expr("data.list", lambda names: names["data"]["list"])
OUT = Target("event", "out", "out", to_subscribers=True)


def split(*, to: Target = OUT, **parsed: Any) -> Any:
    return STEPS["split"].build({"each": LIST, "flow": Flow((), (to,))} | parsed)


def test_items_have_data_index_and_a_copy_of_vars() -> None:
    def write(names: Any) -> Any:
        return names["vars"].get("seen", 0) + names["index"] + names["data"]

    inner = flow(
        ("set", STEPS["set"].build({("vars", "seen"): write})),
        to=(Target("event", "out", "out", lambda names: find(dict(names), ("vars", "seen"))[1]),),
    )
    on = work({"list": [10, 20]}, vars={"seen": 1})
    assert split(flow=inner)(on) is None
    assert [each.data for each in on.sent] == [11, 22]
    assert on.names["vars"] == {"seen": 1}
    assert on.names["data"] == {"list": [10, 20]}
    assert "index" not in on.names


@pytest.mark.parametrize(
    ("text", "lines"), [("", []), ("a", ["a"]), ("a\nb\n", ["a", "b"]), ("a\r\n\r\nb\u2028c", ["a", "", "b\u2028c"])]
)
def test_lines(text: str, lines: list[str]) -> None:
    on = work({"text": text})
    parsed = {"lines": expr("data.text", lambda names: names["data"]["text"]), "flow": Flow((), (OUT,))}
    do("split", parsed, on)
    assert [each.data for each in on.sent] == lines


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30), max_size=40))
def test_splits_within_splits_are_bounded_together(lists: list[list[int]]) -> None:
    inner = split(each=expr("data", lambda names: names["data"]))
    on = work(cast(Json, {"list": lists}))
    on.items_left = 100
    count = len(lists) + sum(map(len, lists))
    if count > 100:
        with pytest.raises(StepFailed, match=f"at most {MOST_ITEMS}"):
            split(flow=flow(("split", inner)))(on)
    else:
        split(flow=flow(("split", inner)))(on)
        assert [each.data for each in on.sent] == [item for items in lists for item in items]
        assert on.items_left == 100 - count


def test_a_large_message_is_not_sent_along_with_each_item() -> None:
    whole = Target("event", "out", "out", lambda names: names["request"], to_subscribers=True)
    heavy: Json = {"list": [*range(90)], "text": "x" * 200_000}
    with pytest.raises(StepFailed, match="the items come to more than 16 MiB"):
        split(to=whole)(work(heavy))
    on = work({"list": [*range(90)], "text": "x" * 100_000})
    split(to=whole)(on)
    assert len(on.sent) == 90


def test_copies_carry_no_return_address() -> None:
    made = catalog(route("r", "asked", flow(("split", split(to=to_capability("grade"))))))
    decision = run(structured("asked", {"list": [1, 2]}, replyto="agent:desk"), made)
    assert [(each.kind, opened(each)["data"]) for each in decision.outputs] == [("capability", 1), ("capability", 2)]
    answers = [
        run(
            structured("grade.replied", {"text": "x"}, source="grader", id_=f"a{number}", conversationid="m1",
                       correlationid=output.id, replyto=opened(output)["replyto"]),
            made,
        )
        for number, output in enumerate(decision.outputs)
    ]  # fmt: skip
    assert {answer.failure.code for answer in answers if answer.failure} == {"no_route"}  # an event, for nobody here
    assert len({output.id for output in decision.outputs}) == 2
    assert carried(decision.outputs[0]).body


def test_an_item_that_fails_asks_its_own_rules_then_those_of_the_route() -> None:
    def refuse_odd(work: Any) -> None:
        if work.names["data"] % 2:
            raise StepFailed("refusal", "odd")

    def decided(own: tuple[OnError, ...], routes: tuple[OnError, ...] = ()) -> Any:
        (placed,) = flow(("refuse", refuse_odd)).steps
        inner = Flow((type(placed)(placed.id, placed.kind, placed.run, None, own),), (OUT,))
        made = catalog(route("r", "asked", flow(("split", split(flow=inner))), on_error=routes))
        return run(structured("asked", {"list": [2, 3, 4]}, replyto="agent:desk"), made)

    assert [opened(each)["data"] for each in decided((OnError((), None, "continue"),)).outputs] == [2, 3, 4]
    failed = decided(())
    assert (failed.end, failed.reason) == ("dead_letter", "item 1: refuse#1: odd")
    assert [each.kind for each in failed.outputs] == ["dead", "agent"]
    assert decided((OnError((), None, "invalid"),), (OnError((), None, "continue"),)).end == "invalid"
    sorry = Flow((), (Target("reply", "error", "bus.failed", lambda names: names["error"]),))
    answered = decided((), (OnError((), None, sorry),))
    assert [(each.kind, opened(each)["data"]["reason"]) for each in answered.outputs] == [
        ("agent", "item 1: refuse#1: odd")
    ]


def by(field: str) -> Any:
    return expr(f"data.{field}", lambda names: names["data"][field])


def passes(percent: float, key: Json) -> bool:
    return do("sample", {"percent": percent, "by": by("k")}, work({"k": key})) is None


KEYS = st.one_of(st.text(), st.integers(-(2**53), 2**53), st.booleans(), st.none())


@given(KEYS, st.floats(0, 100), st.floats(0, 100))
def test_what_is_sampled_at_one_percentage_is_at_every_higher_one(key: Json, one: float, other: float) -> None:
    assert passes(min(one, other), key) <= passes(max(one, other), key)
    assert passes(100, key)
    assert not passes(0, key)


def test_a_sample_has_its_size_and_its_reason() -> None:
    assert sum(passes(20, number) for number in range(5000)) == pytest.approx(1000, rel=0.1)
    ended = do("sample", {"percent": 0}, work({}))
    assert ended == Ended("filtered", "sample: not among the 0 %")


def balanced(weights: dict[str, int], key: Json) -> str:
    branches = {
        name: {"weight": weight, "flow": Flow((), (Target("event", name, name),))} for name, weight in weights.items()
    }
    on = work({"k": key})
    assert do("load_balance", {"by": by("k"), "branches": branches}, on) == Ended("sent")
    return on.sent[0].target.name


WEIGHTS = st.fixed_dictionaries({name: st.integers(0, 100) for name in "abc"}).filter(lambda each: any(each.values()))


@given(WEIGHTS, KEYS, st.integers(1, 100))
def test_a_key_moves_only_to_or_from_the_branch_whose_weight_changes(
    weights: dict[str, int], key: Json, more: int
) -> None:
    before = balanced(weights, key)
    assert weights[before] > 0
    assert balanced(dict(reversed(weights.items())), key) == before
    assert balanced({**weights, "a": weights["a"] + more}, key) in (before, "a")


@pytest.mark.parametrize("weights", [{"a": 95, "b": 5}, {"a": 1, "b": 1, "c": 2}, {"a": 1, "b": 0}])
def test_branches_get_their_shares(weights: dict[str, int]) -> None:
    counts = Counter(balanced(weights, f"customer-{number}") for number in range(4000))
    for name, weight in weights.items():
        assert counts[name] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.025)


def test_a_detour_is_off_until_it_is_switched_on() -> None:
    detour = STEPS["detour"].build({"control": "check", "flow": Flow((), (OUT,))})
    on = work({})
    assert detour(on) is None
    on.controls = {"check": True, "other": False}
    assert detour(on) == Ended("sent")
    made = catalog(route("r", "asked", flow(("detour", detour), to=(to_capability("grade"),))))
    for controls, kind in (({}, "capability"), ({"check": False}, "capability"), ({"check": True}, "event")):
        assert run(structured("asked", {}), made, replace(FACTS, controls=controls)).outputs[0].kind == kind
    with pytest.raises(ValueError, match="no name of a control"):
        STEPS["detour"].build({"control": "{{ x }}", "flow": Flow()})
