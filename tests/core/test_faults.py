"""Poison as a decision: who is told, and who is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from bus.core.actions import Decision, Delivery
from bus.core.faults import faulted, poisoned, poisoned_run
from bus.core.message import Message
from bus.core.pipeline import understand
from bus.core.table import RouteTable
from tests.core.run_world import RunWorld
from tests.core.run_world import catalog as runs_catalog
from tests.core.world import FACTS, catalog, flow, raw, route, run, structured, to_capability

CATALOG = catalog(route("grade", "asked", flow(to=(to_capability("grade"),))))
TABLE = RouteTable(CATALOG)
HOW = "was killed by SIGABRT"


def poison(delivery: Delivery) -> Decision:
    message = understand(delivery, TABLE, FACTS)
    assert isinstance(message, Message)
    return poisoned(delivery, message, TABLE, FACTS, HOW)


def told(decision: Decision) -> list[tuple[str, Any, Any]]:
    letters = [orjson.loads(each.body) for each in decision.outputs[1:]]
    return [
        (each.target, letter.get("correlationid"), letter["data"]["code"])
        for each, letter in zip(decision.outputs[1:], letters, strict=True)
    ]


def test_the_asker_is_told_or_else_the_sender() -> None:
    assert told(poison(structured("asked", {}, replyto="agent:desk"))) == [("agent:desk", "m1", "poison")]
    assert told(poison(structured("asked", {}))) == [("agent:desk", "m1", "poison")]
    client = structured("asked", {}, source="cli", replyto="client:abc")
    assert told(poison(client)) == [("client:abc", "m1", "poison")]


def test_the_asker_of_what_a_deadly_answer_answers_is_told() -> None:
    asked = run(structured("asked", {}, id_="q1", replyto="agent:desk", conversationid="c"), CATALOG)
    request = orjson.loads(asked.outputs[0].body)
    answer = structured(
        "grade.replied", {"text": "deadly"}, source="grader", id_="r1",
        replyto=request["replyto"], conversationid="c", correlationid=request["id"],
    )  # fmt: skip
    assert told(poison(answer)) == [("agent:desk", "q1", "poison")]


@pytest.mark.parametrize(
    "forged",
    [
        structured("asked", {}, source="mallory"),
        structured("news.x", {}),
        structured("asked", {}, redrive=1),
        structured("asked", {}, replyto="agent:other"),
        structured("grade.replied", {}, source="grader", replyto="agent:desk"),
    ],
)
def test_what_may_not_be_sent_is_refused_as_ever(forged: Delivery) -> None:
    """It would take an identity that is not its own, and word of it would go out in another's name."""
    assert poison(forged) == run(forged, CATALOG)
    assert poison(forged).end == "invalid"


def test_bytes_are_known_by_what_the_broker_vouches_for() -> None:
    bytes_ = raw(b'{"source": "desk"}', user="desk")
    assert told(poisoned(bytes_, None, TABLE, FACTS, HOW)) == []  # the body is not looked into
    named = bytes_._replace(reply_to="agent:desk", message_id="m7")
    assert told(poisoned(named, None, TABLE, FACTS, HOW)) == [("agent:desk", "m7", "poison")]
    verified = replace(FACTS, identity="broker")
    assert told(poisoned(bytes_._replace(message_id="m7"), None, TABLE, verified, HOW)) == [
        ("agent:desk", "m7", "poison")
    ]
    assert told(poisoned(named._replace(user_id="agents"), None, TABLE, verified, HOW)) == []


ROUTES = """\
route: asks
match: {type: asked}
steps:
- call: {capability: grade, into: vars.x}
  on_error: [{class: [timeout], then: continue}]
to: {reply: ok, data: {x: done}}
---
route: serves
match: {type: item}
serial_by: data.key
steps:
- call: {capability: other, timeout: 5s, into: vars.x}
to: {reply: ok, data: {x: done}}
"""


class Faulty(RunWorld):
    """The bus itself fails on messages of these types, and on these runs."""

    def __init__(self, table: RouteTable, types: tuple[str, ...]) -> None:
        super().__init__(table)
        self.types = types

    def _hear(self, body: bytes, key: str, user: str) -> Decision:
        delivery = Delivery(body, "application/cloudevents+json", {}, user, None, None, key, "ns.ingress.00")
        message = understand(delivery, self.table, self._facts())
        assert isinstance(message, Message)
        if message.type not in self.types:
            return super()._hear(body, key, user)
        return self._take(faulted(delivery, message, self.table, self._facts(), RuntimeError("no")))

    def codes(self) -> list[Any]:
        """Of what its asker and the dead letter channel came to know."""
        return [each["data"]["code"] if who == "me" else who for who, each in self.told]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RouteTable:
    return runs_catalog(tmp_path_factory.mktemp("runs"), ROUTES)


def test_a_run_hears_that_the_bus_failed_on_the_answer_that_it_waits_for(runs: RouteTable) -> None:
    world = Faulty(runs, ("grade.replied",))
    world.send({})
    world.answer("grade", {"text": "x"})
    assert world.memory == {}
    assert world.codes() == ["dead", "dead", "bus-fault"]  # the answer, and the message that the run began with


def test_a_run_that_cannot_even_take_that_word_is_over(runs: RouteTable) -> None:
    world = Faulty(runs, ("grade.replied", "bus.flow.told"))
    world.send({})
    world.answer("grade", {"text": "x"})
    assert world.memory == {}
    assert world.codes() == ["dead", "dead", "bus-fault"]


def test_a_run_that_ends_the_bus_when_its_time_comes_is_over_and_the_next_of_its_key_begins(runs: RouteTable) -> None:
    world = Faulty(runs, ())
    for number in (1, 2):
        world.send({"key": "k"}, "item", f"m{number}")
    (key,) = [key for key, (_, due_s) in world.memory.items() if due_s is not None]
    assert poisoned_run(key, runs, world._facts(), HOW) is None  # not due yet
    world.now_s += 6
    found = poisoned_run(key, runs, world._facts(), HOW)
    assert found is not None
    world._take(found[1])
    assert world.codes() == ["dead", "poison"]
    world.pass_time(0)
    assert world.asked == ["other", "other"]
    assert key not in world.memory
