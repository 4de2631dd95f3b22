"""A seeded simulator of the protocol: several workers on one broker and one store, in memory, on a clock of its own.

Workers crash, are paused and go on, drain and come back, and decide by other routes; connections are lost, targets are
full or gone, producers repeat themselves, the namespace grows. After each script everything is let run until nothing
moves, and then I1 to I5 are checked: every confirmed input has just one end per target, the log holds what was
delivered, each id has one body, and order per conversation and target holds. hypothesis finds scripts and makes a
failing one small; it prints the script to replay.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bus.core import naming
from bus.core.expression import Names
from bus.core.ingress import Ingress, grown
from bus.core.message import Json
from bus.core.table import RouteTable
from bus.core.work import Target
from bus.ports import Way
from bus.shell.memory_broker import MemoryBroker
from bus.shell.memory_store import MemoryStore
from bus.shell.memory_transport import MemoryTransport
from bus.shell.telemetry.metrics import NullMeter
from bus.shell.tenancy import TTL_S, Layout
from bus.shell.topology import plan
from bus.shell.versions import Configuration
from bus.shell.worker import Plan, Worker
from tests.core.world import FACTS, catalog, flow, route, structured, to_capability
from tests.shell.test_worker import Inline

NS = "ns"
PARTITIONS = 4
TARGETS = ("grade", "weigh")
EPOCH = 1_800_000_000.0
CATALOG = catalog(
    route("grade", "asked", flow(to=(to_capability("grade"),))),
    route("hop", "order.in", flow(to=(Target("event", "asked", "asked", to_route=True),))),
)


def signed(names: Names) -> Json:
    data = names["data"]
    assert isinstance(data, dict)
    return {**data, "by": "other"}


# Decides otherwise: what one version has recorded must go out as it stands, whoever publishes it.
OTHER = replace(
    catalog(
        route("grade", "asked", flow(to=(to_capability("grade", data=signed),))),
        CATALOG.routes[1],
    ),
    version="07e4",
)


class Member:
    """One worker process: it can be killed, paused and drained."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.name = name
        self.paused_at: float | None = None
        self.layout = Layout(fleet.disk.ingress())
        self.transport = MemoryTransport(
            fleet.broker, declare=lambda broker: broker.declare(plan(NS, self.layout.declaring(), fleet.catalog))
        )
        self.store = fleet.disk.reopen()
        self.worker = Worker(
            self.transport,
            self.store,
            NullMeter(),
            RouteTable(fleet.catalog),
            replace(FACTS, seal=self.store.secret),
            Plan(NS, PARTITIONS, prefetch=20, window=1000, worker=name),
            clock=lambda: EPOCH + fleet.broker.now_s,
            monotonic=lambda: fleet.broker.now_s,
            committer=Inline,
            layout=self.layout,
        )
        self.transport.start(self.worker)

    @property
    def gone(self) -> bool:
        return self.transport.stopped


class Fleet:
    """One namespace with as many workers as are started, and all that the script has confirmed and taken."""

    catalog = CATALOG  # of who starts

    def __init__(self, limit: int | None) -> None:
        self.broker = MemoryBroker(
            plan(NS, Ingress((PARTITIONS,)), self.catalog), {f"{NS}.capability.grade": limit} if limit else {}
        )
        self.disk = MemoryStore(clock=lambda: self.broker.now_s)
        self.disk.set_ingress(Ingress(), Ingress((PARTITIONS,)))
        self.members: list[Member] = []
        self.started = 0
        self.confirmed: dict[str, list[str]] = defaultdict(list)  # by conversation and kind, in order
        self.bodies: dict[str, tuple[str, str]] = {}
        self.taken: list[dict[str, Any]] = []

    def start(self) -> Member:
        self.started += 1
        member = Member(self, f"w{self.started}")
        self.members.append(member)
        return member

    def send(self, identity: str, conversation: str, type_: str) -> None:
        delivery = structured(type_, {"n": identity}, id_=identity, conversationid=conversation)
        sent = self.broker.publish(naming.ingress_exchange(NS), delivery._replace(user_id="agents"))
        assert sent == "confirmed"

    def grow(self) -> None:
        """Note that there are to be two partitions more; nothing while it grows already."""
        before = self.disk.ingress()
        if not before.growing:
            assert self.disk.set_ingress(before, grown(before, before.last.size + 2))

    def step(self) -> bool:
        """One turn of every worker that is not paused."""
        moved = False
        for member in list(self.members):
            if member.paused_at is None:
                moved = member.transport.step() or moved
            if member.gone:
                self.members.remove(member)
                member.transport.disconnect()
        return moved

    def kill(self, member: Member) -> None:
        self.members.remove(member)
        member.transport.disconnect()

    def take(self, number: int) -> None:
        queue = f"{NS}.capability.grade"
        self.taken += [orjson.loads(each.delivery.body) for each in self.broker.take(queue, number)]

    def decided_in(self) -> Counter[int]:
        """How many inputs each partition remembers."""
        everything = range(sum(self.disk.ingress().sizes))
        return Counter(partition for partition, _, _ in self.disk.keys(10_000, everything))

    def recorded(self) -> dict[str, dict[str, Any]]:
        """What the log holds that inputs led to, by id."""
        found = {}
        for partition, bucket, key in self.disk.keys(10_000, range(sum(self.disk.ingress().sizes))):
            row = self.disk.seen(partition, bucket, key)
            assert row is not None
            for output in self.disk.entry(partition, row[0]).outputs:
                found[output.id] = orjson.loads(output.body)
        return found

    def owners(self) -> Counter[int]:
        working = [m.worker for m in self.members if m.worker.state in ("running", "replaying")]
        return Counter(partition for worker in working for partition in worker.owned)

    def rest(self, seconds: float) -> None:
        """Let time pass as it does, with turns in between."""
        for _ in range(round(seconds / 0.1)):
            while self.step():
                pass
            self.broker.advance(0.1)

    def settle(self) -> None:
        """Let everything run and time pass, taking what is delivered, until nothing moves any more."""
        for member in self.members:
            member.paused_at = None
        self.broker.limit(f"{NS}.capability.grade", None)
        for _ in range(1500):
            if not self.members:
                self.start()
            for _ in range(300):
                if not self.step():
                    break
            self.take(1000)
            if self.quiet():
                return
            self.broker.advance(0.45)

    def quiet(self) -> bool:
        """Whether every worker has its share, and nothing is left to do."""
        ingress = self.disk.ingress()
        if ingress.growing:
            return False
        working = self.owners() == Counter(range(ingress.served.size))
        queued = any(self.broker.bodies(naming.ingress_queue(NS, each)) for each in range(sum(ingress.sizes)))
        left = {member.worker.state for member in self.members} - {"running", "standby"}
        unfinished = self.disk.unfinished()
        return working and not queued and not left and not unfinished


class Protocol(RuleBasedStateMachine):
    @initialize(limit=st.sampled_from([None, 1, 3]), workers=st.integers(1, 3))
    def begin(self, limit: int | None, workers: int) -> None:
        self.fleet = Fleet(limit)
        for _ in range(workers):
            self.fleet.start()

    def _member(self, number: int) -> Member | None:
        members = self.fleet.members
        return members[number % len(members)] if members else None

    @rule(conversation=st.integers(0, 5), kind=st.sampled_from(["asked", "order.in"]), count=st.integers(1, 4))
    def publish(self, conversation: int, kind: str, count: int) -> None:
        for _ in range(count):
            identity, name = f"m{len(self.fleet.bodies)}", f"c{conversation}"
            self.fleet.send(identity, name, kind)
            self.fleet.confirmed[f"{name}/{kind}"].append(identity)
            self.fleet.bodies[identity] = (name, kind)

    @rule(number=st.integers(0, 50))
    def publish_again(self, number: int) -> None:
        identities = list(self.fleet.bodies)
        if identities:
            identity = identities[number % len(identities)]
            self.fleet.send(identity, *self.fleet.bodies[identity])

    @rule(count=st.integers(1, 12))
    def turn(self, count: int) -> None:
        for _ in range(count):
            self.fleet.step()

    @rule(number=st.integers(0, 5), count=st.integers(1, 6))
    def turn_of_one(self, number: int, count: int) -> None:
        member = self._member(number)
        for _ in range(count if member is not None and member.paused_at is None else 0):
            if member is not None and not member.gone:
                member.transport.step()

    @rule(number=st.integers(0, 5))
    def lose_connection(self, number: int) -> None:
        member = self._member(number)
        if member is not None:
            member.transport.lose("cut")

    @rule(number=st.integers(0, 5))
    def kill(self, number: int) -> None:
        member = self._member(number)
        if member is not None:
            self.fleet.kill(member)

    @precondition(lambda self: len(self.fleet.members) < 4)
    @rule()
    def start(self) -> None:
        self.fleet.start()

    @rule(number=st.integers(0, 5))
    def drain(self, number: int) -> None:
        member = self._member(number)
        if member is not None:
            member.worker.drain()

    @rule(number=st.integers(0, 5))
    def pause(self, number: int) -> None:
        member = self._member(number)
        if member is not None and member.paused_at is None:
            member.paused_at = self.fleet.broker.now_s

    @rule(number=st.integers(0, 5))
    def go_on(self, number: int) -> None:
        member = self._member(number)
        if member is not None and member.paused_at is not None:
            if self.fleet.broker.now_s - member.paused_at > 15.0:  # the broker has missed its heartbeats
                member.transport.lose("heartbeats missed")
            member.paused_at = None

    @rule(number=st.integers(0, 5), refusal=st.sampled_from(["", "the disk is full"]))
    def store_fails(self, number: int, refusal: str) -> None:
        member = self._member(number)
        if member is not None:
            member.store.down = refusal

    @rule(number=st.integers(0, 5), full=st.sampled_from(["", "the disk is full"]))
    def disk_fills(self, number: int, full: str) -> None:
        member = self._member(number)
        if member is not None:
            member.store.full = full

    @rule(number=st.integers(0, 5), other=st.booleans())
    def reload(self, number: int, other: bool) -> None:
        self.fleet.catalog = OTHER if other else CATALOG
        member = self._member(number)
        if member is not None:
            member.worker.reconfigure(Configuration(RouteTable(self.fleet.catalog)), lambda _error: None)

    @precondition(lambda self: len(self.fleet.disk.ingress().sizes) < 4)
    @rule()
    def grow(self) -> None:
        self.fleet.grow()

    @rule(count=st.integers(1, 3))
    def take(self, count: int) -> None:
        self.fleet.take(count)

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.1, TTL_S + 0.2, 7.0, 16.0]))
    def time(self, seconds: float) -> None:
        self.fleet.broker.advance(seconds)

    @invariant()
    def nobody_shares_a_partition(self) -> None:
        """By the lease table; two may believe in the same one only until the older has looked at its clock."""
        if hasattr(self, "fleet"):
            fresh = [m for m in self.fleet.members if m.paused_at is None and not m.worker.lease_expired]
            owned = Counter(p for m in fresh if m.worker.state == "running" for p in m.worker.owned)
            assert all(count == 1 for count in owned.values()), owned

    def teardown(self) -> None:
        if not hasattr(self, "fleet"):
            return
        fleet = self.fleet
        for member in fleet.members:
            member.store.down = member.store.full = ""
        fleet.settle()
        first: dict[str, dict[str, Any]] = {}
        for message in fleet.taken:
            assert first.setdefault(message["id"], message) == message  # a repeat is the same, byte for byte
        recorded = fleet.recorded()
        assert {each: recorded.get(each) for each in first} == first
        got = [message["data"]["n"] for message in first.values()]
        assert sorted(got) == sorted(fleet.bodies)  # nothing lost, nothing twice under another id
        for identities in fleet.confirmed.values():
            assert [each for each in got if each in identities] == identities  # in order
        for name in ("dead", "invalid"):
            assert fleet.broker.bodies(f"{NS}.{name}") == []
        assert not fleet.disk.unfinished()


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_second_worker_takes_its_share_and_a_killed_one_is_replaced() -> None:
    fleet = Fleet(None)
    one = fleet.start()
    fleet.settle()
    assert set(fleet.owners()) == {0, 1, 2, 3}
    two = fleet.start()
    fleet.rest(5.0)
    assert (len(one.worker.owned), len(two.worker.owned)) == (2, 2)
    fleet.kill(one)
    fleet.rest(TTL_S + 1.5)
    assert set(two.worker.owned) == {0, 1, 2, 3}


def test_more_workers_than_partitions_stand_by() -> None:
    fleet = Fleet(None)
    members = [fleet.start() for _ in range(6)]
    fleet.rest(5.0)
    assert sorted(len(each.worker.owned) for each in members) == [0, 0, 1, 1, 1, 1]
    assert Counter(each.worker.state for each in members) == {"running": 4, "standby": 2}


@pytest.mark.parametrize("state", ["running", "standby"])
def test_a_drained_worker_gives_back_at_once_what_it_leased(state: str) -> None:
    fleet = Fleet(None)
    members = [fleet.start() for _ in range(5)]
    fleet.rest(5.0)
    leaving = next(each for each in members if each.worker.state == state)
    leaving.worker.drain()
    while leaving in fleet.members:
        fleet.step()
    fleet.rest(TTL_S / 2)  # no lease has to run out for it
    assert set(fleet.owners()) == {0, 1, 2, 3}


def test_what_comes_back_twice_comes_in_order_whatever_share_of_the_partitions_its_takers_have() -> None:
    """RabbitMQ puts what is given back behind what was given back before and not taken since."""
    fleet = Fleet(limit=None)
    crashing = [fleet.start(), fleet.start()]
    fleet.rest(TTL_S + 1.0)
    assert [len(each.worker.owned) for each in crashing] == [2, 2]
    for each in crashing:
        each.store.full = "the disk is full"
    for number in range(12):
        for conversation in range(8):
            fleet.send(f"{conversation}/{number:02}", f"c{conversation}", "asked")
    fleet.rest(0.5)
    for each in crashing:
        fleet.kill(each)
    alone = fleet.start()
    alone.store.full = "the disk is full"
    fleet.rest(TTL_S + 1.0)
    fleet.kill(alone)
    fleet.start()
    fleet.settle()
    got = [message["data"]["n"] for message in fleet.taken]
    assert sorted(got, key=lambda each: each[0]) == sorted(got)
    assert len(got) == 96


def test_a_namespace_grows_and_goes_over_to_the_new_partitions() -> None:
    fleet = Fleet(None)
    members = [fleet.start(), fleet.start()]
    fleet.rest(5.0)
    for number in range(40):
        fleet.send(f"m{number}", f"c{number % 8}", "asked")
    fleet.grow()
    fleet.rest(15.0)
    assert fleet.disk.ingress() == Ingress((4, 6), serving=1)
    assert sorted(len(each.worker.owned) for each in members) == [3, 3]
    assert set(fleet.decided_in()) <= {0, 1, 2, 3}
    for number in range(40, 80):
        fleet.send(f"m{number}", f"c{number % 8}", "asked")
    for number in range(80):
        fleet.send(f"m{number}", f"c{number % 8}", "asked")  # its sender did not get the confirm
    fleet.settle()
    fleet.take(1000)
    decided = fleet.decided_in()
    assert sum(decided[each] for each in range(4)) == sum(decided[each] for each in range(4, 10)) == 40
    got = [message["data"]["n"] for message in fleet.taken]
    assert len(got) == 80  # decided once, in whichever generation
    for conversation in range(8):
        assert [n for n in got if int(n[1:]) % 8 == conversation] == [f"m{n}" for n in range(conversation, 80, 8)]


def test_a_namespace_goes_over_only_when_nothing_is_held() -> None:
    fleet = Fleet(1)
    fleet.start()
    for number in range(3):
        fleet.send(f"m{number}", "c1", "asked")
    fleet.rest(2.0)
    fleet.grow()
    fleet.rest(10.0)
    fleet.send("m3", "c1", "asked")
    fleet.send("m4", "c2", "asked")
    fleet.rest(30.0)
    assert fleet.disk.ingress().growing
    assert sum(fleet.decided_in().values()) == 3
    fleet.settle()
    got = [message["data"]["n"] for message in fleet.taken]
    assert [n for n in got if n != "m4"] == ["m0", "m1", "m2", "m3"]
    assert fleet.disk.ingress() == Ingress((4, 6), serving=1)


def test_a_worker_that_dies_between_binding_and_unbinding_leaves_nothing_that_the_next_cannot_mend() -> None:
    fleet = Fleet(None)
    fleet.start()
    fleet.rest(1.0)
    fleet.grow()
    while len(fleet.broker.behind(naming.ingress_exchange(NS))) < 2:
        if not fleet.step():
            fleet.broker.advance(0.1)
    fleet.kill(fleet.members[0])
    for number in range(40):  # while both generations are bound, and nobody works
        fleet.send(f"m{number}", f"c{number % 8}", "asked")
    fleet.start()
    fleet.rest(15.0)
    assert fleet.broker.behind(naming.ingress_exchange(NS)) == [f"{NS}.in.1"]
    decided = fleet.decided_in()
    assert min(decided) < 4 <= max(decided)  # some of it came to the new queues, and waited there
    fleet.settle()
    got = [message["data"]["n"] for message in fleet.taken]
    assert sorted(got) == sorted(f"m{n}" for n in range(40))
    for conversation in range(8):
        assert [n for n in got if int(n[1:]) % 8 == conversation] == [f"m{n}" for n in range(conversation, 40, 8)]


def test_a_binding_that_somebody_brings_back_is_taken_away_again() -> None:
    fleet = Fleet(None)
    fleet.start()
    fleet.grow()
    fleet.rest(15.0)
    fleet.broker.lead(Way(f"{NS}.in", f"{NS}.in.0"))  # old definitions, imported again
    for number in range(20):
        fleet.send(f"m{number}", f"c{number}", "asked")
    for _ in range(40):  # turns and time, side by side: what goes round in a circle would not let time pass
        fleet.step()
        fleet.broker.advance(0.1)
    assert fleet.broker.behind(f"{NS}.in") == [f"{NS}.in.1"]
    fleet.settle()
    assert sorted(message["data"]["n"] for message in fleet.taken) == sorted(f"m{n}" for n in range(20))


def test_what_comes_late_to_a_retired_partition_is_passed_on() -> None:
    fleet = Fleet(None)
    fleet.start()
    fleet.grow()
    fleet.rest(15.0)
    assert fleet.disk.ingress() == Ingress((4, 6), serving=1)
    late = structured("asked", {"n": "m1"}, id_="m1", conversationid="c1")._replace(user_id="agents")
    fleet.send("m1", "c1", "asked")
    fleet.broker.publish("", late._replace(routing_key=naming.ingress_queue(NS, 2)))
    fleet.broker.publish(
        "",
        late._replace(message_id="m2", body=late.body.replace(b"m1", b"m2"), routing_key=naming.ingress_queue(NS, 1)),
    )
    fleet.settle()
    assert sorted(message["data"]["n"] for message in fleet.taken) == ["m1", "m2"]
