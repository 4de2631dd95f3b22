"""More ways in which a message was lost, told dead though answered, or sent elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from bus.core import naming
from bus.core.message import TASK_CLAIM
from bus.shell.growth import note_growth
from bus.shell.tenure import Tenure
from bus.shell.topology import plan
from tests.core.world import structured
from tests.shell.test_controls import Operated
from tests.shell.test_fleet import Member
from tests.shell.test_leases import QUEUE, Long
from tests.shell.test_random_leases import OTHER, ROUTES, RunFleet
from tests.shell.test_stops import SERIAL, bounce, rest, until
from tests.shell.test_versions import LEASED, Versioned, configuration
from tests.shell.test_worker import NS

MOVE = b"bus.task.move"


def test_a_request_that_comes_back_is_sent_again_each_time() -> None:
    world = Long()
    world.ask("c")
    world.calm()
    for times in range(3):
        bounce(world, QUEUE)
        rest(world, 5)
        assert len(world.queue("capability.grade")) == 1, times  # the second word: "its id was used before"


def unmoved(folder: Path, key: str, routes: str) -> Versioned:
    """The request is out; the store went away before the lease was moved."""
    world = Versioned(configuration(folder, routes, LEASED))
    world.ask(1, "item", key=key)
    real = world.store.commit

    def commit(batch: Any) -> None:
        if any(MOVE in o.body for es in batch.entries.values() for e in es for o in e.outputs):
            world.store.down = "away"
        real(batch)

    world.store.commit = commit  # type: ignore[method-assign]
    until(world, lambda: world.store.down and world.queue("capability.other"))
    world.store.down = ""
    world.store.commit = real  # type: ignore[method-assign]
    return world


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_claim_in_the_commit_that_moves_its_lease_is_kept(tmp_path: Path, key: str) -> None:
    world = unmoved(tmp_path, key, SERIAL.replace(", deadline: 1h", ""))
    (request,) = world.queue("capability.other")
    named = {name: request[name] for name in ("conversationid", "replyto")}
    said: Any = {"capability": "other", "lease": True}
    claim = structured(TASK_CLAIM, said, source="other", id_="c1", correlationid=request["id"], **named)
    world.broker.publish(naming.ingress_exchange(NS), claim._replace(user_id="agents"))
    world.crash()
    rest(world, 3)
    leased = [each["data"].get("lease") for each in world.queue("agent.other")]
    world.broker.take(f"{NS}.capability.other", 10)  # the agent acks, and is never heard of again
    rest(world, 60)
    assert leased == [None] or len(world.queue("capability.other")) == 1


@pytest.mark.parametrize("first", [False, True])
def test_a_lease_that_has_run_out_when_it_leaves_or_arrives(tmp_path: Path, first: bool) -> None:
    world = unmoved(tmp_path, "a", SERIAL.replace("1h", "5s"))
    world.transport.lose("crash")
    world.transport.step()
    world.broker.take(f"{NS}.capability.other", 10)
    world.broker.advance(20.0)
    world.store = world.store.reopen()
    world.begin()
    for _ in range(60):
        world.transport.step()
        tenure = world.worker._tenure
        if tenure is not None and tenure.phase == "running" and (first or not world.worker._judge.leases.away):
            tenure._rows_due = True  # as when the sweep comes while a commit is under way
    rest(world, 10)  # KeyError: the lease that has just come stands in no log yet
    assert [each["type"] for each in world.queue("dead")].count("other.requested") == 1
    assert world.store._disk.held == {}


def apart(folder: Path, deadline: str = "") -> tuple[RunFleet, Member, Member]:
    """One worker has the run, and its store is away before the lease is moved; the other one has all else."""
    one = "".join(line for line in ROUTES.replace("DEADLINE", deadline).splitlines(True) if "vars.y" not in line)
    fleet = RunFleet([configuration(folder, one, LEASED)])
    fleet.start()
    fleet.start()
    fleet.rest(10)
    failing: list[Member] = []
    armed = False

    def fail(member: Member) -> None:
        real = member.store.commit

        def commit(batch: Any) -> None:
            if armed and any(MOVE in o.body for es in batch.entries.values() for e in es for o in e.outputs):
                failing.append(member)
                member.store.down = "away"
            real(batch)

        member.store.commit = commit  # type: ignore[method-assign]

    for member in fleet.members:
        fail(member)
    for number in range(100):
        armed = True
        fleet.ask(f"k{number}", f"c{number}")
        for _ in range(50):
            fleet.step()
        armed = False
        if failing:
            home = failing.pop()
            (other,) = [each for each in fleet.members if each is not home]
            (row,) = fleet.disk._disk.held.values()
            conversation = fleet.disk.entry(row.partition, row.seq).outputs[row.index].conversation
            (queue,) = fleet.broker._route(naming.ingress_exchange(NS), conversation)
            if queue in [naming.ingress_queue(NS, each) for each in other.worker.owned] and 0 in other.worker.owned:
                return fleet, home, other
            home.store.down = ""
            fleet.rest(5)
        failing.clear()
        for stored in fleet.broker.take(OTHER, 10):
            fleet.answer(orjson.loads(stored.delivery.body))
        fleet.rest(20)
        fleet.broker.take(f"{NS}.dead", 100)
    raise AssertionError("no such keys")


def test_a_task_that_was_answered_in_time_is_not_told_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consume = Tenure.consume

    def then_sweep(self: Tenure) -> None:
        consume(self)
        self._sweep()  # it is due before the first delivery comes

    fleet, home, other = apart(tmp_path, ", deadline: 2s")
    for stored in fleet.broker.take(OTHER, 10):
        fleet.answer(orjson.loads(stored.delivery.body))
    fleet.rest(0.6)  # the other one decides it
    fleet.kill(home)
    monkeypatch.setattr(Tenure, "consume", then_sweep)
    other.paused_at = fleet.broker.now_s
    fleet.rest(4)
    other.paused_at = None
    fleet.rest(20)
    assert "other.requested" not in [each["type"] for each in fleet.dead()]


@pytest.mark.xfail(strict=True, reason="word of a lease that is still to come is kept in memory only")
def test_a_request_that_comes_back_before_its_lease_has_come_is_not_lost(tmp_path: Path) -> None:
    fleet, home, _ = apart(tmp_path)
    fleet.bounce()
    fleet.rest(1)  # the other one has noted it, in memory
    fleet.kill(home)
    fleet.rest(20)  # the other one claims anew, and the lease comes
    fleet.bounce()  # the copy that was replayed
    fleet.rest(100)
    held = [each.reason for each in fleet.disk._disk.held.values()]
    assert fleet.broker.bodies(OTHER) or fleet.dead(), held  # "nobody has accepted it yet", and no queue has it


RUN = """\
route: ask
match: {type: asked}
steps:
- call: {capability: grade, into: vars.found}
to: {event: seen, data: {n: "{{ data.n }}", by: one}}
---
agents:
"""


@pytest.mark.parametrize("then", ["live", "restart", "cut"])
def test_an_event_of_a_run_goes_to_the_same_whether_it_waits_or_not(tmp_path: Path, then: str) -> None:
    one = RUN + "  watcher: {adapter: external, subscribes: [seen]}\n"
    two = RUN + "  watcher: {adapter: external, subscribes: [done]}\n  late: {adapter: external, subscribes: [seen]}\n"
    world = Versioned(configuration(tmp_path, one))
    world.ask(1, "asked")
    world.settle()
    after = configuration(tmp_path, two)
    world.change(after)
    world.settle()
    if then != "live":
        world.broker.limit(f"{NS}.agent.late", 0)
    world.agents(1)  # the run ends while two is in force; its record says one
    rest(world, 3)
    if then == "restart":
        world.restart(after)
    elif then == "cut":
        world.transport.lose("cut")
    rest(world, 3)
    world.broker.limit(f"{NS}.agent.late", None)
    world.settle()
    assert (len(world.queue("agent.watcher")), len(world.queue("agent.late"))) == (0, 1)


@pytest.mark.xfail(strict=True, reason="`resume` goes to the new partitions, which wait for what is paused in the old")
def test_a_pause_that_is_on_its_way_when_the_growth_is_noted() -> None:
    world = Operated()
    world.settle()
    world.tell("pause", route="t/grade")
    note_growth(world.store, 3)  # nothing is paused yet
    world.broker.declare(plan(NS, world.store.ingress(), world.catalog))
    until(world, lambda: world.worker._judge.controls.standing.paused)
    world.send("m1", "operator")
    rest(world, 60)
    world.tell("resume", route="t/grade")
    rest(world, 120)
    assert not world.store.ingress().growing  # for ever: m1 holds the old partition, `resume` is in a new queue
    assert world.asked() == ["m1"]
