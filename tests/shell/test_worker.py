"""The delivery protocol on the in-memory broker and store, turn by turn, through losses, crashes and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus.core import naming
from bus.core.errors import StoreFailed
from bus.core.ingress import Ingress
from bus.core.outputs import REPLAY
from bus.core.route import Catalog
from bus.core.table import RouteTable
from bus.core.work import Target
from bus.ports import Blobs
from bus.shell.memory_broker import MemoryBroker
from bus.shell.memory_store import MemoryStore
from bus.shell.memory_transport import MemoryTransport
from bus.shell.telemetry.metrics import NullMeter
from bus.shell.tenure import OWN
from bus.shell.topology import plan
from bus.shell.worker import Plan, Worker
from tests.core.world import FACTS, catalog, flow, route, structured, to_capability

NS = "ns"
T = TypeVar("T")

CATALOG = catalog(
    route("grade", "asked", flow(to=(to_capability("grade"),))),
    route("hop", "order.in", flow(to=(Target("event", "asked", "asked", to_route=True),))),
)


class Inline:
    """Runs the store's work at once; its result still comes in a later turn."""

    def __init__(self, call: Callable[[Callable[[], None]], None]) -> None:
        self._call = call

    def submit(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        try:
            result: T | Exception = work()
        except StoreFailed as error:
            result = error
        self._call(lambda: done(result))

    def close(self) -> None: ...


class World:
    """One namespace, with a worker that can crash and come back."""

    def __init__(self, limits: dict[str, int] | None = None, made: Catalog = CATALOG) -> None:
        self.catalog = made
        self.broker = MemoryBroker(plan(NS, Ingress((2,)), made), limits)
        self.store = MemoryStore()
        self.published: list[str] = []
        self.blobs: Blobs | None = None
        self.begin()

    def begin(self) -> None:
        self.transport = MemoryTransport(self.broker)
        self.worker = Worker(
            self.transport,
            self.store,
            NullMeter(),
            RouteTable(self.catalog),
            replace(FACTS, seal=self.store.secret),
            Plan(NS, 2, prefetch=20, window=1000),
            clock=lambda: 1_800_000_000.0 + self.broker.now_s,
            committer=Inline,
            blobs=self.blobs,
            **self.more(),
        )
        self.transport.start(self.worker)

    def more(self) -> dict[str, Any]:
        """What else the worker is given."""
        return {}

    def send(self, id_: str, conversation: str = "c", type_: str = "asked", data: Any = None) -> None:
        delivery = structured(type_, data if data is not None else {"n": id_}, id_=id_, conversationid=conversation)
        assert self.broker.publish(naming.ingress_exchange(NS), delivery._replace(user_id="agents")) == "confirmed"
        self.published.append(id_)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.transport.step()

    def settle(self) -> None:
        """Step, and let time pass, until nothing moves any more."""
        for _ in range(60):
            while self.transport.step():
                pass
            self.broker.advance(31.0)

    def crash(self) -> None:
        self.transport.lose("crash")
        self.transport.step()
        self.store = self.store.reopen()
        self.begin()

    def suffer(self, what: str, number: int, taken: list[dict[str, Any]]) -> None:
        """Let something happen: turns, time, a consumer that takes, a lost connection, a crash."""
        if what == "step":
            self.steps(number)
        elif what == "lose":
            self.transport.lose("cut")
        elif what == "crash":
            self.crash()
        elif what == "take":
            queue = f"{NS}.capability.grade"
            taken.extend(orjson.loads(each.delivery.body) for each in self.broker.take(queue, number))
        elif what == "time":
            self.broker.advance(float(number))

    def queue(self, name: str) -> list[dict[str, Any]]:
        return [orjson.loads(body) for body in self.broker.bodies(f"{NS}.{name}")]

    def asked(self) -> list[str]:
        """What reached the capability, the first of each id, in order."""
        return list(dict.fromkeys(message["causationid"] for message in self.queue("capability.grade")))


def test_in_decided_out_acked() -> None:
    world = World()
    for number in range(50):
        world.send(f"m{number}", f"c{number % 3}")
    world.settle()
    assert sorted(world.asked()) == sorted(world.published)
    assert world.queue("ingress.00") == world.queue("ingress.01") == []


def test_nothing_is_published_when_the_store_refuses() -> None:
    world = World()
    world.settle()
    world.store.refusal = "disk full"
    world.send("m1")
    world.settle()
    assert world.queue("capability.grade") == []
    with pytest.raises(StoreFailed, match="disk full"):
        world.worker.run()
    world.store.refusal = ""
    world.crash()
    world.settle()
    assert world.asked() == ["m1"]


def test_a_full_target_holds_its_key_in_order_and_stops_nobody_else() -> None:
    world = World({f"{NS}.capability.grade": 2})
    for number in range(6):
        world.send(f"m{number}", "same")
    for _ in range(5):
        world.steps(200)
        world.broker.advance(0.3)
    assert world.asked() == ["m0", "m1"]
    assert world.queue("ingress.00") + world.queue("ingress.01") == []  # held by rows, not by unacked deliveries
    taken: list[str] = []
    for _ in range(12):
        taken += [orjson.loads(each.delivery.body)["causationid"] for each in _drain(world)]
        world.settle()
    assert list(dict.fromkeys(taken)) == [f"m{number}" for number in range(6)]


def _drain(world: World) -> list[Any]:
    return list(world.broker.take(f"{NS}.capability.grade", 100))


class _Rows(dict[Any, Any]):
    """What waits, and how often it was looked through."""

    looks = 0

    def items(self) -> Any:
        self.looks += 1
        return super().items()


def test_many_tokens_at_once_are_one_look_at_what_waits() -> None:
    world = World({f"{NS}.capability.grade": 0})
    for number in range(18):
        world.send(f"m{number}", f"c{number}")
    world.steps(200)
    assert world.worker._tenure is not None
    waiting = world.worker._tenure._waiting
    waiting.rows = rows = _Rows(waiting.rows)
    world.broker.advance(1.0)
    assert len(world.queue("ingress.00") + world.queue("ingress.01")) == 18  # a token each
    world.steps(200)
    assert 1 <= rows.looks < 6


@pytest.mark.parametrize("kind", OWN)
def test_what_only_the_bus_says_to_itself_does_not_vanish_when_an_agent_says_it(kind: str) -> None:
    world = World()
    said = structured("asked", {}, id_="m1")._replace(content_type=kind, user_id="agents")
    assert world.broker.publish(naming.ingress_exchange(NS), said) == "confirmed"
    world.settle()
    assert world.broker.bodies(f"{NS}.invalid") == [said.body]


def test_held_rows_survive_a_crash() -> None:
    world = World({f"{NS}.capability.grade": 1})
    for number in range(3):
        world.send(f"m{number}", "same")
    world.steps(100)
    world.crash()
    taken: list[str] = []
    for _ in range(8):
        world.settle()
        taken += [orjson.loads(each.delivery.body)["causationid"] for each in _drain(world)]
    assert list(dict.fromkeys(taken)) == ["m0", "m1", "m2"]


def test_a_target_that_is_gone_becomes_a_dead_letter_and_the_asker_is_told() -> None:
    gone = catalog(route("grade", "asked", flow(to=(to_capability("nowhere"),))))
    world = World()
    world.transport = MemoryTransport(world.broker)
    world.worker = Worker(
        world.transport, world.store, NullMeter(), RouteTable(gone), replace(FACTS, seal=world.store.secret),
        Plan(NS, 2), clock=lambda: 1_800_000_000.0, committer=Inline,
    )  # fmt: skip
    world.transport.start(world.worker)
    delivery = structured("asked", {}, replyto="agent:desk")
    world.broker.publish(naming.ingress_exchange(NS), delivery)
    world.settle()
    assert [message["type"] for message in world.queue("dead")] == ["nowhere.requested"]
    told = world.queue("agent.desk")
    assert [(message["type"], message["data"]["code"], message["correlationid"]) for message in told] == [
        ("bus.failed", "returned", "m1")
    ]


def test_a_duplicate_waits_for_what_it_repeats() -> None:
    world = World()
    for _ in range(3):
        world.send("m1", data={"same": 1})
    world.send("m1", data={"other": 1})
    world.settle()
    assert [message["data"] for message in world.queue("capability.grade")] == [{"same": 1}]
    assert len(world.queue("invalid")) == 1


def test_a_refused_second_use_of_an_id_is_refused_once_though_it_comes_again() -> None:
    world = World()
    world.send("m1", data={"same": 1})
    world.settle()
    for _ in range(2):  # the broker gives it again, as after a crash between commit and ack
        world.send("m1", data={"other": 1})
        world.settle()
    assert len(world.queue("invalid")) == 1


def answer(world: World, request: dict[str, Any], id_: str, **more: Any) -> None:
    echoed = {"replyto": request["replyto"], "conversationid": request["conversationid"]}
    said = {**echoed, "correlationid": request["id"], "source": "grader", **more}
    delivery = structured("grade.replied", {"text": id_}, id_=id_, **said)
    world.broker.publish(naming.ingress_exchange(NS), delivery._replace(user_id="agents"))
    world.settle()


def test_a_refused_answer_does_not_take_the_place_of_the_good_one() -> None:
    world = World()
    delivery = structured("asked", {}, id_="q", replyto="agent:desk", conversationid="c")
    world.broker.publish(naming.ingress_exchange(NS), delivery._replace(user_id="agents"))
    world.settle()
    (request,) = world.queue("capability.grade")
    answer(world, request, "forged", replyto="agent:desk!q!00")
    answer(world, request, "stranger", source="other")
    answer(world, request, "good")
    answer(world, request, "second")
    told = [message["data"] for message in world.queue("agent.desk") if message["type"] == "grade.replied"]
    assert told == [{"text": "good"}]


def test_drain_finishes_what_is_committed_and_takes_nothing_more() -> None:
    world = World()
    for number in range(30):
        world.send(f"m{number}", f"c{number}")
    world.steps(6)
    world.worker.drain()
    world.worker.run()
    decided = len(world.asked())
    left = len(world.queue("ingress.00")) + len(world.queue("ingress.01"))
    assert decided + left == 30
    assert all(claim.pending == () or not claim.pending for claim in world.store.reopen().claim(2))


KINDS = {"send": "asked", "hop": "order.in"}

actions = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3)),
        st.tuples(st.just("hop"), st.integers(0, 3)),
        st.tuples(st.just("again"), st.integers(0, 5)),
        st.tuples(st.just("step"), st.integers(1, 9)),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("take"), st.integers(1, 3)),
        st.tuples(st.just("time"), st.integers(1, 7)),
    ),
    max_size=60,
)


BEHIND_A_HELD_ROW = [("send", 2)] * 2 + [("hop", 1)] * 2 + [("send", 0)] * 2 + [("step", 7), ("take", 1), ("lose", 0)]


@settings(max_examples=150, deadline=None)
@example(BEHIND_A_HELD_ROW, 1)
@given(actions, st.sampled_from([None, 1, 3]))
def test_whatever_fails_nothing_is_lost_and_order_is_kept(script: list[tuple[str, int]], limit: int | None) -> None:
    world = World(None if limit is None else {f"{NS}.capability.grade": limit})
    sent: dict[str, list[str]] = {}
    taken: list[dict[str, Any]] = []
    for what, number in script:
        if what in ("send", "hop"):
            identity = f"m{len(world.published)}"
            world.send(identity, f"c{number}", KINDS[what], {"n": identity})
            sent.setdefault(f"c{number}/{what}", []).append(identity)
        elif what == "again" and number < len(world.published):
            identity = world.published[number]
            conversation, _, kind = next(each for each, ids in sent.items() if identity in ids).partition("/")
            world.send(identity, conversation, KINDS[kind], {"n": identity})
            world.published.pop()
        else:
            world.suffer(what, number, taken)
    for _ in range(len(world.published) + 3):
        world.settle()
        world.suffer("take", 1000, taken)
    first: dict[str, dict[str, Any]] = {}
    for message in taken:
        first.setdefault(message["id"], message)
    got = [message["data"]["n"] for message in first.values()]
    assert sorted(got) == sorted(world.published)  # all there, each under one id
    for ids in sent.values():
        assert [identity for identity in got if identity in ids] == ids  # in order per conversation
    assert world.queue("dead") == world.queue("invalid") == []


def test_a_delivery_of_the_wrong_key_is_put_right() -> None:
    world = World()
    stray = structured("asked", {}, id_="s", conversationid="real")._replace(routing_key="wrong")
    world.broker.publish(naming.ingress_exchange(NS), stray._replace(user_id="agents"))
    world.settle()
    assert world.asked() == ["s"]


def test_requests_say_when_they_may_have_been_published_before() -> None:
    world = World()
    world.send("m1")
    while not world.queue("capability.grade"):
        world.steps(1)
    world.crash()
    world.settle()
    world.send("m2")
    world.settle()
    taken = [each.delivery for each in world.broker.take(f"{NS}.capability.grade", 10)]
    assert [REPLAY in each.headers for each in taken] == [False, True, False]
    assert len({each.message_id for each in taken}) == 2


def test_an_answer_that_is_not_the_first_is_recorded_and_told_to_its_agent() -> None:
    world = World()
    world.send("q", "c")
    world.settle()
    (request,) = world.queue("capability.grade")
    answer(world, request, "first")
    answer(world, request, "second")
    answer(world, request, "stranger", source="other")
    (told,) = [message for message in world.queue("agent.grader") if message["correlationid"] == "second"]
    assert (told["type"], told["data"]["code"]) == ("bus.failed", "superseded")
    assert "recorded first" in told["data"]["reason"]
    assert world.queue("agent.other") == []
