"""Runs of routes with memory in a worker, through crashes, losses and repeats: each goes on, and ends exactly once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core import naming
from bus.core.route import Catalog
from tests.core.run_world import OF, catalog
from tests.core.world import structured
from tests.shell.test_worker import NS, World

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
  on_error: [{retry: {attempts: 60, initial: 1s}, then: dead_letter}]
to: {event: seen, data: {n: "{{ data.n }}", key: "{{ data.key }}"}}
---
agents: {watcher: {adapter: external, subscribes: [seen]}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return catalog(tmp_path_factory.mktemp("runs"), ROUTES).catalog


class Runs(World):
    """A world whose agents answer what they are asked, some more than once, and fail at times."""

    def ask(self, n: int, type_: str, **data: Any) -> None:
        delivery = structured(type_, {"n": n, **data}, id_=f"m{n}", conversationid=f"c{n % 5}")
        assert self.broker.publish(naming.ingress_exchange(NS), delivery._replace(user_id="agents")) == "confirmed"

    def agents(self, most: int, word: str = "replied") -> None:
        for capability, agent in OF.items():
            for each in self.broker.take(f"{NS}.capability.{capability}", most):
                self._say(capability, agent, orjson.loads(each.delivery.body), word)

    def _say(self, capability: str, agent: str, request: dict[str, Any], word: str) -> None:
        echoed = {name: request[name] for name in ("replyto", "conversationid")}
        data: Any = {"text": capability, "n": request["data"]["n"]}
        if word == "failed":
            data = {"class": "unavailable", "reason": "busy"}
        answer = structured(
            f"{capability}.{word}",
            data,
            source=agent,
            id_=f"{word[0]}{request['id']}",
            correlationid=request["id"],
            **echoed,
        )
        self.broker.publish(naming.ingress_exchange(NS), answer._replace(user_id="agents"))

    def seen(self) -> list[dict[str, Any]]:
        """What the watcher got, the first of each id, in order."""
        first: dict[str, dict[str, Any]] = {}
        for message in self.queue("agent.watcher"):
            first.setdefault(message["id"], message["data"])
        return list(first.values())

    def remembered(self) -> list[str]:
        return [key for partition in range(2) for key, _ in self.store.states(partition)]


def finish(world: Runs) -> None:
    for _ in range(12):
        world.settle()
        world.agents(1000)


def test_a_run_is_taken_up_again_after_a_crash(made: Catalog) -> None:
    world = Runs(made=made)
    world.ask(1, "asked")
    world.steps(50)
    world.agents(1)
    world.steps(50)
    assert len(world.remembered()) == 1
    world.crash()
    finish(world)
    assert [each["n"] for each in world.seen()] == [1]
    assert world.remembered() == []


actions = st.lists(
    st.one_of(
        st.tuples(st.just("asked"), st.just(0)),
        st.tuples(st.just("item"), st.integers(0, 2)),
        st.tuples(st.just("again"), st.integers(0, 5)),
        st.tuples(st.just("step"), st.integers(1, 9)),
        st.tuples(st.just("agents"), st.integers(1, 3)),
        st.tuples(st.just("fail"), st.just(1)),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("time"), st.integers(1, 7)),
    ),
    max_size=50,
)


@settings(max_examples=120, deadline=None)
@given(script=actions)
def test_whatever_fails_each_run_ends_once_and_keys_in_order(made: Catalog, script: list[tuple[str, int]]) -> None:
    world = Runs(made=made)
    sent: list[tuple[str, dict[str, Any]]] = []
    for what, number in script:
        if what in ("asked", "item"):
            data = {"key": number} if what == "item" else {}
            world.ask(len(sent), what, **data)
            sent.append((what, data))
        elif what == "again" and number < len(sent):
            world.ask(number, sent[number][0], **sent[number][1])
        elif what == "agents":
            world.agents(number)
        elif what == "fail":
            for stored in world.broker.take(f"{NS}.capability.other", 1):
                request = orjson.loads(stored.delivery.body)
                world._say("other", "other", request, "failed" if "key" in request["data"] else "replied")
        else:
            world.suffer(what, number, [])
    finish(world)
    seen = world.seen()
    assert Counter(each["n"] for each in seen) == Counter(range(len(sent)))
    for line in seen:
        if "found" in line:
            assert {name: got["n"] for name, got in line["found"].items()} == dict.fromkeys(OF, line["n"])
    for key in range(3):
        for conversation in range(5):  # what comes from two conversations has no order before it meets
            order = [each["n"] for each in seen if each.get("key") == key and each["n"] % 5 == conversation]
            assert order == sorted(order)
    assert world.remembered() == []
    assert world.queue("dead") == world.queue("invalid") == []
