"""Rules R1 to R7, hops, expiry and failures, through `decide` alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.actions import Decision, Delivery
from bus.core.facts import Limits
from bus.core.pipeline import decide
from bus.core.redelivery import bounced
from bus.core.route import MessageType
from bus.core.steps import fail, filter, recipient_list, wire_tap
from bus.core.table import RouteTable
from bus.core.work import Flow, OnError, Placed, Target
from tests.core.world import (
    FACTS,
    TEXT,
    carried,
    catalog,
    expr,
    flow,
    opened,
    raw,
    route,
    run,
    structured,
    to_capability,
)

GRADE = route("grade", "asked", flow(to=(to_capability("grade"),)))


def targets(decision: Decision) -> list[str]:
    return [output.target for output in decision.outputs]


def reply_to(
    request: dict[str, Any], data: Any, *, kind: str = "replied", source: str = "grader", **more: Any
) -> Delivery:
    echoed = {"replyto": request["replyto"], "conversationid": request["conversationid"]}
    said = {**echoed, "correlationid": request["id"], **more}
    return structured(f"grade.{kind}", data, source=source, id_=f"r-{request['id']}", **said)


def test_the_last_agent_answers_the_asker() -> None:
    asked = run(structured("asked", {"n": 1}, replyto="agent:desk", conversationid="c1"), catalog(GRADE))
    assert (asked.end, targets(asked), asked.why) == ("routed", ["capability:grade"], "exact type")
    request = opened(asked.outputs[0])
    assert request["type"] == "grade.requested"
    assert request["causationid"] == "m1"
    assert request["conversationid"] == "c1"
    assert request["data"] == {"n": 1}

    answered = run(reply_to(request, {"text": "good"}), catalog(GRADE))
    assert targets(answered) == ["agent:desk"]
    answer = opened(answered.outputs[0])
    assert (answer["correlationid"], answer["data"], answer["source"]) == ("m1", {"text": "good"}, "grader")


def test_an_agents_failure_reaches_the_asker_as_data() -> None:
    asked = run(structured("asked", {}, replyto="agent:desk"), catalog(GRADE))
    said = {"class": "rate_limit", "reason": "busy"}
    told = run(reply_to(opened(asked.outputs[0]), said, kind="failed"), catalog(GRADE))
    failed = opened(told.outputs[0])
    assert targets(told) == ["agent:desk"]
    assert failed["type"] == "bus.failed"
    assert (failed["data"]["class"], failed["data"]["reason"], failed["data"]["agent"]) == (
        "rate_limit",
        "busy",
        "grader",
    )


def test_without_an_asker_an_answer_becomes_an_event() -> None:
    wanted = route("join", "grade.replied", flow(to=(to_capability("other"),)))
    asked = run(structured("asked", {}), catalog(GRADE, wanted))
    answered = run(reply_to(opened(asked.outputs[0]), {"text": "good"}), catalog(GRADE, wanted))
    assert (answered.route, targets(answered)) == ("t/join", ["capability:other"])
    nobody = run(reply_to(opened(asked.outputs[0]), {"text": "good"}), catalog(GRADE))
    assert (nobody.end, targets(nobody)) == ("dead_letter", ["dead", "agent:grader"])


@pytest.mark.parametrize("forged", ["agent:desk!m1!00", "agent:desk", "", None, 7])
def test_an_answer_nobody_asked_for_is_refused(forged: Any) -> None:
    asked = run(structured("asked", {}, replyto="agent:desk"), catalog(GRADE))
    request = {**opened(asked.outputs[0]), "replyto": forged}
    decision = run(reply_to(request, {"text": "x"}), catalog(GRADE))
    assert (decision.end, decision.why) == ("invalid", "unsolicited-reply")


def test_an_answer_to_another_request_is_refused() -> None:
    first = opened(run(structured("asked", {}, replyto="agent:desk", id_="a"), catalog(GRADE)).outputs[0])
    second = opened(run(structured("asked", {}, replyto="agent:desk", id_="b"), catalog(GRADE)).outputs[0])
    crossed = run(reply_to({**second, "replyto": first["replyto"]}, {"text": "x"}), catalog(GRADE))
    assert crossed.why == "unsolicited-reply"


def test_an_answer_keeps_to_the_conversation_and_sets_no_fence() -> None:
    request = opened(run(structured("asked", {}, replyto="agent:desk"), catalog(GRADE)).outputs[0])
    elsewhere = reply_to({**request, "conversationid": "other"}, {"text": "x"})
    assert run(elsewhere, catalog(GRADE)).why == "unsolicited-reply"
    for name, why in (
        ("fence", "unsolicited-reply"),
        ("attempt", "reserved-attribute"),
        ("redrive", "reserved-attribute"),
    ):
        more: dict[str, Any] = {name: 1}
        assert run(reply_to(request, {"text": "x"}, **more), catalog(GRADE)).why == why


@pytest.mark.parametrize("late", [{"expirytime": "2027-01-15T07:59:59Z"}, {"hopsleft": 0}])
def test_an_answer_that_comes_too_late_is_told_to_the_asker_and_to_the_agent(late: dict[str, Any]) -> None:
    request = opened(run(structured("asked", {}, replyto="agent:desk"), catalog(GRADE)).outputs[0])
    told = run(reply_to(request, {"text": "x"}, **late), catalog(GRADE))
    assert targets(told) == ["dead", "agent:desk", "agent:grader"]
    assert [opened(each)["correlationid"] for each in told.outputs[1:]] == ["m1", f"r-{request['id']}"]


def test_an_answer_after_the_askers_deadline_is_late_whatever_the_agent_says_of_it() -> None:
    asked = structured("asked", {}, replyto="agent:desk", expirytime="2027-01-15T08:00:01Z")
    request = opened(run(asked, catalog(GRADE)).outputs[0])
    for seconds, end in ((0.5, "routed"), (1.0, "expired"), (3.5, "expired")):
        for more in ({}, {"expirytime": "2999-01-01T00:00:00Z"}):
            facts = replace(FACTS, now_s=FACTS.now_s + seconds)
            decision = run(reply_to(request, {"text": "x"}, **more), catalog(GRADE), facts)
            assert decision.end == end
            assert end == "routed" or targets(decision) == ["dead", "agent:desk", "agent:grader"]
    assert "2.5 s after the deadline" in decision.reason
    failed = reply_to(request, {"class": "timeout", "reason": "slow"}, kind="failed")
    assert targets(run(failed, catalog(GRADE), replace(FACTS, now_s=FACTS.now_s + 9))) == ["agent:desk"]
    for until in ("", "1800000009000"):  # nor can an agent take more time
        forged = {**request, "replyto": request["replyto"].replace("!1800000001000!", f"!{until}!")}
        assert forged["replyto"] != request["replyto"]
        assert run(reply_to(forged, {"text": "x"}), catalog(GRADE)).why == "unsolicited-reply"


def test_a_reply_that_breaks_its_contract_is_told_to_both() -> None:
    asked = run(structured("asked", {}, replyto="agent:desk"), catalog(GRADE))
    broken = run(reply_to(opened(asked.outputs[0]), {"txt": 1}), catalog(GRADE))
    assert (broken.end, targets(broken)) == ("invalid", ["invalid", "agent:grader", "agent:desk"])
    for output in broken.outputs[1:]:
        assert opened(output)["data"]["findings"] == [{"pointer": "/text", "expected": "string", "got": "'nothing'"}]


def test_a_contract_broken_on_entry_names_every_field() -> None:
    typed = {"asked": MessageType("asked", TEXT)}
    decision = run(structured("asked", {"txt": "x"}), catalog(GRADE, types=typed))
    assert (decision.end, decision.why, targets(decision)) == ("invalid", "contract", ["invalid", "agent:desk"])
    assert decision.outputs[0].headers["bus-code"] == "contract"
    assert decision.outputs[0].body == structured("asked", {"txt": "x"}).body
    assert opened(decision.outputs[1])["data"]["message"] == {"id": "m1", "type": "asked"}


@pytest.mark.parametrize(
    ("delivery", "end", "code"),
    [
        (raw(b"{no"), "invalid", "not-json"),
        (raw(b"[" * 100), "invalid", "not-json"),
        (structured("asked", {"d": [[[[1]]]]}), "invalid", "too-deep"),
        (structured("asked", {"t": "x" * 3000}), "invalid", "too-big"),
        (structured("asked", {}, source="stranger"), "invalid", "unknown-agent"),
        (structured("asked", {}, source="bus"), "invalid", "unknown-agent"),
        (structured("forged", {}), "invalid", "not-published"),
        (structured("grade.replied", {}), "invalid", "not-published"),
        (structured("asked", {}, redrive=1), "invalid", "reserved-attribute"),
        (structured("asked", {}, conversationid="c" * 256), "invalid", "bad-attribute"),
        (structured("asked", {}, id_="\u00e9" * 128), "invalid", "bad-attribute"),
        (structured("asked", {}, source="cli", replyto="client:" + "a" * 65), "invalid", "bad-return-address"),
        (structured("asked", {}, replyto="agent:other"), "invalid", "bad-return-address"),
        (structured("asked", {}, expirytime="2027-01-15T07:59:59Z"), "expired", "expired"),
        (structured("asked", {}, hopsleft=0), "dead_letter", "hops"),
        (structured("ping", {}), "dead_letter", "no_route"),
    ],
)
def test_bad_input_ends_in_its_channel(delivery: Delivery, end: str, code: str) -> None:
    facts = replace(FACTS, limits=Limits(body_bytes=2000, depth=5))
    decision = run(delivery, catalog(GRADE), facts)
    assert decision.failure is not None
    assert (decision.end, decision.failure.code) == (end, code)
    assert decision.outputs[0].kind == ("invalid" if end == "invalid" else "dead")
    assert decision.outputs[0].body == delivery.body
    assert decision.outputs[0].headers["bus-reason"]
    assert len(decision.reason) > 15


def test_whoever_sent_bytes_is_told_when_amqp_says_who() -> None:
    decision = run(raw(b"nope", reply_to="client:ab12"), catalog(GRADE))
    assert targets(decision) == ["invalid", "client:ab12"]
    assert targets(run(raw(b"nope", reply_to="agent:stranger"), catalog(GRADE))) == ["invalid"]
    unreadable = structured("asked", {"deep": orjson.loads("[" * 90 + "]" * 90)})
    assert targets(run(unreadable, catalog(GRADE))) == ["invalid", "agent:desk"]
    assert targets(run(unreadable, catalog(GRADE), replace(FACTS, identity="broker"))) == ["invalid"]


def test_strict_identity_believes_only_the_broker() -> None:
    facts = replace(FACTS, identity="broker")
    mine = structured("asked", {})._replace(user_id="desk")
    assert run(mine, catalog(GRADE), facts).end == "routed"
    for user in (None, "grader", "agents"):
        assert run(mine._replace(user_id=user), catalog(GRADE), facts).why == "not-you"
    stranger = structured("asked", {}, source="mallory")  # who may be declared by the time it is redriven
    assert run(stranger._replace(user_id="desk"), catalog(GRADE), facts).why == "not-you"
    assert run(stranger._replace(user_id="mallory"), catalog(GRADE), facts).why == "unknown-agent"


def test_hops_count_down_to_an_end() -> None:
    loop = route("loop", "order.again", flow(to=(Target("event", "order.again", "order.again", to_route=True),)))
    delivery, seen = structured("order.again", {}, hopsleft=3), 0
    while (decision := run(delivery, catalog(loop))).end == "routed":
        delivery, seen = carried(decision.outputs[0]), seen + 1
    assert seen == 3
    assert decision.failure is not None
    assert decision.failure.code == "hops"
    back = run(structured("order.again", {}, hopsleft=0), catalog(loop)).outputs[-1]
    assert (back.target, opened(back)["hopsleft"]) == ("agent:desk", 0)  # or its agent could not read it


def test_a_route_passes_the_return_address_through_an_event() -> None:
    first = route("first", "asked", flow(to=(Target("event", "order.in", "order.in", to_route=True),)))
    second = route("second", "order.in", flow(to=(to_capability("grade"),)))
    made = catalog(first, second)
    hop = run(structured("asked", {}, replyto="agent:desk"), made)
    assert targets(hop) == ["ingress:order.in"]
    request = opened(run(carried(hop.outputs[0]), made).outputs[0])
    answer = run(reply_to(request, {"text": "x"}), made)
    assert targets(answer) == ["agent:desk"]
    assert opened(answer.outputs[0])["correlationid"] == "m1"


def test_copies_of_a_recipient_list_cannot_answer_the_asker() -> None:
    allow = (to_capability("grade"), to_capability("other"))
    step = recipient_list.build({"each": expr("list", lambda n: n["data"]["to"]), "allow": allow})
    made = catalog(route("fan", "asked", flow(("recipient_list", step))))
    fanned = run(structured("asked", {"to": ["grade", "other", "grade"]}, replyto="agent:desk"), made)
    assert targets(fanned) == ["capability:grade", "capability:other"]
    for output in fanned.outputs:
        assert "desk" not in opened(output)["replyto"]
    refused = run(structured("asked", {"to": ["grade", "elsewhere"]}), made)
    assert (refused.end, targets(refused)) == ("dead_letter", ["dead", "agent:desk"])


def test_subscribers_get_the_event_and_observers_a_copy() -> None:
    watch = route("watch", "news.*", flow(to=(to_capability("grade"),)), observe=True)
    broken = route("broken", "news.**", flow(("fail", fail.build({"class": "internal", "reason": lambda n: "x"}))),
                   observe=True)  # fmt: skip
    decision = run(structured("news.today", {"a": 1}, source="other"), catalog(watch, broken))
    assert decision.end == "routed"
    assert targets(decision) == ["capability:grade", "event:news.today"]
    assert any("broken failed" in note for note in decision.steps)


def test_error_rules_step_then_route_first_that_fits() -> None:
    boom = fail.build({"class": "tool_error", "reason": lambda n: "boom"})
    seen = Flow((), (Target("event", "order.failed", "order.failed", to_subscribers=True),))
    rules = (OnError(("timeout",), None, "invalid"), OnError((), None, seen))
    by_route = route("r", "asked", flow(("fail", boom), to=(to_capability("grade"),)), on_error=rules)
    assert targets(run(structured("asked", {}), catalog(by_route))) == ["event:order.failed"]

    step = Placed("x", "fail", boom, on_error=(OnError(("tool_error",), None, "continue"),))
    by_step = route("r", "asked", Flow((step,), (to_capability("grade"),)), on_error=rules)
    assert targets(run(structured("asked", {}), catalog(by_step))) == ["capability:grade"]

    reply = route("r", "asked", flow(("fail", boom)), on_error=(OnError((), None, "reply"),))
    told = run(structured("asked", {}, replyto="agent:desk"), catalog(reply))
    assert (told.end, targets(told)) == ("routed", ["agent:desk"])


def test_a_payload_that_breaks_the_targets_contract_never_leaves() -> None:
    strict = route("r", "asked", flow(to=(to_capability("grade", TEXT),)))
    decision = run(structured("asked", {"n": 1}), catalog(strict))
    assert (decision.end, targets(decision)) == ("invalid", ["invalid", "agent:desk"])
    tap = wire_tap.build(to_capability("other", TEXT))
    tapped = route("r", "asked", flow(("wire_tap", tap), to=(to_capability("grade"),)))
    assert targets(run(structured("asked", {"n": 1}), catalog(tapped))) == ["capability:grade"]


def test_filtered_is_an_end_with_a_reason() -> None:
    step = filter.build(expr("data.n > 3", lambda n: n["data"]["n"] > 3))
    made = catalog(route("r", "asked", flow(("filter", step), to=(to_capability("grade"),))))
    decision = run(structured("asked", {"n": 1}), made)
    assert (decision.end, decision.outputs, decision.reason) == ("filtered", (), "filter: data.n > 3 is false")
    assert run(structured("asked", {"n": 4}), made).end == "routed"
    assert run(structured("asked", {}), made).end == "dead_letter"


def test_a_deadline_rides_on_what_is_sent() -> None:
    timed = replace(GRADE, deadline_s=2.0)
    request = run(structured("asked", {}), catalog(timed)).outputs[0]
    assert request.expires_ms == 2000
    assert opened(request)["expirytime"] == "2027-01-15T08:00:02.000Z"
    sooner = run(structured("asked", {}, expirytime="2027-01-15T08:00:01Z"), catalog(timed)).outputs[0]
    assert sooner.expires_ms == 1000


def test_word_of_an_expiry_does_not_expire_itself() -> None:
    late = structured("asked", {}, replyto="agent:desk", expirytime="2027-01-15T07:59:59Z")
    told = run(late, catalog(GRADE)).outputs[1]
    assert (told.target, told.expires_ms) == ("agent:desk", None)
    assert "expirytime" not in opened(told)


def test_an_event_that_nobody_wants_on_purpose_is_not_published() -> None:
    quiet = route("r", "asked", flow(to=(Target("event", "order.noted", "order.noted"),)))
    assert run(structured("asked", {}), catalog(quiet)).outputs == ()


def redriven(delivery: Delivery) -> Delivery:
    """As `bus dlq redrive` publishes it."""
    body = orjson.dumps({**orjson.loads(delivery.body), "redrive": 1})
    return delivery._replace(body=body, user_id="bus")


def test_a_redriven_request_goes_to_its_capability_and_answers_the_first_asker() -> None:
    request = run(structured("asked", {}, replyto="agent:desk"), catalog(GRADE)).outputs[0]
    again = run(redriven(carried(request)), catalog(GRADE))
    assert (again.end, targets(again)) == ("routed", ["capability:grade"])
    assert again.outputs[0].id != request.id
    assert opened(again.outputs[0])["redrive"] == 1  # or nobody would know, were this one to come back
    answer = run(reply_to(opened(again.outputs[0]), {"text": "x"}), catalog(GRADE))
    assert (targets(answer), opened(answer.outputs[0])["correlationid"]) == (["agent:desk"], "m1")


def test_what_is_redriven_without_its_deadline_is_answered_after_it() -> None:
    asked = structured("asked", {}, replyto="agent:desk", expirytime="2027-01-15T08:00:01Z")
    late = replace(FACTS, now_s=FACTS.now_s + 60)
    request = run(asked, catalog(GRADE)).outputs[0]
    kept = opened(request)
    answer = reply_to(kept, {"text": "x"})
    assert run(answer, catalog(GRADE), late).end == "expired"
    assert targets(run(redriven(answer), catalog(GRADE), late)) == ["agent:desk"]
    body = orjson.dumps({name: value for name, value in kept.items() if name != "expirytime"})
    again = run(redriven(carried(request)._replace(body=body)), catalog(GRADE), late).outputs[0]
    assert targets(run(reply_to(opened(again), {"text": "x"}), catalog(GRADE), late)) == ["agent:desk"]


def test_a_redrive_makes_no_stranger_known() -> None:
    assert run(redriven(structured("asked", {}, source="mallory")), catalog(GRADE)).why == "unknown-agent"
    assert run(redriven(structured("forged", {})), catalog(GRADE)).why == "not-published"
    assert run(redriven(structured("asked", {}, replyto="agent:desk")), catalog(GRADE)).end == "routed"


def test_a_letter_tells_who_sent_what_expired_before_anybody_looked() -> None:
    forged = structured("asked", {}, source="bus")._replace(headers={"x-first-death-reason": "expired"})
    aside = bounced(forged, FACTS).outputs[0]
    assert (aside.kind, aside.headers["bus-source"], aside.headers["bus-user"]) == ("dead", "bus", "agents")


def test_another_routing_key_costs_one_recorded_hop() -> None:
    stray = structured("asked", {}, conversationid="c1")._replace(routing_key="elsewhere")
    hop = run(stray, catalog(GRADE))
    assert (hop.why, targets(hop), hop.outputs[0].conversation) == ("re-keyed", ["ingress:asked"], "c1")
    assert run(carried(hop.outputs[0]), catalog(GRADE)).route == "t/grade"


def test_an_id_is_its_senders_own() -> None:
    made = catalog(route("grade", "asked", flow(to=(to_capability("grade"),))))
    sent = [
        structured("asked", {"n": 1}, source=source, id_="order-1", conversationid=conversation)
        for source, conversation in (("desk", "c1"), ("desk", "c2"), ("cli", "c1"))
    ]
    ids = [run(each, made).outputs[0].id for each in sent]
    assert len(set(ids)) == 3  # an agent drops what comes under an id that it knows
    assert ids == [run(each, made).outputs[0].id for each in sent]


def test_the_trace_goes_on() -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    output = run(structured("asked", {}, traceparent=parent), catalog(GRADE)).outputs[0]
    assert opened(output)["traceparent"] == f"00-{'a' * 32}-{output.id[:16]}-01"
    fresh = opened(run(structured("asked", {}), catalog(GRADE)).outputs[0])["traceparent"]
    assert len(fresh) == 55


def test_deciding_again_decides_the_same() -> None:
    table = RouteTable(catalog(GRADE))
    delivery = structured("asked", {"n": [1, 2]}, replyto="agent:desk")
    assert decide(delivery, table, FACTS) == decide(delivery, table, FACTS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(
    st.binary()
    | json_values.map(lambda v: orjson.dumps(v, default=str, option=orjson.OPT_NON_STR_KEYS) if _dumps(v) else b"")
)
def test_nothing_an_agent_sends_makes_decide_raise(body: bytes) -> None:
    assert run(raw(body), catalog(GRADE)).end == "invalid"


NAMES = (
    "replyto", "hopsleft", "expirytime", "correlationid", "traceparent", "labels", "conversationid", "redrive",
    "attempt", "time",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), json_values), json_values)
def test_no_attribute_makes_decide_raise(attributes: dict[str, Any], data: Any) -> None:
    if not (_dumps(attributes) and _dumps(data)):
        return
    for type_, source in (("asked", "desk"), ("grade.replied", "grader"), ("grade.failed", "grader"), ("x", "cli")):
        assert run(structured(type_, data, source=source, **attributes), catalog(GRADE)).end


def _dumps(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
