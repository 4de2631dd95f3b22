"""Runs of routes with memory in a worker, through crashes, losses and repeats: each goes on, and ends exactly once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core import naming
from bus.core.route import Catalog
from bus.shell.blobs.folder import FolderBlobs
from tests.core.run_world import OF, catalog
from tests.core.world import structured
from tests.shell.test_worker import NS, World

ROUTES = """\
route: gather
match: {type: asked}
steps:
- claim_check: {store: data.text, over: 10B}
- scatter_gather:
    branches: {grade: {capability: grade}, other: {capability: other}, third: {capability: third}}
    join: {policy: all, deadline: 1h}
    into: vars.found
- delay: {for: 2s}
- claim_check: {fetch: data.text}
to: {event: seen, data: {n: "{{ data.n }}", text: "{{ data.?text.orValue('') }}", found: "{{ vars.found.results }}"}}
---
route: serial
match: {type: item}
serial_by: data.key
steps:
- call: {capability: other, into: vars.x}
  on_error: [{retry: {attempts: 60, initial: 1s}, then: dead_letter}]
to: {event: seen, data: {n: "{{ data.n }}", key: "{{ data.key }}"}}
---
route: groups
match: {type: piece}
serial_by: data.key
steps:
- aggregate:
    by: data.key
    complete: {count: "3"}
    join: {deadline: 1h, on_deadline: partial}
    into: vars.all
- delay: {for: 1s}
- call: {capability: other, data: {n: "{{ data.n }}"}, into: vars.x}
to: {event: seen, data: {group: "{{ vars.all.results }}", n: "{{ data.n }}"}}
---
route: sequences
match: {type: numbered}
serial_by: data.key
steps:
- idempotent: {by: data.number, window: 1h}
- resequence: {by: data.key, sequence: data.number, deadline: 1h, on_gap: fail}
- throttle: {rate: 2/s}
- circuit_breaker:
    failures: 2
    window: 20s
    reset: 3s
    steps: [{call: {capability: third, data: {n: "{{ data.n }}", key: 0}, into: vars.x}}]
  on_error: [{retry: {attempts: 60, initial: 1s}, then: dead_letter}]
to: {event: seen, data: {n: "{{ data.n }}", key: "{{ data.key }}", number: "{{ data.number }}"}}
---
agents: {watcher: {adapter: external, subscribes: [seen]}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return catalog(tmp_path_factory.mktemp("runs"), ROUTES).catalog


class Runs(World):
    """A world whose agents answer what they are asked, some more than once, and fail at times."""

    def __init__(self, made: Catalog) -> None:
        super().__init__(made=made)
        self.blobs = FolderBlobs(Path(made.agents["desk"].folder) / "blobs")
        self.crash()

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

    def fail(self) -> None:
        """Fail one request of each capability, if its route tries again."""
        for capability in ("other", "third"):
            for each in self.broker.take(f"{NS}.capability.{capability}", 1):
                request = orjson.loads(each.delivery.body)
                self._say(capability, OF[capability], request, "failed" if "key" in request["data"] else "replied")

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
    world = Runs(made)
    world.ask(1, "asked", text="some text of some length")
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
        st.tuples(st.just("piece"), st.integers(0, 1)),
        st.tuples(st.just("numbered"), st.integers(0, 1)),
        st.tuples(st.just("again"), st.integers(0, 9)),
        st.tuples(st.just("step"), st.integers(1, 9)),
        st.tuples(st.just("agents"), st.integers(1, 3)),
        st.tuples(st.just("fail"), st.just(1)),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("time"), st.integers(1, 7)),
    ),
    max_size=50,
)


class Play:
    """A script played in a world, and what it has sent."""

    def __init__(self, made: Catalog) -> None:
        self.world = Runs(made)
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.numbered: Counter[int] = Counter()

    def send(self, what: str, key: int) -> None:
        data: dict[str, Any] = {"text": f"what number {len(self.sent)} says"} if what == "asked" else {"key": key}
        if what == "numbered":  # 2, 1, 4, 3 ...
            data["number"] = self.numbered[key] + (2 if self.numbered[key] % 2 == 0 else 0)
            self.numbered[key] += 1
        self.world.ask(len(self.sent), what, **data)
        self.sent.append((what, data))

    def act(self, what: str, number: int) -> None:
        if what in ("asked", "item", "piece", "numbered"):
            self.send(what, number)
        elif what == "again" and number < len(self.sent):
            self.world.ask(number, self.sent[number][0], **self.sent[number][1])
        elif what == "agents":
            self.world.agents(number)
        elif what == "fail":
            self.world.fail()
        else:
            self.world.suffer(what, number, [])

    def finish(self) -> list[dict[str, Any]]:
        for key in [key for key in self.numbered if self.numbered[key] % 2]:
            self.send("numbered", key)  # the lower number of the last pair
        finish(self.world)
        return self.world.seen()


def in_order(seen: list[dict[str, Any]]) -> None:
    for key in range(3):
        items = [each["n"] for each in seen if each.get("key") == key and "number" not in each]
        for conversation in range(5):  # what comes from two conversations has no order before it meets
            order = [n for n in items if n % 5 == conversation]
            assert order == sorted(order)


@settings(max_examples=120, deadline=None)
@given(script=actions)
def test_whatever_fails_each_run_ends_once_and_keys_in_order(made: Catalog, script: list[tuple[str, int]]) -> None:
    play = Play(made)
    for what, number in script:
        play.act(what, number)
    seen = play.finish()
    groups = [each["group"] for each in seen if "group" in each]
    ended = [each["n"] for each in seen if "group" not in each] + [each["n"] for group in groups for each in group]
    assert Counter(ended) == Counter(range(len(play.sent)))
    for line in seen:
        if "found" in line:
            assert line["text"] == f"what number {line['n']} says"
            assert {name: got["n"] for name, got in line["found"].items()} == dict.fromkeys(OF, line["n"])
    in_order(seen)
    for key in range(2):
        sizes = [len(group) for group in groups if {each["key"] for each in group} == {key}]
        assert all(size == 3 for size in sizes[:-1])
        assert sum(sizes) == play.sent.count(("piece", {"key": key}))
        numbers = [each["number"] for each in seen if "number" in each and each["key"] == key]
        assert numbers == list(range(1, play.numbered[key] + 1))
    world = play.world
    world.broker.advance(8 * 86400.0)  # then the places of sequences and the keys of repeats are forgotten
    world.settle()
    assert world.remembered() == []
    assert world.queue("dead") == world.queue("invalid") == []
