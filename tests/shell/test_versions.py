"""A configuration that changes under running work: what began under one ends as that one says, after a restart too."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest

from bus.audit.record import decode
from bus.config.again import compile_again
from bus.core.actions import Delivery
from bus.core.errors import StoreDown
from bus.core.ingress import Ingress
from bus.core.message import Message
from bus.core.pipeline import understand
from bus.core.registry import STEPS
from bus.core.route import Catalog
from bus.core.table import RouteTable
from bus.shell.memory_store import MemoryStore
from bus.shell.topology import plan
from bus.shell.trial.apart import Apart, fork_server
from bus.shell.trial.child import Bounds
from bus.shell.versions import IN_STORE, Configuration, Versions
from tests.core.run_world import AGENTS, loaded
from tests.core.world import FACTS, structured
from tests.shell.test_runs import Runs, finish
from tests.shell.test_worker import NS

ROUTES = """\
route: ask
match: {type: asked}
steps:
- call: {capability: grade, into: vars.found}
  id: STEP
- call: {capability: other, data: {n: "{{ data.n }}"}, into: vars.more}
to: {event: seen, data: {n: "{{ data.n }}", by: VERSION}}
---
agents: {watcher: {adapter: external, subscribes: [seen]}}
"""
ONE = ROUTES.replace("STEP", "first").replace("VERSION", "one")
TWO = """\
route: ask
match: {type: asked}
steps:
- call: {capability: third, into: vars.found}
to: {event: seen, data: {n: "{{ data.n }}", by: two}}
---
agents: {watcher: {adapter: external, subscribes: [seen]}}
"""
GRADER = "  grader: {adapter: external, capabilities: [grade], attributes: {cleared: true}}\n"
GRADE = "  grade: {request: schemas/any.v1.json, reply: schemas/text.v1.json, idempotent: true}\n"
assert GRADER in AGENTS
assert GRADE in AGENTS
OTHER = "  other: {request: schemas/any.v1.json, reply: schemas/any.v1.json, idempotent: true}\n"
assert OTHER in AGENTS
LEASED = AGENTS.replace(OTHER, OTHER.replace("}", ", lease: 10s}"))
NO_GRADER = AGENTS.replace(GRADER, "").replace(GRADE, "")


def configuration(folder: Path, routes: str, agents: str = AGENTS) -> Configuration:
    made = loaded(folder, routes, agents)
    assert made.catalog is not None
    return Configuration(RouteTable(made.catalog), made.bundle.pack())


def compiler(version: str, bundle: bytes) -> Catalog:
    return compile_again(version, bundle, {}, STEPS)


class Versioned(Runs):
    """A world whose configuration can change, by a restart or under way."""

    def __init__(self, first: Configuration) -> None:
        self.configuration = first
        super().__init__(made=first.table.catalog)

    def more(self) -> dict[str, Any]:
        return {"bundle": self.configuration.bundle, "compiler": compiler}

    def restart(self, after: Configuration) -> None:
        self._declare(after)
        self.configuration, self.catalog = after, after.table.catalog
        self.crash()

    def change(self, after: Configuration) -> None:
        self._declare(after)
        failed: list[Any] = []
        self.worker.reconfigure(after, failed.append)
        self.steps(5)
        assert failed == [None]

    def _declare(self, after: Configuration) -> None:
        self.broker.declare(plan(NS, Ingress((2,)), after.table.catalog))

    def decided(self) -> set[tuple[str, str]]:
        """Type of each message of the log, and the configuration that decided it."""
        found = set()
        for partition in range(2):
            for seq in itertools.count(1):
                try:
                    record = decode(self.store.entry(partition, seq).record)
                except KeyError:
                    break
                found.add((record.type, record.config))
        return found

    def by(self) -> dict[int, str]:
        return {each["n"]: each["by"] for each in self.seen()}


@pytest.mark.parametrize("how", ["restart", "change"])
def test_a_run_ends_as_the_configuration_says_under_which_it_began(tmp_path: Path, how: str) -> None:
    one, two = configuration(tmp_path, ONE), configuration(tmp_path, TWO, NO_GRADER)
    world = Versioned(one)
    world.ask(1, "asked")
    world.settle()
    assert len(world.queue("capability.grade")) == 1
    getattr(world, how)(two)
    world.ask(2, "asked")
    world.settle()
    assert [each["data"]["n"] for each in world.queue("capability.third")] == [2]
    finish(world)  # the grader is declared no more, and its answer is taken all the same
    assert world.by() == {1: "one", 2: "two"}
    first, second = one.table.catalog.version, two.table.catalog.version
    answers = {("grade.replied", first), ("other.replied", first), ("third.replied", second)}
    assert world.decided() == answers | {("asked", first), ("asked", second)}
    assert world.remembered() == []
    assert world.queue("dead") == world.queue("invalid") == []
    world.restart(two)
    world.settle()
    assert world.worker._judge.table.elders == {}


@pytest.mark.parametrize("how", ["restart", "change", "change and cut"])
def test_a_run_goes_on_with_leases_that_the_configuration_in_force_does_not_know(tmp_path: Path, how: str) -> None:
    one, two = configuration(tmp_path, ONE, LEASED), configuration(tmp_path, TWO)
    world = Versioned(one)
    world.ask(1, "asked")
    world.settle()
    getattr(world, how.split()[0])(two)
    world.settle()
    if "cut" in how:
        world.transport.lose("cut")
        world.settle()
    world.agents(1)  # the grader answers, and the run asks `other`, under a lease
    world.settle()
    assert len(world.worker._judge.leases) == 1
    finish(world)
    assert world.by() == {1: "one"}
    assert len(world.worker._judge.leases) == 0
    assert not world.store.unfinished()


def test_a_run_whose_configuration_is_lost_fails_and_says_so(tmp_path: Path) -> None:
    one, two = configuration(tmp_path, ONE), configuration(tmp_path, TWO)
    world = Versioned(one)
    world.ask(1, "asked")
    world.settle()
    world.store._disk.configurations.clear()
    world.restart(two)
    finish(world)
    (letter,) = world.broker.take(f"{NS}.dead", 1)
    assert letter.delivery.headers["bus-code"] == "configuration"
    assert one.version in str(letter.delivery.headers["bus-reason"])


def test_a_request_of_a_route_without_memory_may_be_answered_when_nobody_declares_it_any_more(tmp_path: Path) -> None:
    plain = "route: ask\nmatch: {type: asked}\nto: {capability: grade}\n"
    one, two = configuration(tmp_path, plain), configuration(tmp_path, plain.replace("grade", "third"), NO_GRADER)
    world = Versioned(one)
    world.ask(1, "asked")
    world.settle()
    world.change(two)
    forged = world.broker.bodies(f"{NS}.capability.grade")[0]
    world.agents(1)
    world.settle()
    assert [each["type"] for each in world.queue("invalid")] == []
    request = {**orjson.loads(forged), "id": "made-up"}
    world._say("grade", "grader", request, "replied")  # of a request that was never made
    world.settle()
    assert len(world.queue("invalid")) == 1


def test_events_that_wait_go_to_those_who_had_subscribed_when_they_were_decided(tmp_path: Path) -> None:
    plain = "route: ask\nmatch: {type: asked}\nto: {event: seen, data: {n: '{{ data.n }}', by: one}}\n---\n"
    who = "agents: {NAME: {adapter: external, subscribes: [seen]}}\n"
    one = configuration(tmp_path, plain + who.replace("NAME", "watcher"))
    two = configuration(tmp_path, plain + who.replace("NAME", "other_watcher"))
    world = Versioned(one)
    world.broker._queues[f"{NS}.agent.watcher"].limit = 0
    world.ask(1, "asked")
    world.settle()
    world.change(two)
    world.broker._queues[f"{NS}.agent.watcher"].limit = None
    world.settle()
    assert world.by() == {1: "one"}


def test_the_store_keeps_what_is_needed_and_not_all_that_ever_was(tmp_path: Path) -> None:
    one = configuration(tmp_path, ONE)
    world = Versioned(one)
    world.ask(1, "asked")
    world.settle()
    versions = Versions(world.store, one, compiler)
    for number in range(IN_STORE + 5):
        versions.change(configuration(tmp_path, ONE.replace("by: one", f"by: v{number}")))
    assert world.store.configuration(one.version) is not None
    assert len(world.store._disk.configurations) == IN_STORE + 1
    assert one.version in versions._current.table.elders


def test_nothing_changes_when_the_store_cannot_keep_it(tmp_path: Path) -> None:
    one, two = configuration(tmp_path, ONE), configuration(tmp_path, TWO)
    world = Versioned(one)
    world.settle()
    world.store.down = "away"
    failed: list[Any] = []
    world.worker.reconfigure(two, failed.append)
    world.steps(5)
    assert "away" in str(failed[0])
    world.store.down = ""
    world.settle()
    world.ask(1, "asked")
    finish(world)
    assert world.by() == {1: "one"}


def test_nothing_changes_when_the_store_goes_away_once_it_has_kept_it(tmp_path: Path) -> None:
    one, two = configuration(tmp_path, ONE), configuration(tmp_path, TWO)
    store = MemoryStore()
    versions = Versions(store, one, compiler)
    versions.begin()

    def away(newest: int) -> None:
        raise StoreDown("away")

    store.drop_configurations = away  # type: ignore[assignment,method-assign]
    with pytest.raises(StoreDown):
        versions.change(two)
    assert versions._current is one
    assert two.table.elders == {}


def test_an_answer_to_a_run_keeps_the_contract_that_the_run_began_under(tmp_path: Path) -> None:
    one = configuration(tmp_path, ONE)
    (tmp_path / "t" / "schemas" / "null.v1.json").write_text('{"type": "null"}')
    changed = AGENTS.replace(GRADE, GRADE.replace("text.v1", "null.v1"))
    two = configuration(tmp_path, ONE.replace("by: one", "by: two"), changed)
    world = Versioned(one)
    world.ask(1, "asked")
    world.settle()
    world.change(two)
    finish(world)
    assert world.by() == {1: "one"}


def test_a_suspect_is_tried_under_the_configuration_in_force_and_its_elders(tmp_path: Path) -> None:
    plain = "route: ask\nmatch: {type: asked}\nto: {capability: grade}\n"
    one = configuration(tmp_path, plain)
    two = configuration(tmp_path, plain.replace("grade", "third"), NO_GRADER)
    bounds = Bounds(cpu_s=5.0, silence_s=10.0)
    apart = Apart(fork_server(one.table, bounds, compiler), one.table, bounds)
    apart.bundle = {each.version: each.bundle for each in (one, two)}.__getitem__
    delivery = structured("asked", {"n": 1}, source="cli")._replace(redelivered=5)
    try:
        first = apart.decide(delivery, understood(delivery), FACTS)
        assert [each.target for each in first.outputs] == ["capability:grade"]
        two.table.succeed({one.version: one.table})
        apart.reconfigure(two.table)
        second = apart.decide(delivery, understood(delivery), FACTS)
        assert [each.target for each in second.outputs] == ["capability:third"]
        request = orjson.loads(first.outputs[0].body)
        echoed = {name: request[name] for name in ("replyto", "conversationid")}
        answer = structured(
            "grade.replied", {"text": "good"}, source="grader", id_="r1", correlationid=request["id"], **echoed
        )
        decision = apart.decide(answer, understood(answer), FACTS)
        assert decision.failure is not None
        assert decision.failure.code == "no_route"  # taken for an answer, and nobody waits for it
    finally:
        apart.close()


def understood(delivery: Delivery) -> Message:
    message = understand(delivery, RouteTable(Catalog("", {}, {}, {}, ())), FACTS)
    assert isinstance(message, Message)
    return message
