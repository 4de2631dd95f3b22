"""The gateway without its sockets: who may speak as it, what follows from a key, what counts as an end."""

from __future__ import annotations

from dataclasses import replace

from bus.core.codec import encode
from bus.core.gateway import ADDRESS, PENDING, Result, answers, found_in, keyed_id, message_of, ran_out
from bus.core.identity import GATEWAY
from bus.core.message import EXPIRY, REPLYTO, TRACEPARENT, Json, Message
from bus.core.route import Agent, Entrance
from tests.core.world import FACTS, catalog, flow, raw, route, run, to_capability

ASK = Entrance("shop/ask", "POST", "/ask", "asked", 2.0, "fail")
WORLD = catalog(route("grade", "asked", flow(to=(to_capability("grade"),))))
WITH_GATEWAY = replace(WORLD, agents={**WORLD.agents, GATEWAY: Agent(GATEWAY, "external", publishes=("asked",))})


def sent(message: Message, user: str) -> object:
    delivery = raw(encode(message.attributes, message.data), key=message.conversation, user=user)
    return run(delivery, WITH_GATEWAY, replace(FACTS, identity="broker")).why


def test_with_verified_users_only_the_bus_and_the_gateways_own_user_speak_for_it() -> None:
    message = message_of(ASK, {}, "1" * 32, FACTS.now_s)
    assert sent(message, FACTS.bus_user) == sent(message, GATEWAY) == "exact type"
    assert sent(message, "desk") == "not-you"
    assert sent(message_of(replace(ASK, type="order.x"), {}, "1" * 32, 0.0), FACTS.bus_user) == "not-published"


def test_with_a_key_the_message_is_the_same_whenever_it_is_made() -> None:
    one, other = keyed_id(ASK, "k"), keyed_id(replace(ASK, name="shop/other"), "k")
    assert one != other
    keyed, fresh = message_of(ASK, {"a": 1}, one, None), message_of(ASK, {"a": 1}, "f" * 32, FACTS.now_s)
    assert (keyed.text(REPLYTO), keyed.text(EXPIRY)) == (ADDRESS, None)
    assert fresh.text(EXPIRY) == "2027-01-15T08:00:02.000Z"
    assert message_of(replace(ASK, on_timeout="accepted"), {}, "f" * 32, 0.0).text(EXPIRY) is None
    assert message_of(replace(ASK, wait_s=None), {}, "f" * 32, 0.0).text(REPLYTO) is None
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    assert message_of(ASK, {}, "f" * 32, 0.0, trace).text(TRACEPARENT) == trace
    assert message_of(ASK, {}, "f" * 32, 0.0, "nonsense").text(TRACEPARENT) is None
    assert message_of(ASK, {}, one, None, trace).text(TRACEPARENT) is None


def told(type_: str, data: Json, correlation: str = "m") -> Message:
    return Message({"id": "x", "source": "bus", "type": type_, "correlationid": correlation}, data)


def test_an_end_is_an_answer_or_else_a_failure_and_never_the_refusal_of_a_repeat() -> None:
    failed, reused = told("bus.failed", {"code": "x"}), told("bus.failed", {"code": "id-reused"})
    answered, others = told("grade.replied", {"n": 1}), told("grade.replied", {"n": 2}, "other")

    def end(*messages: Message) -> Result:
        return found_in([encode({**each.attributes, "specversion": "1.0"}, each.data) for each in messages], "m")

    assert end(reused, others) == PENDING
    assert not answers(reused, "m")
    assert end(reused, failed, others) == Result("failed", {"code": "x"})
    assert end(failed, answered) == Result("answered", {"n": 1})


def test_a_failure_at_the_deadline_of_a_request_that_may_fail_is_its_time_that_ran_out() -> None:
    late = Result("failed", {"class": "timeout"})
    assert ran_out(ASK, late, 1.95)
    assert not ran_out(ASK, late, 1.0)  # of a call in the route, long before
    assert not ran_out(replace(ASK, on_timeout="accepted"), late, 2.0)
    assert not ran_out(ASK, Result("failed", {"class": "refusal"}), 2.0)
