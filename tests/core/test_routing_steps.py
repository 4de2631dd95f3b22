"""The steps that choose ways: what goes where, what is kept apart, and what is bounded."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.errors import StepFailed
from bus.core.message import Json
from bus.core.paths import find
from bus.core.registry import STEPS
from bus.core.work import MOST_ITEMS, Flow, OnError, Target
from tests.core.test_steps import do, work
from tests.core.world import carried, catalog, expr, flow, opened, route, run, structured, to_capability

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


@given(st.lists(st.lists(st.integers(), max_size=30), max_size=40))
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
    assert (failed.end, failed.reason) == ("dead_letter", "item 1: odd")
    assert [each.kind for each in failed.outputs] == ["dead", "agent"]
    assert decided((OnError((), None, "invalid"),), (OnError((), None, "continue"),)).end == "invalid"
    sorry = Flow((), (Target("reply", "error", "bus.failed", lambda names: names["error"]),))
    answered = decided((), (OnError((), None, sorry),))
    assert [(each.kind, opened(each)["data"]["reason"]) for each in answered.outputs] == [("agent", "item 1: odd")]
