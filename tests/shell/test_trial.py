"""Suspects are decided in a real child process: the same decision as here, and its death is a decision, too."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core import naming
from bus.core.actions import Decision, Delivery
from bus.core.errors import BusError
from bus.core.ingress import Ingress
from bus.core.message import Json, Message
from bus.core.table import RouteTable
from bus.core.work import Work
from bus.shell.amqp.table import LazyHeaders, encode_table
from bus.shell.memory_broker import MemoryBroker
from bus.shell.memory_store import MemoryStore
from bus.shell.memory_transport import MemoryTransport
from bus.shell.telemetry.metrics import NullMeter
from bus.shell.topology import plan
from bus.shell.trial.apart import Apart, fork_server
from bus.shell.trial.child import Bounds, serve
from bus.shell.trial.forks import ForkServer
from bus.shell.trial.place import Here
from bus.shell.trial.wire import LENGTH, Garbled, answered, asked
from bus.shell.worker import Plan, Worker
from tests.core.run_world import RunWorld
from tests.core.run_world import catalog as runs_catalog
from tests.core.world import FACTS, TEXT, catalog, flow, raw, route, structured, to_capability
from tests.prometheus_server import eventually
from tests.shell.test_worker import Inline


def misbehave(work: Work) -> None:
    """A step that does what the message says."""
    data: Any = work.message.data
    deeds: dict[str, Callable[[], object]] = {
        "abort": os.abort,
        "loop": lambda: sum(0 for _ in iter(int, 1)),
        "in C": lambda: pow(9, 9**9),
        "allocate": lambda: [bytearray(1 << 24) for _ in range(10**6)],
        "sleep": lambda: time.sleep(3600),
        "exit": lambda: os._exit(3),
        "raise": lambda: 1 // 0,
    }
    if isinstance(data, dict) and data.get("do") in deeds:
        deeds[data["do"]]()


CATALOG = catalog(
    route("odd", "asked", flow(("misbehave", misbehave), to=(to_capability("grade"),))),
    route("text", "order.*", flow(to=(to_capability("grade", TEXT),))),
)
TABLE = RouteTable(CATALOG)
BOUNDS = Bounds(cpu_s=1.0, silence_s=60.0, memory_mb=128)


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    made = Apart(fork_server(TABLE, BOUNDS), TABLE, BOUNDS)
    yield made
    made.close()


def suspect(delivery: Delivery) -> Delivery:
    return delivery._replace(redelivered=2)


def tried(apart: Apart, delivery: Delivery) -> Decision:
    """Both halves, as the judge asks for them."""
    understood = apart.understand(delivery, FACTS)
    return understood if isinstance(understood, Decision) else apart.decide(delivery, understood, FACTS)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
attribute = st.text(max_size=8) | st.integers(-5, 2**40) | st.booleans()
deliveries = st.one_of(
    st.builds(
        partial(structured),
        st.sampled_from(["asked", "order.in", "nobody", "ping", "grade.replied", "news.x"]),
        json,
        source=st.sampled_from(["desk", "grader", "other", "mallory", "bus", "cli"]),
        replyto=st.sampled_from(["agent:desk", "agent:other", "client:abc"]),
        hopsleft=st.sampled_from([0, 3, "7"]),
        expirytime=st.sampled_from(["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"]),
        labels=attribute,
        extra=attribute,
    ),
    st.builds(structured, st.just("asked"), json),
    st.builds(raw, st.binary(max_size=40)),
    st.builds(
        lambda data, extra: raw(orjson.dumps(data))._replace(
            content_type="application/json",
            headers=LazyHeaders(encode_table({
                "ce-specversion": "1.0", "ce-id": "m1", "ce-source": "desk", "ce-type": "asked", "ce-extra": extra,
                "x-first-death-reason": "expired", "x-first-death-queue": "ns.agent.desk",
            })[4:]),
        ),
        json,
        attribute | st.binary(max_size=8),
    ),
)  # fmt: skip


@settings(max_examples=300)
@given(deliveries)
def test_decided_apart_is_decided_the_same(apart: Apart, delivery: Delivery) -> None:
    here = Here(TABLE)
    understood = here.understand(delivery, FACTS)
    assert apart.understand(delivery, FACTS) == understood
    if isinstance(understood, Message):
        decision = apart.decide(delivery, understood, FACTS)
        assert decision == here.decide(delivery, understood, FACTS)
        assert repr(decision.message) == repr(understood)  # 1, 1.0 and True are equal and not the same
    assert apart.bounced(delivery, FACTS) == here.bounced(delivery, FACTS)


def test_a_fault_of_the_bus_is_the_same_decision_apart(apart: Apart) -> None:
    delivery = structured("asked", {"do": "raise"}, replyto="agent:desk")
    message = Here(TABLE).understand(delivery, FACTS)
    assert isinstance(message, Message)
    decision = apart.decide(delivery, message, FACTS)
    assert decision == Here(TABLE).decide(delivery, message, FACTS)
    assert (decision.end, decision.why) == ("dead_letter", "bus-fault")


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("abort", "was killed by SIGABRT"),
        ("loop", "took more than 1 s of processor time"),
        ("in C", "took more than 1 s of processor time"),
        ("allocate", "took more than 128 MB of memory"),
        ("exit", "ended with exit code 3"),
    ],
)
def test_the_death_of_the_child_is_a_decision_and_the_next_message_gets_a_new_one(
    apart: Apart, deed: str, said: str
) -> None:
    decision = tried(apart, suspect(structured("asked", {"do": deed}, replyto="agent:desk")))
    assert (decision.end, decision.why) == ("dead_letter", "poison")
    assert decision.reason == f"it ends the bus: it was delivered 3 times, and the process that tried it {said}"
    letter, told = decision.outputs
    assert (letter.kind, letter.headers["bus-code"], letter.headers["bus-id"]) == ("dead", "poison", "m1")
    failed = orjson.loads(told.body)
    assert (told.target, failed["correlationid"], failed["data"]["code"]) == ("agent:desk", "m1", "poison")
    assert tried(apart, suspect(structured("asked", {}))).end == "routed"


def test_silence_is_bounded_and_the_worker_hears_of_the_time_meanwhile() -> None:
    bounds = replace(BOUNDS, silence_s=3.0)
    apart, heard = Apart(fork_server(TABLE, bounds), TABLE, bounds), []
    apart.meanwhile = lambda: heard.append(1)
    decision = tried(apart, suspect(structured("asked", {"do": "sleep"})))
    assert decision.reason.endswith("gave no answer within 3 s")
    assert len(heard) >= 12
    assert tried(apart, suspect(structured("asked", {}))).end == "routed"
    apart.close()


def test_poison_of_someone_who_may_not_send_it_is_refused_as_ever(apart: Apart) -> None:
    """Its identity stays free, and nobody is told in another's name."""
    forged = suspect(structured("grade.replied", {"do": "abort"}, source="grader", replyto="agent:desk"))
    message = Here(TABLE).understand(forged, FACTS)
    assert isinstance(message, Message)
    assert tried(apart, forged) == Here(TABLE).decide(forged, message, FACTS)


def lethal(link: socket.socket) -> None:
    """Serve as ever, but the decoder itself dies of some bytes, and others bring back nonsense."""

    def relayed() -> None:
        while True:
            head = link.recv(LENGTH.size, socket.MSG_WAITALL)
            frame = link.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL)
            delivery = asked(frame)[1]
            assert isinstance(delivery, Delivery)
            body = delivery.body
            if b"deadly" in body:
                os.abort()
            said = b"nonsense"
            if b"huge" in body:
                link.sendall(LENGTH.pack(2**31))
            elif b"nonsense" in body:
                link.sendall(LENGTH.pack(len(said)) + said)
            else:
                mine.sendall(LENGTH.pack(len(frame)) + frame)
                size = LENGTH.unpack(mine.recv(LENGTH.size, socket.MSG_WAITALL))[0]
                link.sendall(LENGTH.pack(size) + mine.recv(size, socket.MSG_WAITALL))

    mine, theirs = socket.socketpair()
    if os.fork():
        relayed()
    mine.close()  # so that this one ends with the relay
    link.close()
    serve(theirs, TABLE, BOUNDS)


@pytest.mark.parametrize("what", ["deadly", "huge", "nonsense"])
def test_what_kills_the_decoder_is_known_by_its_envelope(what: str) -> None:
    apart = Apart(ForkServer(lethal), TABLE, BOUNDS)
    bad = suspect(raw(what.encode()))._replace(message_id="m9", reply_to="agent:desk", type="asked")
    decision = tried(apart, bad)
    assert (decision.end, decision.why, decision.message) == ("dead_letter", "poison", None)
    letter, told = decision.outputs
    assert (letter.body, letter.headers["bus-id"]) == (what.encode(), "m9")
    assert (told.target, orjson.loads(told.body)["correlationid"]) == ("agent:desk", "m9")
    assert apart.bounced(bad, FACTS).why == "poison"
    apart.close()


def test_an_answer_is_believed_only_if_it_can_be_recorded_and_published() -> None:
    good: dict[str, Any] = {
        "end": "routed", "message": None, "route": None, "where": None, "why": "", "reason": "", "failure": None,
        "steps": [],
        "outputs": [{
            "kind": "agent", "name": "desk", "id": "x", "type": "t", "conversation": "c", "body": "", "headers": {},
            "content_type": "x/y", "expires_ms": None,
        }],
        "config": "", "changes": [["flow:x", "", 1.5, "v1"], ["cell:x", None, None, None]],
    }  # fmt: skip
    assert isinstance(answered(orjson.dumps({"decision": good})), Decision)
    output: Any = good["outputs"]
    wrong = [("kind", "moon"), ("id", ""), ("id", "x" * 256), ("id", 7), ("body", "%"), ("body", None),
             ("expires_ms", True), ("headers", {"a": []}), ("name", None)]  # fmt: skip
    bad: list[Any] = [{**good, "outputs": [{**output[0], name: value}]} for name, value in wrong]
    bad += [{**good, "end": "won"}, {**good, "steps": [1]}, {**good, "message": {"attributes": {}, "data": 1}}, {}]
    for each in bad:
        with pytest.raises(Garbled):
            answered(orjson.dumps({"decision": each}))


def test_without_the_fork_server_the_worker_must_end() -> None:
    apart = Apart(fork_server(TABLE, BOUNDS), TABLE, BOUNDS)
    apart.close()
    with pytest.raises(BusError, match="fork server"):
        tried(apart, suspect(structured("asked", {})))


ORPHANS = """
import os, sys, time
from bus.shell.trial.forks import ForkServer
def spin(link):
    print_to.write(f"{os.getppid()} {os.getpid()}\\n"); print_to.flush()
    while True: pass
print_to = sys.stderr
forks = ForkServer(spin)
link = forks.child()
time.sleep(3600)
"""


def test_when_the_worker_is_killed_nothing_of_it_stays() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", ORPHANS], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stderr is not None
    assert worker.stdout is not None
    numbers = worker.stderr.readline().split()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert worker.stdout.read() == ""  # ends when the last of them lets go of the pipe
    assert worker.stderr.read() == ""
    # A process lets go of its files a moment before it counts as dead.
    eventually("none of them lives", lambda: not [each for each in numbers if _lives(int(each))])


def _lives(number: int) -> bool:
    try:
        return " Z" not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False


# --- In the worker --------------------------------------------------------------------------------------------------


def test_neighbours_of_poison_go_their_way_in_order(apart: Apart) -> None:
    ns = "ns"
    broker = MemoryBroker(plan(ns, Ingress((1,)), CATALOG))
    for number in range(9):
        data: Json = {"do": "abort"} if number in (2, 6) else {"n": number}
        delivery = structured("asked", data, id_=f"m{number}", conversationid="c", replyto="agent:desk")
        broker.publish(naming.ingress_exchange(ns), delivery._replace(user_id="agents"))
    queue = naming.ingress_queue(ns, 0)
    for _ in range(2):  # two workers have died of it
        broker.give_back(broker.take(queue, 100))
    store, transport = MemoryStore(), MemoryTransport(broker)
    facts = replace(FACTS, seal=store.secret)
    worker = Worker(
        transport, store, NullMeter(), TABLE, facts, Plan(ns, 1), clock=lambda: FACTS.now_s, committer=Inline,
        apart=apart,
    )  # fmt: skip
    transport.start(worker)
    while transport.step():
        pass
    assert [orjson.loads(body)["causationid"] for body in broker.bodies(f"{ns}.capability.grade")] == [
        f"m{number}" for number in range(9) if number not in (2, 6)
    ]
    assert [orjson.loads(body)["id"] for body in broker.bodies(f"{ns}.dead")] == ["m2", "m6"]
    told = [orjson.loads(body) for body in broker.bodies(f"{ns}.agent.desk")]
    assert [(each["correlationid"], each["data"]["code"]) for each in told] == [("m2", "poison"), ("m6", "poison")]
    assert broker.bodies(queue) == []
    # Recorded under its identity: sent once more it is a duplicate, and nobody is told twice.
    again = structured("asked", {"do": "abort"}, id_="m2", conversationid="c", replyto="agent:desk")
    broker.publish(naming.ingress_exchange(ns), again._replace(user_id="agents"))
    while transport.step():
        pass
    assert len(broker.bodies(f"{ns}.dead")) == 2


RUNS = """\
route: serve
match: {type: asked}
serial_by: data.key
steps:
- delay: {for: 5s}
to: {reply: ok, data: {n: "{{ data.n }}"}}
"""


def test_a_run_whose_time_has_come_is_decided_the_same_apart(tmp_path: Path) -> None:
    """It reads what it shares with others, and changes it: the next of its key begins."""
    table = RouteTable(runs_catalog(tmp_path, RUNS).catalog)
    world = RunWorld(table)
    for n in (1, 2):
        world.send({"n": n, "key": "k"}, id_=f"m{n}")
    (key,) = [key for key, (_, due_s) in world.memory.items() if due_s is not None]
    apart = Apart(fork_server(table, BOUNDS), table, BOUNDS)
    try:
        assert apart.due(key, world._facts()) is None
        world.now_s += 6
        found = apart.due(key, world._facts())
        assert found == Here(table).due(key, world._facts())
    finally:
        apart.close()
    assert found is not None
    assert len(found[1].changes) == 3  # the run is forgotten, the line goes on, the next one is woken
