"""What an operator tells the bus: who may, what is remembered of it, and what it is good for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from bus.core.actions import Decision
from bus.core.pipeline import decide
from bus.core.table import RouteTable
from tests.core.world import FACTS, catalog, flow, route, structured, to_capability

MADE = catalog(route("grade", "asked", flow(to=(to_capability("grade"),))))
TABLE = RouteTable(replace(MADE, controls=frozenset({"premium"})))


def told(verb: str, data: Any, user: str | None = "bus", source: str = "cli", **more: Any) -> Decision:
    delivery = structured(f"bus.control.{verb}", data, source=source, id_="m1", replyto="client:me", **more)
    return decide(delivery._replace(user_id=user), TABLE, FACTS)


def test_an_operator_is_obeyed_and_answered() -> None:
    decision = told("switch", {"control": "premium", "on": True})
    assert decision.why == "control: switch premium on"
    assert [each.key for each in decision.changes] == ["control:switch:premium"]
    (answer,) = decision.outputs
    assert (answer.target, answer.type) == ("client:me", "bus.control.done")
    assert orjson.loads(answer.body)["data"]["config"] == TABLE.catalog.version


@pytest.mark.parametrize(
    ("user", "source", "more", "code"),
    [
        ("agents", "cli", {}, "not-an-operator"),  # whoever shares the agents' user may say that it is `cli`
        (None, "cli", {}, "not-an-operator"),
        ("bus", "cli", {"redrive": 1}, "not-an-operator"),  # refused before, and sent again by an operator
        ("agents", "desk", {}, "not-published"),
        ("agents", "bus", {}, "unknown-agent"),
    ],
)
def test_nobody_else_is(user: str | None, source: str, more: dict[str, Any], code: str) -> None:
    for delivery_key in ("m1", "elsewhere"):  # nor by coming to another partition, from which the bus passes it on
        delivery = structured("bus.control.drain", {}, source=source, id_="m1", **more)
        decision = decide(delivery._replace(user_id=user, routing_key=delivery_key), TABLE, FACTS)
        assert (decision.end, decision.why, decision.changes) == ("invalid", code, ())


def test_an_event_of_a_route_is_no_operator() -> None:
    decision = decide(structured("bus.control.drain", {}, source="bus")._replace(user_id="bus"), TABLE, FACTS)
    assert decision.changes == ()


@pytest.mark.parametrize(
    ("verb", "data"),
    [
        ("halt", {}),
        ("pause", {}),
        ("pause", {"route": "no/such"}),
        ("pause", {"agent": "nobody"}),
        ("pause", {"agent": "desk", "capability": "grade"}),
        ("pause", {"agent": {"n": 1}}),
        ("switch", {"control": "x", "on": "yes"}),
        ("switch", {"control": "x" * 300, "on": True}),
        ("switch", {"control": "premuim", "on": True}),
        ("log-level", {"level": "loud"}),
        ("log-level", {"level": ["debug"]}),
        ("purge", {"queue": "dead"}),
        ("drain", "now"),
    ],
)
def test_what_makes_no_sense_changes_nothing(verb: str, data: Any) -> None:
    decision = told(verb, data)
    if verb == "drain":
        assert decision.why == "control: drain"  # it needs no data
    else:
        assert (decision.end, decision.why, decision.changes) == ("invalid", "bad-control", ())


def test_a_message_of_a_paused_route_waits_and_others_do_not() -> None:
    owner = TABLE.catalog.routes[0]
    message = structured(owner.match.types[0], {"n": 1}, source="desk")
    assert decide(message, TABLE, FACTS).end == "routed"
    decision = decide(message, TABLE, replace(FACTS, paused=frozenset({f"route:{owner.name}"})))
    assert (decision.end, decision.why, decision.route) == ("waiting", "paused", owner.name)
    assert decide(message, TABLE, replace(FACTS, paused=frozenset({"route:other/one"}))).end == "routed"
