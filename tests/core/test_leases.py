"""Leases: what may take long is watched over, and sent again under the next fence when its agent is silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from bus.core.actions import Output
from bus.core.facts import Facts, Leased
from bus.core.leases import MOST_TRIES, lapsed, lease_of
from bus.core.message import TASK_CLAIM, TASK_LAPSE
from bus.core.redelivery import bounced
from bus.core.route import Capability
from bus.core.work import Target
from tests.core.world import ANYTHING, FACTS, TEXT, carried, catalog, flow, opened, route, run, structured

LONG = replace(
    catalog(route("grade", "asked", flow(to=(Target("capability", "grade", "grade.requested", lease_s=60),)))),
    capabilities={"grade": Capability("grade", ANYTHING, TEXT, lease_s=60)},
)
REASON = "grader has not been heard of for 60 s"


def asked(**more: Any) -> tuple[Output, Output]:
    """The request and the lease that leave when `desk` asks."""
    request, lease = run(structured("asked", {"n": 1}, replyto="agent:desk", conversationid="c", **more), LONG).outputs
    return request, lease


def reply(request: dict[str, Any], **more: Any) -> Any:
    named = {"correlationid": request["id"], "replyto": request["replyto"], "conversationid": "c"}
    return structured("grade.replied", {"text": "x"}, source="grader", id_="r1", **{**named, **more})


def test_a_long_request_says_so_and_is_watched_over() -> None:
    request, lease = asked()
    assert (request.target, opened(request)["lease"]) == ("capability:grade", 60)
    assert (lease.target, lease.body, lease_of(lease)) == (f"lease:{request.id}", request.body, (request.id, 0, 60))


def test_when_it_runs_out_the_same_request_leaves_under_the_next_fence_and_only_that_can_be_answered() -> None:
    request, lease = asked()
    for fence in range(1, 3):
        _, decision = lapsed(lease, FACTS, REASON)
        again, lease = decision.outputs
        assert (decision.end, decision.why) == ("routed", f"lease of try {fence - 1} ran out: {REASON}")
        first, later = opened(request), opened(again)
        assert (again.target, again.id, later["fence"], later["lease"]) == ("capability:grade", request.id, fence, 60)
        assert {**later, "replyto": "", "fence": 0} == {**first, "replyto": "", "fence": 0}
        assert lease_of(lease) == (request.id, fence, 60)
        answered = run(reply(later, fence=fence), LONG)
        assert [output.target for output in answered.outputs] == ["agent:desk"]
        assert run(reply(later), LONG).why == "unsolicited-reply"  # the seal of one try opens no other
        assert run(reply(first, fence=fence), LONG).why == "unsolicited-reply"


def test_after_so_many_tries_it_is_given_up_and_the_asker_is_told() -> None:
    _, lease = asked()
    for _ in range(MOST_TRIES - 1):
        lease = lapsed(lease, FACTS, REASON)[1].outputs[1]
    _, decision = lapsed(lease, FACTS, REASON)
    assert (decision.end, [output.target for output in decision.outputs]) == ("dead_letter", ["dead", "agent:desk"])
    told = opened(decision.outputs[1])
    assert (told["data"]["class"], told["data"]["code"], told["correlationid"]) == ("unavailable", "lease", "m1")
    assert REASON in told["data"]["reason"]
    again = orjson.dumps({**opened(decision.outputs[0]), "redrive": 1})  # by an operator, for the same asker
    redriven = carried(decision.outputs[0])._replace(body=again, message_id=lease.name)
    request, lease = run(redriven, LONG).outputs
    assert lease_of(lease) == (request.id, 0, 60)
    answered = run(reply(opened(request)), LONG)
    assert [output.target for output in answered.outputs] == ["agent:desk"]


def test_past_its_deadline_it_is_not_sent_again() -> None:
    _, lease = asked(expirytime="2027-01-15T08:01:00Z")
    again = lapsed(lease, FACTS, REASON)[1].outputs[0]
    assert again.expires_ms == 60_000
    _, decision = lapsed(lease, replace(FACTS, now_s=FACTS.now_s + 60), REASON)
    assert (decision.end, [output.target for output in decision.outputs]) == ("expired", ["dead", "agent:desk"])


def test_nobody_waits_for_it_and_nobody_is_told() -> None:
    request, lease = run(structured("asked", {}, conversationid="c"), LONG).outputs
    answered = run(reply(opened(request)), LONG)
    assert answered.end == "dead_letter"  # an event that no route wants
    for _ in range(MOST_TRIES - 1):
        lease = lapsed(lease, FACTS, REASON)[1].outputs[1]
    assert [output.target for output in lapsed(lease, FACTS, REASON)[1].outputs] == ["dead"]


def claim(request: Output, facts: Facts, **data: Any) -> dict[str, Any]:
    given = opened(request)
    task = {"correlationid": given["id"], "replyto": given["replyto"], "conversationid": "c"}
    asking = {"capability": "grade", "inbox": "client:a", "lease": True, **data}
    (said,) = run(structured(TASK_CLAIM, asking, source="grader", id_="k", **task), LONG, facts).outputs
    return dict(opened(said)["data"])


@pytest.mark.parametrize(
    ("leased", "data", "said"),
    [
        (Leased(60, ""), {}, {"verdict": "go", "lease": 60}),
        (Leased(60, "grader client:a"), {}, {"verdict": "go", "lease": 60}),  # renewed
        (Leased(60, "grader client:b"), {}, {"verdict": "taken"}),  # another process of the same agent
        (Leased(60, "grader client:b"), {"lease": False}, {"verdict": "taken"}),
        (Leased(60, ""), {"lease": False}, {"verdict": "go"}),
        (None, {}, {"verdict": "go"}),
    ],
)
def test_a_claim_takes_or_renews_the_lease_that_nobody_else_holds(
    leased: Leased | None, data: dict[str, Any], said: dict[str, Any]
) -> None:
    request, _ = asked()
    assert claim(request, replace(FACTS, leased=leased), **data) == {"task": request.id, **said}
    answered = claim(request, replace(FACTS, leased=leased, answered=3), **data)
    assert answered == {"task": request.id, "verdict": "answered"}


def test_what_the_broker_gives_back_is_up_to_its_lease() -> None:
    request, _ = asked(expirytime="2027-01-15T08:01:00Z")
    death = {"x-first-death-reason": "expired", "x-first-death-queue": "ns.capability.grade"}
    decision = bounced(carried(request)._replace(headers=death, queue="ns.bounced"), FACTS)
    (word,) = decision.outputs
    assert (decision.end, word.target, word.expires_ms) == ("routed", f"ingress:{TASK_LAPSE}", None)
    assert opened(word)["data"] == {"fence": 0, "reason": "its deadline passed while it waited in ns.capability.grade"}
    assert run(carried(word), LONG).why == "lease"
    forged = orjson.dumps({**opened(request), "replyto": "agent:desk!m1!!00"})
    assert bounced(carried(request)._replace(body=forged, headers=death), FACTS).end == "expired"
    assert run(structured(TASK_LAPSE, {}, source="grader"), LONG).end == "invalid"
