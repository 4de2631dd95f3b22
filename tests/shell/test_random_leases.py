"""Runs under leases that live elsewhere, over two workers: kills, drains, reloads, growth, time, agents that die."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest

from bus.core import naming
from bus.core.message import TASK_CLAIM
from bus.core.table import RouteTable
from bus.shell.memory_transport import MemoryTransport
from bus.shell.telemetry.metrics import NullMeter
from bus.shell.tenancy import Layout
from bus.shell.topology import plan
from bus.shell.versions import Configuration
from bus.shell.worker import Plan, Worker
from tests.core.world import FACTS, structured
from tests.shell.test_fleet import EPOCH, NS, PARTITIONS, Fleet, Member
from tests.shell.test_versions import LEASED, compiler, configuration
from tests.shell.test_worker import Inline

ROUTES = """\
route: serial
match: {type: item}
serial_by: data.key
steps:
- call: {capability: other, into: vars.xDEADLINE}
- call: {capability: other, into: vars.yDEADLINE}
to: {event: seen, data: {n: "{{ data.n }}"}}
---
agents: {watcher: {adapter: external, subscribes: [seen]}}
"""
OTHER = f"{NS}.capability.other"


class RunMember(Member):
    def __init__(self, fleet: Any, name: str) -> None:
        self.name = name
        self.paused_at = None
        self.layout = Layout(fleet.disk.ingress())
        self.transport = MemoryTransport(
            fleet.broker, declare=lambda broker: broker.declare(plan(NS, self.layout.declaring(), fleet.catalog))
        )
        self.store = fleet.disk.reopen()
        self.worker = Worker(
            self.transport, self.store, NullMeter(), RouteTable(fleet.catalog), replace(FACTS, seal=self.store.secret),
            Plan(NS, PARTITIONS, prefetch=20, window=1000, worker=name),
            clock=lambda: EPOCH + fleet.broker.now_s, monotonic=lambda: fleet.broker.now_s, committer=Inline,
            layout=self.layout, bundle=fleet.configuration.bundle, compiler=compiler,
        )  # fmt: skip
        self.transport.start(self.worker)


class RunFleet(Fleet):
    def __init__(self, made: list[Configuration]) -> None:
        self.made, self.configuration = made, made[0]
        self.catalog = made[0].table.catalog
        super().__init__(None)
        self.asked: dict[int, str] = {}
        self.ids = 0
        self.working: list[tuple[dict[str, Any], float]] = []  # accepted under a lease, acked
        self.unacked: dict[str, Any] = {}
        self.answered: dict[str, float] = {}

    def start(self) -> Member:
        self.started += 1
        member = RunMember(self, f"w{self.started}")
        self.members.append(member)
        return member

    def reload(self, member: Member, which: int) -> None:
        self.configuration = self.made[which]
        self.catalog = self.configuration.table.catalog
        self.broker.declare(plan(NS, self.disk.ingress(), self.catalog))
        member.worker.reconfigure(
            Configuration(RouteTable(self.catalog), self.configuration.bundle), lambda _error: None
        )

    def ask(self, key: str, conversation: str) -> None:
        n = len(self.asked)
        self.asked[n] = key
        made = structured("item", {"n": n, "key": key}, id_=f"m{n}", conversationid=conversation)
        assert self.broker.publish(naming.ingress_exchange(NS), made._replace(user_id="agents")) == "confirmed"

    def say(self, task: dict[str, Any], type_: str, data: Any) -> str:
        self.ids += 1
        named = {each: task[each] for each in ("replyto", "fence", "conversationid") if each in task}
        made = structured(type_, data, source="other", id_=f"a{self.ids}", correlationid=task["id"], **named)
        self.broker.publish(naming.ingress_exchange(NS), made._replace(user_id="agents"))
        return f"a{self.ids}"

    def claim_next(self) -> None:
        for stored in self.broker.take(OTHER, 1):
            task = orjson.loads(stored.delivery.body)
            claim = self.say(task, TASK_CLAIM, {"capability": "other", "lease": True})
            self.unacked[claim] = stored

    def hear(self) -> None:
        for each in self.broker.take(f"{NS}.agent.other", 100):
            said = orjson.loads(each.delivery.body)
            stored = self.unacked.pop(said.get("correlationid"), None)
            if stored is None or said["data"].get("verdict") != "go":
                continue
            if "lease" in said["data"]:
                self.working.append((orjson.loads(stored.delivery.body), self.broker.now_s))
            else:
                self.answer(orjson.loads(stored.delivery.body))  # no lease: it answers before it acks

    def answer(self, task: dict[str, Any]) -> None:
        self.say(task, "other.replied", {"n": 1})

    def die(self) -> None:
        self.broker.give_back(list(self.unacked.values()))
        self.unacked.clear()
        self.working.clear()

    def bounce(self) -> None:
        for stored in self.broker.take(OTHER, 1):
            why = {"x-first-death-reason": "delivery_limit", "x-first-death-queue": OTHER}
            self.broker.publish(
                "", stored.delivery._replace(headers=why, user_id="bus", routing_key=naming.bounced(NS))
            )

    def dead(self) -> list[dict[str, Any]]:
        return [orjson.loads(each) for each in self.broker.bodies(f"{NS}.dead")]

    def seen(self) -> Counter[int]:
        known = {}
        for body in self.broker.bodies(f"{NS}.agent.watcher"):
            message = orjson.loads(body)
            known[message["id"]] = message["data"]["n"]
        return Counter(known.values())

    def finish(self) -> None:
        for member in self.members:
            member.paused_at = None
            member.store.down = member.store.full = ""
        self.die()
        for _ in range(600):
            if not self.members:
                self.start()
            for _ in range(60):
                if not self.step():
                    break
            self.hear()
            for task, _ in self.working:
                self.answer(task)
            self.working.clear()
            for stored in self.broker.take(OTHER, 1000):
                self.answer(orjson.loads(stored.delivery.body))
            if self.quiet() and self.remembered() == 0 and not self.broker.bodies(OTHER):
                return
            self.broker.advance(0.7)

    def remembered(self) -> int:
        return sum(1 for (_, key) in self.disk._disk.states if key.startswith(("flow:", "cell:")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Configuration]:
    one = configuration(tmp_path_factory.mktemp("one"), ROUTES.replace("DEADLINE", ""), LEASED)
    two = configuration(
        tmp_path_factory.mktemp("two"), ROUTES.replace("DEADLINE", "").replace("vars.y", "vars.z"), LEASED
    )
    return [one, two]


def play(fleet: RunFleet, dice: random.Random, bounces: bool = False) -> list[Any]:  # noqa: C901 # one case a word
    script: list[Any] = []
    fleet.start()
    fleet.start()
    words = ["ask"] * 4 + ["turn"] * 12 + ["claim"] * 6 + ["hear"] * 6 + ["answer"] * 4 + ["renew"] * 2
    words += ["time"] * 6 + ["die", "kill", "start", "drain", "reload", "grow", "lose", "down", "up", "up"]
    words += ["bounce"] if bounces else []
    for _ in range(dice.randint(20, 90)):
        word, number = dice.choice(words), dice.randrange(1000)
        script.append((word, number))
        member = fleet.members[number % len(fleet.members)] if fleet.members else None
        if word == "ask":
            fleet.ask(f"k{number % 5}", f"c{number % 7}")
        elif word == "turn":
            for _ in range(number % 12):
                if number % 2 and member is not None and not member.gone and member in fleet.members:
                    member.transport.step()
                else:
                    fleet.step()
        elif word == "claim":
            fleet.claim_next()
        elif word == "hear":
            fleet.hear()
        elif word == "answer" and fleet.working:
            fleet.answer(fleet.working.pop(number % len(fleet.working))[0])
        elif word == "renew":
            for task, _ in fleet.working:
                fleet.say(task, TASK_CLAIM, {"capability": "other", "lease": True})
        elif word == "time":
            fleet.broker.advance(dice.choice([0.1, 0.6, 1.1, 3.0, 7.0, 11.0]))
        elif word == "die":
            fleet.die()
        elif word == "bounce":
            fleet.bounce()
        elif word == "start" and len(fleet.members) < 3:
            fleet.start()
        elif word == "grow" and len(fleet.disk.ingress().sizes) < 3:
            fleet.grow()
        elif member is not None and word == "kill":
            fleet.kill(member)
        elif member is not None and word == "drain":
            member.worker.drain()
        elif member is not None and word == "lose":
            member.transport.lose("cut")
        elif member is not None and word == "reload":
            fleet.reload(member, number % 2)
        elif member is not None and word == "down":
            member.store.down = "away"
        elif member is not None and word == "up":
            member.store.down = ""
    return script


@pytest.mark.parametrize("seed", range(300))
def test_random(made: list[Configuration], seed: int) -> None:
    fleet = RunFleet(made)
    script = play(fleet, random.Random(seed), bounces=True)
    fleet.finish()
    held = [(r, fleet.disk.entry(r.partition, r.seq).outputs[r.index].kind) for r in fleet.disk._disk.held.values()]
    states = [(p, k) for p, k in fleet.disk._disk.states]
    assert fleet.quiet(), (
        script,
        held,
        states,
        [(m.name, m.worker.state) for m in fleet.members],
        fleet.disk.ingress(),
    )
    assert fleet.remembered() == 0, (script, states)
    assert held == [], script
    assert fleet.dead() == [], script
    assert fleet.seen() == Counter(dict.fromkeys(fleet.asked, 1)), script
    assert all(len(m.worker._judge.leases) == 0 for m in fleet.members if m.worker.state == "running")
    assert all(m.worker._error is None for m in fleet.members)
