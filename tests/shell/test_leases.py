"""Long work through the whole worker, in memory: whatever fails, one answer reaches the asker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus.core import naming
from bus.core.ingress import grown
from bus.core.message import TASK_CLAIM, TASK_MOVE, Json
from bus.core.route import Agent, Capability, Catalog
from bus.core.times import rfc3339
from bus.core.work import Target
from bus.ports import Commit, Entry
from bus.shell.memory_broker import Stored
from bus.shell.topology import plan
from tests.core.world import ANYTHING, TEXT, flow, route, run, structured
from tests.shell.test_worker import NS, World

LEASE_S = 60
AGENTS = ("g1", "g2")
QUEUE = naming.capability_queue(NS, "grade")
LONG = Catalog(
    "c0ffee",
    {"desk": Agent("desk", "external", publishes=("asked",)), **{n: Agent(n, "sdk", ("grade",)) for n in AGENTS}},
    {"grade": Capability("grade", ANYTHING, TEXT, lease_s=LEASE_S)},
    {},
    (route("grade", "asked", flow(to=(Target("capability", "grade", "grade.requested", lease_s=LEASE_S),))),),
)


@dataclass
class Worker:
    """An agent that accepts what it is given: what it has not acked, and what it works on."""

    name: str
    unacked: dict[str, Stored] = field(default_factory=dict)  # by the claim that was sent for it
    working: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, Stored] = field(default_factory=dict)  # by task: what it works on without a lease


class Long(World):
    """A bus with one capability that takes long, and two agents that have it."""

    def __init__(self) -> None:
        super().__init__(made=LONG)
        self.agents = {name: Worker(name) for name in AGENTS}
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self._ids = 0
        self.grew = False

    def grow(self) -> None:
        """Note that there are to be more partitions; the broker has their queues."""
        before = self.store.ingress()
        if before.sizes and not before.growing and len(before.sizes) < 4:
            after = grown(before, before.last.size + 1)
            self.broker.declare(plan(NS, after, LONG))
            self.grew = self.store.set_ingress(before, after)

    def calm(self, seconds: float = 0.0) -> None:
        """Let time pass, and then everything that can happen at once."""
        self.broker.advance(seconds)
        while self.transport.step():
            pass

    def ask(self, conversation: str) -> None:
        self._ids += 1
        self.say("asked", {"n": self._ids}, "desk", conversation, replyto="agent:desk")

    def say(self, type_: str, data: Any, source: str, conversation: str, **more: Any) -> str:
        self._ids += 1
        made = structured(type_, data, source=source, id_=f"m{self._ids}", conversationid=conversation, **more)
        self.broker.publish(naming.ingress_exchange(NS), made._replace(user_id="agents"))
        return f"m{self._ids}"

    def about(self, task: dict[str, Any], name: str, type_: str, data: Any) -> str:
        named = {each: task[each] for each in ("replyto", "fence") if each in task}
        return self.say(type_, data, name, task["conversationid"], correlationid=task["id"], **named)

    def claim(self, task: dict[str, Any], name: str) -> str:
        return self.about(task, name, TASK_CLAIM, {"capability": "grade", "lease": True})

    def take(self, name: str) -> None:
        """The agent is given the next request, and claims it."""
        for stored in self.broker.take(QUEUE, 1):
            self.agents[name].unacked[self.claim(orjson.loads(stored.delivery.body), name)] = stored

    def hear(self, name: str) -> list[str]:
        """The agent reads its verdicts, acks, and works on what it may."""
        agent, said = self.agents[name], []
        for each in self.broker.take(f"{NS}.agent.{name}", 100):
            message = orjson.loads(each.delivery.body)
            stored = agent.unacked.pop(message.get("correlationid"), None)
            said.append(message["data"].get("verdict") or message["data"]["code"])
            if stored is not None and said[-1] == "go":
                task = orjson.loads(stored.delivery.body)
                if (
                    self.grew and "lease" not in message["data"]
                ):  # it is on its way to the partition of its conversation
                    agent.kept[task["id"]] = stored
                else:
                    assert message["data"]["lease"] == LEASE_S
                agent.working.append(task)
        return said

    def renew(self, name: str) -> None:
        for task in self.agents[name].working:
            self.claim(task, name)

    def reply(self, name: str) -> None:
        for task in self.agents[name].working[:1]:
            self.about(task, name, "grade.replied", {"text": name})
            self.agents[name].kept.pop(task["id"], None)
        del self.agents[name].working[:1]

    def die(self, name: str) -> None:
        """What is not acked goes back; what was accepted is forgotten."""
        self.broker.give_back([*self.agents[name].unacked.values(), *self.agents[name].kept.values()])
        self.agents[name] = Worker(name)

    def told(self) -> dict[str, list[dict[str, Any]]]:
        """What came to the asker, the first of each id, by the question that it answers."""
        known = {message["id"]: message for message in self.queue("agent.desk")}
        by_question: dict[str, list[dict[str, Any]]] = {}
        for message in known.values():
            by_question.setdefault(message["correlationid"], []).append(message)
        return by_question


def accepted(name: str = "g1") -> Long:
    """A world in which an agent has accepted the one request."""
    world = Long()
    world.ask("c")
    world.calm()
    world.take(name)
    world.calm()
    assert world.hear(name) == ["go"]
    return world


def held(world: Long) -> list[str]:
    partitions = sum(world.store.ingress().sizes)
    return [row.reason for claim in world.store.reopen().claim(partitions) for row in claim.held]


def test_who_is_heard_of_keeps_the_task_and_its_answer_ends_the_lease() -> None:
    world = accepted()
    for _ in range(5):
        world.calm(LEASE_S - 5)
        world.renew("g1")
        world.calm()
    assert world.hear("g1") == ["go"] * 5
    assert world.queue("capability.grade") == []
    world.reply("g1")
    world.calm(LEASE_S * 3)
    ((answer,),) = world.told().values()
    assert answer["data"] == {"text": "g1"}
    assert (held(world), world.queue("capability.grade")) == ([], [])


@pytest.mark.parametrize("crash", [False, True])
def test_nobody_keeps_a_task_beyond_its_deadline(crash: bool) -> None:
    world = Long()
    world.say("asked", {}, "desk", "c", replyto="agent:desk", expirytime=rfc3339(1_800_000_000.0 + 40))
    world.calm()
    world.take("g1")
    world.calm()
    assert world.hear("g1") == ["go"]
    if crash:
        world.crash()
    for _ in range(15):
        world.calm(3.0)
        world.renew("g1")
        world.calm()
    ((told,),) = world.told().values()
    assert (told["type"], told["data"]["code"]) == ("bus.failed", "expired")


def test_who_is_silent_loses_the_task_and_its_late_answer_goes_nowhere() -> None:
    world = accepted()
    world.calm(LEASE_S + 2)
    world.take("g2")
    world.calm()
    assert world.hear("g2") == ["go"]
    assert world.agents["g2"].working[0]["fence"] == 1
    world.renew("g1")
    world.calm()
    assert world.hear("g1") == ["answered"]
    world.reply("g1")
    world.calm()
    assert world.hear("g1") == ["superseded"]
    world.reply("g2")
    world.calm(LEASE_S * 3)
    ((answer,),) = world.told().values()
    assert answer["data"] == {"text": "g2"}
    assert held(world) == []


def test_a_lease_survives_the_bus_and_who_else_is_given_the_task_leaves_it() -> None:
    world = accepted()
    (task,) = world.agents["g1"].working
    world.crash()
    world.calm(1.0)
    world.claim(task, "g2")  # its copy of the request
    world.calm()
    assert world.hear("g2") == ["taken"]
    world.calm(LEASE_S + 2)
    world.crash()
    world.calm(2.0)
    world.take("g2")
    world.calm()
    assert world.hear("g2") == ["go"]


def test_a_lease_that_is_over_is_not_published_with_the_replay_of_its_request() -> None:
    outputs = run(structured("asked", {}, replyto="agent:desk"), LONG).outputs
    world = Long()
    world.store.claim(2)
    world.store.commit(Commit({0: [Entry(1, None, b"{}", b"", outputs)]}))  # confirmed, but not yet known to be
    world.calm(1.0)
    assert [len(world.queue(name)) for name in ("capability.grade", "invalid", "dead")] == [1, 0, 0]


def test_what_nobody_accepts_waits_in_its_queue() -> None:
    world = Long()
    world.ask("c")
    for _ in range(30):
        world.calm(10_000.0)
    assert len(world.queue("capability.grade")) == 1
    world.take("g1")
    world.calm()
    assert world.hear("g1") == ["go"]


def test_a_request_that_expires_unaccepted_is_told_once() -> None:
    world = Long()
    world.say("asked", {}, "desk", "c", replyto="agent:desk", expirytime="2027-01-15T08:00:30Z")
    world.calm()
    for _ in range(10):
        world.calm(31.0)
    ((failed,),) = world.told().values()
    assert (failed["type"], failed["data"]["class"]) == ("bus.failed", "expired")
    assert held(world) == []


def test_a_lease_goes_with_its_conversation_when_the_namespace_grows() -> None:
    world = accepted()
    world.grow()
    for _ in range(20):
        world.calm(1.0)
    assert world.store.ingress().serving == 1
    assert held(world) == ["accepted by g1 agent:g1"]
    world.crash()
    world.calm()
    world.renew("g1")
    world.calm()
    assert world.hear("g1") == ["go"]
    world.calm(LEASE_S - 20)
    world.renew("g1")
    world.calm()
    world.calm(LEASE_S - 20)
    assert world.queue("capability.grade") == []  # it is heard of, where its conversation is
    world.reply("g1")
    world.calm()
    assert held(world) == []
    world.calm(2 * LEASE_S)
    ((answer,),) = world.told().values()
    assert answer["data"] == {"text": "g1"}


def test_an_answer_that_waits_before_the_lease_comes_ends_it() -> None:
    world = accepted()
    world.grow()
    while not world.store.ingress().growing or world.worker.state != "running":
        if not world.transport.step():
            world.broker.advance(0.1)
    for _ in range(5):
        world.steps(20)
        world.broker.advance(0.2)
    world.reply("g1")  # to the new partitions, which are not consumed yet
    for _ in range(20):
        world.calm(1.0)
    assert world.store.ingress().serving == 1
    assert held(world) == []
    world.calm(2 * LEASE_S)
    ((answer,),) = world.told().values()
    assert answer["data"] == {"text": "g1"}


def test_who_is_silent_after_the_namespace_has_grown_loses_the_task() -> None:
    world = accepted()
    world.grow()
    for _ in range(20):
        world.calm(1.0)
    world.die("g1")
    world.calm(LEASE_S)
    world.calm(2.0)
    world.take("g2")
    world.calm()
    assert world.hear("g2") == ["go"]
    world.reply("g2")
    world.calm()
    ((answer,),) = world.told().values()
    assert answer["data"] == {"text": "g2"}


actions = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["c1", "c2"])),
        st.tuples(st.sampled_from(["take", "hear", "renew", "reply", "die"]), st.sampled_from(AGENTS)),
        st.tuples(st.sampled_from(["step", "step", "step", "lose", "crash", "grow"]), st.just("")),
        st.tuples(st.just("time"), st.sampled_from(["5", "30", "61"])),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@example([("ask", "c1"), ("step", ""), ("take", "g1"), ("step", ""), ("hear", "g1"), ("time", "61"), ("reply", "g1")])
@given(actions)
def test_whatever_fails_each_question_gets_one_answer(script: list[tuple[str, str]]) -> None:
    world = Long()
    asked = 0
    for what, how in script:
        if what == "ask":
            asked += 1
            world.ask(how)
        elif what == "step":
            world.steps(7)
        elif what == "time":
            world.broker.advance(float(how))
        elif what in ("lose", "crash"):
            world.suffer(what, 0, [])
        elif what == "grow":
            world.grow()
        else:
            getattr(world, what)(how)
    for name in AGENTS:
        world.die(name)
    for _ in range(3 * asked + 6):  # and now one good agent
        world.calm(LEASE_S + 2)
        while world.queue("capability.grade"):
            world.take("g1")
        world.calm()
        world.hear("g1")
        while world.agents["g1"].working:
            world.reply("g1")
        world.calm()
    answers = world.told()
    assert len(answers) == asked
    assert [len(each) for each in answers.values()] == [1] * asked
    assert held(world) == []
    assert world.queue("invalid") == []


def test_word_of_a_lease_that_names_none_ends_no_worker() -> None:
    world = Long()
    words: list[Json] = [{}, [], None, {"partition": 0, "seq": 999, "index": 0}, {"partition": "x"}]
    for number, data in enumerate(words):
        said = structured(TASK_MOVE, data, source="bus", id_=f"w{number}")
        world.broker.publish(naming.ingress_exchange(NS), said._replace(user_id="bus"))
    world.ask("c")
    world.calm()
    assert len(world.queue("capability.grade")) == 1
