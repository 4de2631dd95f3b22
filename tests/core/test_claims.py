"""Claims: who may ask whether a task is still to be done, and what the bus says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.actions import Delivery
from bus.core.address import ReturnAddress, seal
from bus.core.message import TASK_CLAIM
from tests.core.world import FACTS, catalog, flow, opened, route, run, structured, to_capability

CATALOG = catalog(route("grade", "asked", flow(to=(to_capability("grade"),))))
REQUEST = opened(run(structured("asked", {}, replyto="agent:desk", conversationid="c"), CATALOG).outputs[0])


def claim(data: Any = None, *, source: str = "grader", **more: Any) -> Delivery:
    task = {"correlationid": REQUEST["id"], "replyto": REQUEST["replyto"], "conversationid": "c"}
    return structured(TASK_CLAIM, data or {"capability": "grade"}, source=source, id_="k1", **{**task, **more})


@pytest.mark.parametrize(("answered", "verdict"), [(None, "go"), (7, "answered")])
def test_the_verdict_follows_from_whether_the_log_has_an_answer(answered: int | None, verdict: str) -> None:
    decision = run(claim(), CATALOG, replace(FACTS, answered=answered))
    (output,) = decision.outputs
    said = opened(output)
    assert (decision.end, output.target, said["type"]) == ("routed", "agent:grader", "bus.task.claimed")
    assert (said["correlationid"], said["data"]) == ("k1", {"task": REQUEST["id"], "verdict": verdict})
    assert ("number 7" in decision.why) == (answered == 7)


def test_the_verdict_may_go_to_a_private_inbox_and_nowhere_else() -> None:
    assert run(claim({"capability": "grade", "inbox": "client:ab12"}), CATALOG).outputs[0].target == "client:ab12"
    for inbox in ("agent:desk", "client:", "client:a b", "client:ab!m1!00", "", 7, ["client:ab"]):
        assert run(claim({"capability": "grade", "inbox": inbox}), CATALOG).why == "bad-return-address"


def test_the_verdict_does_not_go_to_the_asker_who_could_take_it_for_the_answer() -> None:
    asked = structured("asked", {}, source="cli", replyto="client:ab12", conversationid="c")
    request = opened(run(asked, CATALOG).outputs[0])
    said = claim(
        {"capability": "grade", "inbox": "client:ab12"}, correlationid=request["id"], replyto=request["replyto"]
    )
    assert run(said, CATALOG).why == "bad-return-address"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (claim(source="other"), "not-published"),  # has another capability
        (claim({"capability": "other"}, source="other"), "unsolicited-reply"),  # of another capability's task
        (claim({"capability": "other"}), "not-published"),
        (claim(["grade"]), "not-published"),
        (claim(source="desk"), "not-published"),  # has none at all
        (claim(source="cli"), "not-published"),
        (claim(source="nobody"), "unknown-agent"),
        (claim(replyto="agent:desk!m1!00"), "unsolicited-reply"),
        (claim(replyto=None), "unsolicited-reply"),
        (claim(correlationid="another"), "unsolicited-reply"),
        (claim(conversationid="another"), "unsolicited-reply"),
        (claim(fence=1), "unsolicited-reply"),
        (claim(attempt=1), "reserved-attribute"),
    ],
)
def test_only_an_agent_of_the_capability_that_was_given_the_task_may_claim_it(made: Delivery, why: str) -> None:
    decision = run(made, CATALOG)
    assert why in (decision.why, decision.end)


def test_a_fence_comes_back_as_it_was_sealed() -> None:
    fenced = seal(FACTS.seal, ReturnAddress("agent:desk", "m1"), REQUEST["id"], "grade.requested", "c", 2)
    for fence, end in ((2, "routed"), (1, "invalid"), (0, "invalid")):
        more: dict[str, Any] = {"fence": fence, "replyto": fenced}
        assert run(claim(**more), CATALOG).end == end
        reply = {"correlationid": REQUEST["id"], "conversationid": "c", **more}
        assert run(structured("grade.replied", {"text": "x"}, source="grader", **reply), CATALOG).end == end


def test_a_claim_is_decided_where_the_answer_to_its_task_is_recorded() -> None:
    decision = run(claim()._replace(routing_key="elsewhere"), CATALOG, replace(FACTS, answered=7))
    assert [output.target for output in decision.outputs] == ["ingress:bus.task.claim"]
    assert decision.outputs[0].conversation == "c"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={"capability": json_values, "inbox": json_values}) | json_values)
def test_nothing_in_a_claim_makes_decide_raise(data: Any) -> None:
    assert run(claim(data), CATALOG).end in ("routed", "invalid")
