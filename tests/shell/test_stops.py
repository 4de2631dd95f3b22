"""Ways in which a worker stopped, and a message was lost, doubled or came out of order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bus.core import naming
from bus.core.actions import Delivery
from bus.core.control import PAUSED
from bus.core.errors import BusError
from bus.core.ingress import Ingress, grown
from bus.core.message import TASK_CLAIM, TASK_MOVE
from bus.core.notices import Notice
from bus.core.table import RouteTable
from bus.ports import SHARED, Commit, State
from bus.shell import growth_wish
from bus.shell.growth import begin_ingress, note_growth
from bus.shell.sqlite_store import SqliteStore
from bus.shell.topology import plan
from bus.shell.trial.place import Here, fault
from bus.shell.versions import IN_STORE
from tests.core.world import FACTS, catalog, flow, route, structured, to_capability
from tests.shell.test_controls import Operated
from tests.shell.test_fleet import Fleet
from tests.shell.test_leases import LEASE_S, QUEUE, Long, accepted, held
from tests.shell.test_runs import finish
from tests.shell.test_versions import LEASED, ONE, Versioned, configuration
from tests.shell.test_worker import NS, World


def until(world: Any, true: Callable[[], Any]) -> None:
    for _ in range(5000):
        if true():
            return
        if not world.transport.step():
            world.broker.advance(0.1)
    raise AssertionError("it never came to that")


def rest(world: Any, seconds: int) -> None:
    for _ in range(seconds):
        world.broker.advance(1.0)
        while world.transport.step():
            pass


def grow(world: Any) -> None:
    before = world.store.ingress()
    after = grown(before, before.last.size + 1)
    world.broker.declare(plan(NS, after, world.catalog))
    assert world.store.set_ingress(before, after)


# --- a pause and a growth ---


def test_a_namespace_does_not_begin_to_grow_while_anything_is_paused() -> None:
    """What waits for it would hold the growth up, and `resume` would wait in the new queues, which wait for the old."""
    world = Operated()
    world.settle()
    world.tell("pause", route="t/grade")
    rest(world, 3)
    with pytest.raises(BusError, match="`bus control resume`"):
        note_growth(world.store, 3)
    assert not world.store.ingress().growing
    world.tell("resume", route="t/grade")
    rest(world, 3)
    note_growth(world.store, 3)
    assert world.store.ingress().growing


def test_a_wish_beside_a_sqlite_store_waits_while_anything_is_paused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "bus.db")
    begin_ingress(store, None, 2)
    store.commit(Commit(states=[State(SHARED, f"{PAUSED}route:t/grade", b"{}", None)]))
    growth_wish.leave(tmp_path / "bus.db", 3)
    assert not store.ingress().growing
    store.commit(Commit(states=[State(SHARED, f"{PAUSED}route:t/grade", None, None)]))
    assert store.ingress() == Ingress((2, 3))
    store.close()


# --- a move and what is behind it in one batch ---


def moving() -> Long:
    """A lease is on its way: word of it waits in a queue of the new generation, which nobody consumes yet."""
    world = accepted()
    world.grow()
    until(world, lambda: on_its_way(world))
    return world


def on_its_way(world: Long) -> bool:
    queues = [naming.ingress_queue(NS, each) for each in range(2, sum(world.store.ingress().sizes))]
    return any(TASK_MOVE.encode() in body for queue in queues for body in world.broker.bodies(queue))


def test_an_answer_right_behind_its_lease_ends_it() -> None:
    world = moving()
    world.reply("g1")
    rest(world, 20)
    world.calm(2 * LEASE_S)
    world.calm(2.0)
    assert world.worker._error is None  # "input 3 of partition 2 is known already", after each restart, too
    assert held(world) == []


def test_who_renews_right_behind_its_lease_keeps_the_task() -> None:
    world = accepted()
    world.calm(LEASE_S - 8)
    world.grow()
    until(world, lambda: on_its_way(world))
    world.renew("g1")
    rest(world, 20)
    assert world.queue("capability.grade") == []


def test_a_request_that_comes_back_right_behind_its_lease_is_sent_again() -> None:
    world = Long()
    world.ask("c")
    world.calm()
    world.grow()
    until(world, lambda: on_its_way(world))
    bounce(world, QUEUE)
    rest(world, 30)
    assert len(world.queue("capability.grade")) == 1


def bounce(world: World, queue: str) -> None:
    (stored,) = world.broker.take(queue, 1)
    why = {"x-first-death-reason": "delivery_limit", "x-first-death-queue": queue}
    world.broker.publish("", stored.delivery._replace(headers=why, user_id="bus", routing_key=naming.bounced(NS)))


# --- leases of runs that live elsewhere ---

SERIAL = """\
route: serial
match: {type: item}
serial_by: data.key
steps:
- call: {capability: other, into: vars.x, deadline: 1h}
to: {event: seen, data: {n: "{{ data.n }}"}}
---
agents: {watcher: {adapter: external, subscribes: [seen]}}
"""
KEYS = pytest.mark.parametrize("key", ["a", "b"])  # in another partition than the conversation, and in the same


def serial(folder: Path, key: str, routes: str = SERIAL) -> Versioned:
    world = Versioned(configuration(folder, routes, LEASED))
    world.ask(1, "item", key=key)
    rest(world, 3)
    return world


@KEYS
def test_a_task_of_a_run_that_lives_elsewhere_can_be_accepted(tmp_path: Path, key: str) -> None:
    world = serial(tmp_path, key)
    (request,) = world.queue("capability.other")
    named = {name: request[name] for name in ("conversationid", "replyto")}
    said: Any = {"capability": "other", "lease": True}
    claim = structured(TASK_CLAIM, said, source="other", id_="c1", correlationid=request["id"], **named)
    world.broker.publish(naming.ingress_exchange(NS), claim._replace(user_id="agents"))
    rest(world, 2)
    assert [each["data"].get("lease") for each in world.queue("agent.other")] == [10]


@KEYS
def test_its_answer_ends_the_lease_and_nothing_is_told_dead_afterwards(tmp_path: Path, key: str) -> None:
    world = serial(tmp_path, key)
    world.agents(1)
    rest(world, 3)
    assert [each["n"] for each in world.seen()] == [1]
    assert len(world.worker._judge.leases) == 0
    world.broker.advance(3700.0)
    rest(world, 5)
    assert world.queue("dead") == []


@KEYS
def test_its_request_is_sent_again_when_it_comes_back(tmp_path: Path, key: str) -> None:
    world = serial(tmp_path, key, SERIAL.replace(", deadline: 1h", ""))
    bounce(world, f"{NS}.capability.other")
    rest(world, 10)
    assert len(world.queue("capability.other")) == 1


# --- two tenures on one connection ---


def test_a_claim_that_was_given_up_begins_nothing() -> None:
    world = World()
    late: list[Callable[[], None]] = []
    lead = world.transport.lead
    world.transport.lead = lambda way, then: lead(way, lambda: late.append(then))  # type: ignore[method-assign]
    for number in range(10):
        world.send(f"m{number}", f"c{number}")
    world.steps(20)  # it has claimed; the broker takes its time
    world.store.down = "away"
    world.broker.advance(1.0)
    world.steps(20)  # the leases can't be renewed, so it is to claim anew in half a second
    world.store.down = ""
    world.transport.lead = lead  # type: ignore[method-assign]
    late.pop()()
    world.steps(3)
    world.settle()
    for number in range(10, 100):
        world.send(f"m{number}", f"c{number}")
    world.settle()
    assert len(world.asked()) == 100  # 22, and the state is `running`


# --- a message that ends the process, parked ---


class Killed(BaseException):
    """The process ends here, as by the kernel when memory runs out."""


def kills(names: Any) -> Any:
    if names["data"]["n"] == "m1":
        raise Killed
    return names["data"]


POISON = catalog(route("grade", "asked", flow(to=(to_capability("grade", data=kills),))))


class Elsewhere(Here):
    """Another process, which may end."""

    def decide(self, delivery: Any, message: Any, facts: Any) -> Any:
        try:
            return super().decide(delivery, message, facts)
        except Killed:
            return fault(delivery, message, self._table, facts, RuntimeError("it was killed"))


class Poisoned(Operated):
    def more(self) -> dict[str, Any]:
        return {**super().more(), "apart": Elsewhere(RouteTable(POISON))}

    def live(self) -> int:
        """Go on as whoever restarts it would; returns how often it was killed."""
        for killed in range(8):
            try:
                self.settle()
                return killed
            except Killed:
                self.crash()
        return 8


@pytest.mark.parametrize("paused", [False, True])
def test_what_ends_the_process_is_decided_apart_in_the_end_though_it_was_parked(paused: bool) -> None:
    world = Poisoned(made=POISON)
    if paused:
        world.tell("pause", route="t/grade")
        world.live()
    world.send("m1")
    world.send("m2", "other")
    world.live()
    world.tell("resume", route="t/grade")
    assert world.live() < 5
    assert world.asked() == ["m2"]
    assert len(world.queue("dead")) == 1


# --- one commit that decides and moves; a notice where nothing is decided any more ---


def test_a_lease_that_runs_out_as_its_partition_is_to_move() -> None:
    world = accepted()
    world.calm(LEASE_S - 5)
    world.grow()
    for _ in range(80):
        world.calm(0.25)  # KeyError: the lease that has just begun stands in no log yet
    assert world.store.ingress().serving == 1


def test_a_reload_while_all_partitions_of_a_worker_are_drained() -> None:
    fleet = Fleet(None)
    one, _ = fleet.start(), fleet.start()
    fleet.rest(8)
    fleet.grow()
    judge = one.worker._judge
    for _ in range(400):
        fleet.step()
        fleet.broker.advance(0.05)
        if one.worker.state == "running" and judge._retired >= {*judge._partitions.values()}:
            break
    one.worker.notice(Notice("bus.config.applied", {}, "a reload"))
    fleet.rest(8)  # ValueError: min() arg is an empty sequence
    assert one.worker.state == "running"


# --- a row that is written after it is gone ---


class Slow:
    """Store work that is done when the test says so."""

    def __init__(self, call: Callable[[Callable[[], None]], None]) -> None:
        self._call = call
        self.late: deque[Any] = deque()

    def submit(self, work: Any, done: Any) -> None:
        self.late.append((work, done))

    def go(self) -> None:
        work, done = self.late.popleft()
        result = work()
        self._call(lambda: done(result))

    def close(self) -> None: ...


def test_a_refused_output_that_gets_through_during_a_slow_commit_leaves_no_row() -> None:
    world = World({f"{NS}.capability.grade": 0})
    world.settle()
    inline, slow = world.worker._committer, Slow(world.transport.call_threadsafe)
    world.worker._committer = slow
    world.steps(2)
    while slow.late:  # leases are renewed
        slow.go()
        world.steps(2)
    for number in (1, 2):
        world.send(f"m{number}", f"c{number}")
        world.steps(2)
    slow.go()  # m1 is committed, published and refused, while m2 is being committed
    world.steps(5)
    world.broker.limit(f"{NS}.capability.grade", None)
    for _ in range(25):  # that takes 2.5 s; meanwhile m1 is tried again, and gets through
        world.broker.advance(0.1)
        world.steps(5)
    assert world.asked() == ["m1"]
    while slow.late:
        slow.go()
        world.steps(5)
    world.worker._committer = inline
    world.settle()
    assert world.store._disk.held == {}
    world.crash()
    world.settle()
    assert len(world.queue("capability.grade")) == 2


# --- order across a pause ---


@pytest.mark.parametrize("then", ["confirmed", "crash"])
def test_what_is_in_flight_when_its_target_is_paused_stays_before_what_comes_later(then: str) -> None:
    world = Operated()
    world.settle()
    for number in range(3):
        world.send(f"m{number}")
    until(world, lambda: world.worker._tenure._outflow._flying)  # type: ignore[union-attr]
    late, world.transport._outcomes = world.transport._outcomes, []  # of m1; m2 is behind it
    world.tell("pause", capability="grade")
    world.steps(10)
    world.send("m3")
    world.steps(10)
    if then == "crash":
        world.crash()
    else:
        world.transport._outcomes += late
    world.settle()
    world.tell("resume", capability="grade")
    world.settle()
    assert world.asked() == ["m0", "m1", "m2", "m3"]


# --- events that wait, after a reload and a lost connection, or a restart ---


@pytest.mark.xfail(strict=True, reason="where an event goes is kept in memory only, by configuration")
@pytest.mark.parametrize("how", ["change", "change and cut", "restart"])
def test_events_that_wait_go_to_who_had_subscribed_whatever_happens_in_between(tmp_path: Path, how: str) -> None:
    plain = "route: ask\nmatch: {type: asked}\nto: {event: seen, data: {n: '{{ data.n }}', by: one}}\n---\nagents:\n"
    one = plain + "  watcher: {adapter: external, subscribes: [seen]}\n"
    two = (
        plain + "  watcher: {adapter: external, subscribes: [done]}\n  late: {adapter: external, subscribes: [seen]}\n"
    )
    world = Versioned(configuration(tmp_path, one))
    world.broker.limit(f"{NS}.agent.watcher", 0)
    world.ask(1, "asked")
    world.settle()
    getattr(world, how.split()[0])(configuration(tmp_path, two))
    if "cut" in how:
        world.transport.lose("cut")
    world.settle()
    world.broker.limit(f"{NS}.agent.watcher", None)
    world.settle()
    assert world.by() == {1: "one"}


# --- a message that grows while it is parked ---


def test_a_message_of_the_largest_size_may_be_parked() -> None:
    world = Operated()
    world.tell("pause", route="t/grade")
    world.settle()
    body = orjson.dumps({"n": "x" * (FACTS.limits.body_bytes - 20)})
    named = {"ce-specversion": "1.0", "ce-id": "m1", "ce-source": "cli", "ce-type": "asked", "ce-conversationid": "c"}
    said = Delivery(body, "application/json", named, "agents", "m1", "asked", "c", "")
    world.broker.publish(naming.ingress_exchange(NS), said)
    world.settle()
    world.tell("resume", route="t/grade")
    world.settle()
    assert world.broker.bodies(f"{NS}.invalid") == []  # "the body has 262259 bytes; at most 262144 are accepted"
    assert world.asked() == ["m1"]


# --- a configuration that only a run on its way needs ---


@pytest.mark.xfail(strict=True, reason="while a state is on its way, nothing in the store names its configuration")
def test_the_configuration_of_a_run_on_its_way_is_kept(tmp_path: Path) -> None:
    world = Versioned(configuration(tmp_path, ONE))
    world.ask(1, "asked")
    rest(world, 3)
    grow(world)
    until(world, lambda: not world.store.versions())  # the run is in the log, and word of it in a new queue
    for number in range(IN_STORE + 1):
        world.change(configuration(tmp_path, ONE.replace("by: one", f"by: v{number}")))
    rest(world, 20)
    finish(world)
    assert world.by() == {1: "one"}
