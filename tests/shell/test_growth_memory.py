"""A namespace that grows while routes with memory run: what is remembered follows its key, and every run ends once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core import naming
from bus.core.ingress import Ingress
from bus.core.route import Catalog
from tests.core.run_world import OF, catalog
from tests.core.world import structured
from tests.shell.test_fleet import NS, Fleet

ROUTES = """\
route: gather
match: {type: asked}
steps:
- scatter_gather:
    branches: {grade: {capability: grade}, other: {capability: other}, third: {capability: third}}
    join: {policy: all, deadline: 1h}
    into: vars.found
- delay: {for: 2s}
to: {event: seen, data: {n: "{{ data.n }}", found: "{{ vars.found.results }}"}}
---
route: serial
match: {type: item}
serial_by: data.key
steps:
- call: {capability: other, into: vars.x}
to: {event: seen, data: {n: "{{ data.n }}", key: "{{ data.key }}"}}
---
agents: {watcher: {adapter: external, subscribes: [seen]}}
---
route: guarded
match: {type: done}
steps:
- circuit_breaker:
    failures: 2
    window: 1h
    reset: 1h
    steps: [{call: {capability: third, into: vars.x}}]
  on_error: [{then: continue}]
to: {event: seen, data: {n: "{{ data.n }}"}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return catalog(tmp_path_factory.mktemp("runs"), ROUTES).catalog


class Runs(Fleet):
    """A fleet whose agents answer what they are asked, when they are let."""

    def __init__(self, made: Catalog) -> None:
        self.catalog = made
        super().__init__(None)
        self.sent: list[dict[str, Any]] = []

    def take(self, number: int) -> None:
        """Nobody takes requests but who answers them."""

    def ask(self, type_: str, **data: Any) -> None:
        number = len(self.sent)
        self.sent.append({"type": type_, "n": number, "text": "short", **data})  # too short for a claim check
        self.ask_again(number)

    def ask_again(self, number: int) -> None:
        data = dict(self.sent[number])
        delivery = structured(data.pop("type"), data, source="cli", id_=f"m{number}", conversationid=f"c{number % 5}")
        sent = self.broker.publish(naming.ingress_exchange(NS), delivery._replace(user_id="agents"))
        assert sent == "confirmed"

    def answers(self, most: int) -> None:
        """Agents answer at most so many requests for each capability."""
        for capability, agent in OF.items():
            for each in self.broker.take(f"{NS}.capability.{capability}", most):
                request = orjson.loads(each.delivery.body)
                echoed = {name: request[name] for name in ("replyto", "conversationid")}
                answer = structured(
                    f"{capability}.replied", {"text": capability, "n": request["data"]["n"]}, source=agent,
                    id_=f"r{request['id']}", correlationid=request["id"], **echoed,
                )  # fmt: skip
                self.broker.publish(naming.ingress_exchange(NS), answer._replace(user_id="agents"))

    def finish(self) -> None:
        for _ in range(100):
            self.settle()
            self.answers(1000)
            self.rest(0.5)
            if self.quiet() and not self.remembered():
                return

    def seen(self) -> list[dict[str, Any]]:
        first: dict[str, dict[str, Any]] = {}
        for body in self.broker.bodies(f"{NS}.agent.watcher"):
            message = orjson.loads(body)
            first.setdefault(message["id"], message["data"])
        return list(first.values())

    def remembered(self) -> dict[int, list[str]]:
        """Keys by partition, but for the note that all has come to it."""
        everything = range(sum(self.disk.ingress().sizes))
        found = {each: sorted(key for key, _ in self.disk.states(each) if key != "arrived") for each in everything}
        return {partition: keys for partition, keys in found.items() if keys}

    def check(self) -> None:
        """Every run has ended once, and keys in order; nothing is left."""
        seen = self.seen()
        assert Counter(each["n"] for each in seen) == Counter(range(len(self.sent)))
        for each in seen:
            if "found" in each:
                assert {name: got["n"] for name, got in each["found"].items()} == dict.fromkeys(OF, each["n"])
        for key in range(3):
            for conversation in range(5):
                order = [each["n"] for each in seen if each.get("key") == key and each["n"] % 5 == conversation]
                assert order == sorted(order)
        assert self.remembered() == {}
        for name in ("dead", "invalid"):
            assert self.broker.bodies(f"{NS}.{name}") == []


def grown_under_runs(made: Catalog) -> Runs:
    """Runs that wait, in the partitions that the namespace had before it grew."""
    fleet = Runs(made)
    fleet.start()
    for number in range(10):
        fleet.ask("asked")
        fleet.ask("item", key=number % 3)
    fleet.rest(3.0)
    fleet.answers(4)
    fleet.rest(1.0)
    assert fleet.remembered().keys() <= {0, 1, 2, 3}
    assert len([key for keys in fleet.remembered().values() for key in keys if key.startswith("flow:")]) > 10
    fleet.grow()
    return fleet


def test_runs_follow_their_keys_and_go_on_where_those_are_now(made: Catalog) -> None:
    fleet = grown_under_runs(made)
    fleet.rest(20.0)
    assert fleet.disk.ingress() == Ingress((4, 6), serving=1)
    assert fleet.remembered().keys() <= set(range(4, 10))
    fleet.finish()
    fleet.check()


def test_answers_and_messages_that_come_before_the_runs_wait_for_them(made: Catalog) -> None:
    fleet = grown_under_runs(made)
    while (
        f"{NS}.in.1" not in fleet.broker.behind(naming.ingress_exchange(NS))
        or len(fleet.broker.behind(naming.ingress_exchange(NS))) > 1
    ):
        if not fleet.step():
            fleet.broker.advance(0.1)
    fleet.answers(1000)  # to the new partitions, which nobody consumes yet
    for number in range(6):
        fleet.ask("item", key=number % 3)
    assert any(fleet.broker.bodies(naming.ingress_queue(NS, each)) for each in range(4, 10))
    fleet.finish()
    fleet.check()


def test_a_message_that_comes_before_the_line_of_its_key_waits_for_it(made: Catalog) -> None:
    fleet = grown_under_runs(made)
    while fleet.members[0].worker.state == "running":
        if not fleet.step():
            fleet.broker.advance(0.1)
    late = len(fleet.sent)
    for number in range(9):  # decided in old partitions, and sent on to the new ones that their keys have, at once
        fleet.ask("item", key=number % 3)
    assert fleet.broker.behind(naming.ingress_exchange(NS)) == [f"{NS}.in.0"]
    fleet.finish()
    fleet.check()
    for key in range(3):
        order = [each["n"] >= late for each in fleet.seen() if each.get("key") == key]
        assert order == sorted(order)


def test_what_a_breaker_knows_goes_with_it(made: Catalog) -> None:
    fleet = Runs(made)
    fleet.start()
    for _ in range(10):
        fleet.ask("done")
    fleet.rest(1.0)
    for each in fleet.broker.take(f"{NS}.capability.third", 100):
        request = orjson.loads(each.delivery.body)
        echoed = {name: request[name] for name in ("replyto", "conversationid")}
        failed = structured(
            "third.failed", {"class": "unavailable", "reason": "busy"}, source="third", id_=f"f{request['id']}",
            correlationid=request["id"], **echoed,
        )  # fmt: skip
        fleet.broker.publish(naming.ingress_exchange(NS), failed._replace(user_id="agents"))
    fleet.rest(1.0)
    cells = sorted(key for keys in fleet.remembered().values() for key in keys)
    assert cells
    fleet.grow()
    fleet.rest(20.0)
    assert fleet.disk.ingress().serving == 1
    assert fleet.remembered().keys() <= set(range(4, 10))
    assert {key for keys in fleet.remembered().values() for key in keys} == set(cells)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("asked"), st.just(0)),
        st.tuples(st.just("item"), st.integers(0, 2)),
        st.tuples(st.just("again"), st.integers(0, 5)),
        st.tuples(st.just("step"), st.integers(1, 12)),
        st.tuples(st.just("answers"), st.integers(1, 3)),
        st.tuples(st.just("grow"), st.just(0)),
        st.tuples(st.just("start"), st.just(0)),
        st.tuples(st.sampled_from(["kill", "lose"]), st.integers(0, 3)),
        st.tuples(st.just("rest"), st.integers(1, 40)),
    ),
    max_size=40,
)


def act(fleet: Runs, what: str, number: int) -> None:
    member = fleet.members[number % len(fleet.members)] if fleet.members else None
    if what in ("asked", "item"):
        fleet.ask(what, **({"key": number} if what == "item" else {}))
    elif what == "again" and number < len(fleet.sent):
        fleet.ask_again(number)
    elif what == "answers":
        fleet.answers(number)
    elif what == "grow" and len(fleet.disk.ingress().sizes) < 4:
        fleet.grow()
    elif what == "start" and len(fleet.members) < 3:
        fleet.start()
    elif what == "kill" and member is not None:
        fleet.kill(member)
    elif what == "lose" and member is not None:
        member.transport.lose("cut")
    elif what == "step":
        for _ in range(number):
            fleet.step()
    elif what == "rest":
        fleet.rest(number / 4)


@settings(max_examples=150, deadline=None)
@given(script=actions)
def test_whatever_happens_while_it_grows_each_run_ends_once(made: Catalog, script: list[tuple[str, int]]) -> None:
    fleet = Runs(made)
    fleet.start()
    for what, number in script:
        act(fleet, what, number)
    fleet.finish()
    fleet.check()
