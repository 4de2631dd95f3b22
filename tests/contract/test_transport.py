"""The contract of `bus.ports.Transport`: one suite, in memory and on RabbitMQ."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
from pika import URLParameters, frame, spec

from bus.core import naming
from bus.core.actions import Output
from bus.core.errors import BusError, Unreachable
from bus.core.ingress import Ingress
from bus.core.message import Attribute
from bus.core.route import Agent, Catalog
from bus.ports import Outcome, Outgoing, Received, Tag, Transport
from bus.shell.amqp.transport import PikaTransport
from bus.shell.entry import way_of
from bus.shell.memory_broker import MemoryBroker
from bus.shell.memory_transport import MemoryTransport
from bus.shell.topology import Queue, Topology, apply, plan
from tests.proxy import Proxy

PATIENCE_S = 30.0  # for a loaded machine; nothing here waits that long when it works
LIMIT = 3  # messages that the queue `full` takes

T = TypeVar("T")


class Recorder:
    """Transport events, kept in order and awaitable. `on_each` is called on the loop thread for each batch."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.connected = 0
        self.lost: list[str] = []
        self.received: list[Received] = []
        self.outcomes: list[Outcome] = []
        self.blocked: list[tuple[bool, str]] = []
        self.on_each: Callable[[Sequence[Received]], None] = lambda _batch: None

    def on_connected(self) -> None:
        with self.changed:
            self.connected += 1
            self.changed.notify_all()

    def on_batch(self, batch: Sequence[Received]) -> None:
        assert batch, "a batch is never empty"
        with self.changed:
            self.received += batch
            self.changed.notify_all()
        self.on_each(batch)

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        with self.changed:
            self.outcomes += outcomes
            self.changed.notify_all()

    def on_lost(self, reason: str) -> None:
        with self.changed:
            self.lost.append(reason)
            self.changed.notify_all()

    def on_blocked(self, blocked: bool, reason: str) -> None:
        with self.changed:
            self.blocked.append((blocked, reason))
            self.changed.notify_all()

    def wait(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE_S), (
                self.connected,
                self.lost,
                len(self.received),
                self.outcomes,
            )


class Link:
    """A running transport, driven from the test's thread."""

    def __init__(
        self,
        ns: str,
        transport: Transport,
        cut: Callable[[], None],
        advance: Callable[[float], None],
        inject: Callable[[bytes], None] = lambda _data: None,
    ) -> None:
        self.ns = ns
        self.inject = inject
        self.transport = transport
        self.cut = cut
        self.advance = advance
        self.events = Recorder()
        self.failure: BaseException | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.transport.run(self.events)
        except BaseException as error:  # noqa: BLE001 # the test looks at it
            self.failure = error
        self.ended.set()

    def start(self) -> None:
        self._thread.start()
        self.events.wait(lambda: self.events.connected > 0)

    def stop(self) -> None:
        self.transport.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the loop thread and return what it returned."""
        done = threading.Event()
        results: list[T] = []

        def run() -> None:
            results.append(function())
            done.set()

        self.transport.call_threadsafe(run)
        assert done.wait(PATIENCE_S)
        return results[0]

    def inbox(self, name: str = "a") -> str:
        return naming.agent_queue(self.ns, name)

    def consume(self, *queues: str, prefetch: int = 1000) -> None:
        self.call(lambda: self.transport.consume(queues, prefetch))

    def publish(self, batch: Sequence[Outgoing]) -> None:
        self.call(lambda: self.transport.publish(batch))

    def ack(self, tag: Tag) -> None:
        self.call(lambda: self.transport.ack(tag))

    def receive(self, count: int) -> list[Received]:
        self.events.wait(lambda: len(self.events.received) >= count)
        return self.events.received

    def settle(self, count: int) -> dict[int, Outcome]:
        self.events.wait(lambda: len(self.events.outcomes) >= count)
        outcomes = {each.handle: each for each in self.events.outcomes}
        assert len(outcomes) == len(self.events.outcomes), "a handle had two outcomes"
        return outcomes


def message(
    body: bytes = b"{}",
    identity: str = "id",
    headers: Mapping[str, Attribute] | None = None,
    expires_ms: int | None = None,
) -> Output:
    return Output(
        "agent", "a", identity, "order.placed", "c1", body, "application/cloudevents+json", headers or {}, expires_ms
    )


def outgoing(queue: str, handles: range, exchange: str = "") -> list[Outgoing]:
    return [Outgoing(n, exchange, queue, message(b"%d" % n, f"id-{n}")) for n in handles]


AGENTS = {"a": Agent("a", "external"), "b": Agent("b", "external", subscribes=("order.**",))}
CATALOG = Catalog("test", AGENTS, {}, {}, ())


def make_topology(ns: str) -> Topology:
    # The second generation is there and not led to.
    made = replace(plan(ns, Ingress((2, 3)), CATALOG), way=plan(ns, Ingress((2,)), CATALOG).way)
    limits: dict[str, str | int | bool] = {
        "x-queue-type": "quorum",
        "x-max-length": LIMIT,
        "x-overflow": "reject-publish",
    }
    return replace(made, queues=(*made.queues, Queue(f"{ns}.full", limits)))


@contextmanager
def memory_link(ns: str) -> Iterator[Link]:
    broker = MemoryBroker(make_topology(ns), limits={f"{ns}.full": LIMIT})
    transport = MemoryTransport(broker)
    yield Link(ns, transport, lambda: transport.lose("cut"), broker.advance)


@contextmanager
def pika_link(ns: str, url: str) -> Iterator[Link]:
    parameters = URLParameters(url)
    with Proxy(parameters.host, parameters.port) as proxy:
        near = url.replace(f":{parameters.port}/", f":{proxy.port}/")
        transport = PikaTransport(
            near,
            partial(apply, topology=make_topology(ns)),
            connect_timeout_s=PATIENCE_S,
            logger=logging.getLogger(__name__),
        )
        yield Link(ns, transport, proxy.cut, lambda _seconds: None, proxy.inject)


@pytest.fixture(params=["memory", pytest.param("pika", marks=pytest.mark.broker)])
def link(request: pytest.FixtureRequest, namespace: str) -> Iterator[Link]:
    if request.param == "memory":
        made: Any = memory_link(namespace)
    else:
        made = pika_link(namespace, request.getfixturevalue("broker").bus_url)
    with made as one:
        one.start()
        try:
            yield one
        finally:
            one.stop()


def test_thousands_in_one_call_arrive_in_order_with_one_outcome_each(link: Link) -> None:
    link.consume(link.inbox(), prefetch=5000)
    link.publish(outgoing(link.inbox(), range(5000)))
    assert [each.delivery.body for each in link.receive(5000)] == [b"%d" % n for n in range(5000)]
    assert {each.how for each in link.settle(5000).values()} == {"confirmed"}


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_message_arrives_as_it_was_sent(link: Link, size: int) -> None:
    headers: dict[str, Attribute] = {"text": "grün", "yes": True, "small": -7, "large": 2**40, "raw": b"\x00\xff"}
    body = bytes(n % 251 for n in range(size))
    link.consume(link.inbox())
    link.publish([Outgoing(1, "", link.inbox(), message(body, "m-1", headers, expires_ms=600_000))])
    delivery = link.receive(1)[0].delivery
    assert delivery.body == body
    assert dict(delivery.headers) == headers
    assert (delivery.content_type, delivery.message_id) == ("application/cloudevents+json", "m-1")
    assert (delivery.type, delivery.user_id) == ("order.placed", "bus")
    assert (delivery.routing_key, delivery.queue, delivery.redelivered) == (link.inbox(), link.inbox(), 0)


def test_what_has_nowhere_to_go_is_returned_and_the_rest_confirmed(link: Link) -> None:
    missing = naming.agent_queue(link.ns, "nobody")
    targets = [link.inbox(), missing, missing, link.inbox(), missing]
    # All with one message id: a return names no more than id, exchange and key.
    link.publish([Outgoing(n, "", target, message(identity="same")) for n, target in enumerate(targets)])
    outcomes = link.settle(5)
    assert [outcomes[n].how for n in range(5)] == ["confirmed", "returned", "returned", "confirmed", "returned"]
    assert missing in outcomes[1].reason


def test_an_ack_covers_all_before_it_and_makes_room_for_as_many(link: Link) -> None:
    link.publish(outgoing(link.inbox(), range(40)))
    link.settle(40)
    link.consume(link.inbox(), prefetch=10)
    first = link.receive(10)
    assert len(first) == 10
    link.ack(first[6].tag)
    assert len(link.receive(17)) == 17
    link.ack(first[6].tag)  # again: nothing happens
    link.ack(first[16].tag)
    assert [each.delivery.body for each in link.receive(27)] == [b"%d" % n for n in range(27)]


def test_what_was_not_acked_comes_again_in_order_after_a_lost_connection(link: Link) -> None:
    events, inbox = link.events, link.inbox()
    unacked = [b"%d" % n for n in range(5, 25)]
    link.consume(inbox, prefetch=20)
    link.publish(outgoing(inbox, range(25)))
    link.settle(25)
    old = link.receive(20)[4].tag
    link.ack(old)
    link.receive(25)  # five more came: the ack has arrived
    for life in (1, 2):
        before = len(events.received)
        link.cut()
        events.wait(lambda life=life: events.connected == life + 1)  # type: ignore[misc] # mypy: lambda defaults
        assert len(events.lost) == life
        link.consume(inbox, prefetch=20)
        again = link.receive(before + 20)[before:]
        assert [each.delivery.body for each in again] == unacked
        assert {each.delivery.redelivered for each in again} == {life}
        assert again[0].tag.generation > old.generation
        link.ack(Tag(old.generation, again[-1].tag.number))  # of an old generation: ignored, as the next life shows
        link.consume(link.inbox("b"))
        link.publish(outgoing(link.inbox("b"), range(100 + life, 101 + life)))
        link.receive(before + 21)  # what was sent before this consumer has arrived


def test_a_restart_keeps_what_was_acked_and_published_and_gives_back_the_rest_in_order(link: Link) -> None:
    events, inbox = link.events, link.inbox()
    link.consume(inbox, prefetch=20)
    link.publish(outgoing(inbox, range(10)))
    link.settle(10)
    received = link.receive(10)
    old, again_not_acked = received[4].tag, received[9].tag

    def leave() -> None:
        link.transport.publish(outgoing(link.inbox("b"), range(100, 103)))
        link.transport.ack(old)
        link.transport.restart("a test wants it")
        link.transport.restart("twice is once")
        # Until `on_lost` its user cannot know: a commit may come back in between.
        link.transport.publish(outgoing(link.inbox("b"), range(200, 203)))
        link.transport.ack(again_not_acked)
        link.transport.consume([inbox], 20)

    link.call(leave)
    events.wait(lambda: events.connected == 2)
    assert events.lost == ["a test wants it"]
    link.consume(inbox, link.inbox("b"), prefetch=100)
    again = link.receive(18)[10:]
    assert [each.delivery.body for each in again if each.delivery.queue == inbox] == [b"%d" % n for n in range(5, 10)]
    assert len([each for each in again if each.delivery.queue == link.inbox("b")]) == 3
    assert {each.tag.generation for each in again} == {old.generation + 1}


def test_a_key_always_meets_the_same_partition_and_keeps_its_order(link: Link) -> None:
    exchange = naming.ingress_exchange(link.ns)
    link.consume(naming.ingress_queue(link.ns, 0), naming.ingress_queue(link.ns, 1))
    batch = [Outgoing(n, exchange, f"conversation-{n % 50}", message(b"%d" % n, f"id-{n}")) for n in range(500)]
    link.publish(batch)
    queues: dict[str, set[str]] = {}
    order: dict[str, list[int]] = {}
    for each in link.receive(500):
        queues.setdefault(each.delivery.routing_key, set()).add(each.delivery.queue)
        order.setdefault(each.delivery.routing_key, []).append(int(each.delivery.body))
    assert {len(found) for found in queues.values()} == {1}
    assert len(set.union(*queues.values())) == 2, "both partitions have work"
    assert all(numbers == sorted(numbers) for numbers in order.values())


def test_the_ingress_is_led_elsewhere_under_load_and_nothing_is_lost_doubled_or_moved_twice(link: Link) -> None:
    """Bound or not at any moment, a message comes to one queue, and a conversation goes over once."""
    new = Ingress((2, 3))
    names = [naming.ingress_queue(link.ns, each) for each in range(5)]
    link.consume(*names, prefetch=20_000)
    led, sent = threading.Event(), 0
    exchange = naming.ingress_exchange(link.ns)
    while not led.is_set() or sent < 2000:
        link.publish([
            Outgoing(sent + n, exchange, f"c{(sent + n) % 100}", message(b"%d" % (sent + n), f"id-{sent + n}"))
            for n in range(100)
        ])  # fmt: skip
        sent += 100
        link.events.wait(lambda upto=sent - 1000: len(link.events.outcomes) > upto)  # type: ignore[misc] # many under way, and not without bound
        if sent == 1000:
            link.call(lambda: link.transport.lead(way_of(link.ns, new), led.set))
    assert {each.how for each in link.settle(sent).values()} == {"confirmed"}
    places: dict[str, list[str]] = {}
    for each in sorted(link.receive(sent), key=lambda received: int(received.delivery.body)):
        places.setdefault(each.delivery.routing_key, []).append(each.delivery.queue)
    assert len(link.events.received) == len({each.delivery.body for each in link.events.received}) == sent
    for queues in places.values():
        before, after = queues[0], queues[-1]
        assert before in names[:2]
        assert after in names[2:]
        assert queues == [before] * queues.count(before) + [after] * queues.count(after)
    again = threading.Event()
    link.call(lambda: link.transport.lead(way_of(link.ns, new), again.set))
    assert again.wait(PATIENCE_S), "what is so already stays so"


def test_an_event_reaches_its_subscribers(link: Link) -> None:
    exchange = naming.subscriptions_exchange(link.ns, CATALOG.subscriptions)
    link.consume(link.inbox("b"))
    keys = ["order.placed", "order.item.added", "invoice.sent", "order"]
    link.publish([Outgoing(n, exchange, key, message(key.encode(), f"e-{n}")) for n, key in enumerate(keys)])
    outcomes = link.settle(4)
    assert [outcomes[n].how for n in range(4)] == ["confirmed", "confirmed", "returned", "returned"]
    assert [each.delivery.body for each in link.receive(2)] == [b"order.placed", b"order.item.added"]


def test_a_wake_up_token_comes_back_to_the_queue_that_its_key_names(link: Link) -> None:
    partition = naming.ingress_queue(link.ns, 1)
    link.consume(partition)
    link.publish([Outgoing(1, naming.retry_queue(link.ns, 1), partition, message(b"token"))])
    assert link.settle(1)[1].how == "confirmed"
    link.advance(1.5)
    delivery = link.receive(1)[0].delivery
    assert (delivery.body, delivery.queue, delivery.routing_key) == (b"token", partition, partition)


def test_what_expires_in_an_inbox_bounces(link: Link) -> None:
    link.consume(naming.bounced(link.ns))
    link.publish([Outgoing(1, "", link.inbox(), message(b"late", expires_ms=1))])
    link.settle(1)
    link.advance(1.0)
    assert link.receive(1)[0].delivery.body == b"late"


def test_a_full_queue_nacks(link: Link) -> None:
    queue = f"{link.ns}.full"
    for n in range(50):  # a quorum queue's limit is soft: it refuses soon after it is reached
        link.publish(outgoing(queue, range(n, n + 1)))
        if link.settle(n + 1)[n].how == "nacked":
            assert n >= LIMIT
            return
    pytest.fail("50 messages went into a queue for 3")


def test_timers_and_calls_run_on_the_loop(link: Link) -> None:
    ran: list[str] = []
    done = threading.Event()

    def late() -> None:
        ran.append(threading.current_thread().name)
        done.set()

    cancel = link.call(lambda: link.transport.call_later(0.05, lambda: ran.append("cancelled")))
    link.call(cancel)
    link.call(lambda: link.transport.call_later(0.1, late))
    link.advance(1.0)
    assert done.wait(PATIENCE_S)
    assert ran == [link.call(lambda: threading.current_thread().name)]


def test_what_a_handler_raises_ends_the_loop_and_is_raised_by_run(link: Link) -> None:
    def fail(_batch: Sequence[Received]) -> None:
        raise RuntimeError("handler")

    link.events.on_each = fail
    link.consume(link.inbox())
    link.publish(outgoing(link.inbox(), range(1)))
    assert link.ended.wait(PATIENCE_S)
    assert isinstance(link.failure, RuntimeError)


def test_acks_and_publishes_of_a_handler_leave_before_a_stop(link: Link) -> None:
    def forward(batch: Sequence[Received]) -> None:
        link.transport.publish(outgoing(link.inbox("b"), range(100, 100 + len(batch))))
        link.transport.ack(batch[-1].tag)
        if len(link.events.received) >= 10:
            link.transport.stop()

    link.events.on_each = forward
    link.consume(link.inbox())
    link.publish(outgoing(link.inbox(), range(10)))
    assert link.ended.wait(PATIENCE_S)
    assert link.failure is None
    assert link.events.lost == []


@pytest.mark.broker
def test_acks_are_not_lost_by_a_stop(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as first:
        first.start()
        first.publish(outgoing(first.inbox(), range(2000)))
        first.settle(2000)
        first.events.on_each = lambda batch: first.transport.ack(batch[-1].tag)
        first.consume(first.inbox(), prefetch=50)
        first.receive(1000)
        first.stop()
        seen = int(first.events.received[-1].delivery.body)
    with pika_link(namespace, broker.bus_url) as second:
        second.start()
        second.consume(second.inbox())
        next_one = second.receive(1)[0].delivery
        assert seen < int(next_one.body) <= seen + 51, "acked ones came again, or unseen ones are gone"
        second.stop()


@pytest.mark.broker
def test_names_that_amqp_cannot_carry_are_returned(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.publish([Outgoing(1, "", "k" * 256, message()), Outgoing(2, "", link.inbox(), message())])
        outcomes = link.settle(2)
        assert outcomes[1].how == "returned"
        assert "255" in outcomes[1].reason
        assert outcomes[2].how == "confirmed"
        link.stop()


@pytest.mark.broker
def test_publishing_to_a_missing_exchange_loses_the_link_and_it_comes_back(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.publish([Outgoing(1, f"{namespace}.nowhere", "k", message())])
        link.events.wait(lambda: link.events.connected == 2)
        assert "no exchange" in link.events.lost[0]
        link.publish(outgoing(link.inbox(), range(2, 3)))
        assert link.settle(1)[2].how == "confirmed"
        link.stop()


@pytest.mark.broker
def test_a_blocked_connection_is_told_and_so_is_its_end(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.inject(frame.Method(0, spec.Connection.Blocked("low on memory")).marshal())
        link.inject(frame.Method(0, spec.Connection.Unblocked()).marshal())
        link.events.wait(lambda: len(link.events.blocked) == 2)
        assert link.events.blocked == [(True, "low on memory"), (False, "")]
        link.stop()


@pytest.mark.broker
def test_bytes_that_are_not_amqp_drop_the_link_and_it_comes_back(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.inject(b"HTTP/1.1 400 Bad Request\r\n")
        link.events.wait(lambda: link.events.connected == 2)
        assert "no AMQP frame" in link.events.lost[0]
        link.publish(outgoing(link.inbox(), range(1)))
        assert link.settle(1)[0].how == "confirmed"
        link.stop()


@pytest.mark.broker
def test_a_topology_that_differs_is_refused_at_the_first_connection(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.stop()
    made = make_topology(namespace)
    other = replace(made, queues=(Queue(naming.agent_queue(namespace, "a"), {"x-queue-type": "classic"}),))
    transport = PikaTransport(
        broker.bus_url, partial(apply, topology=other), connect_timeout_s=PATIENCE_S, logger=logging.getLogger(__name__)
    )
    with pytest.raises(Unreachable, match="does not take the topology"):
        transport.run(Recorder())


def test_a_broker_that_is_not_there_is_unreachable_within_the_given_time() -> None:
    transport = PikaTransport(
        "amqp://a:b@127.0.0.1:1/%2F", lambda _channel: None, connect_timeout_s=0.5, logger=logging.getLogger(__name__)
    )
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 cannot be reached"):
        transport.run(Recorder())


@pytest.mark.broker
def test_a_wrong_password_is_said_at_once(broker: Any) -> None:
    parameters = URLParameters(broker.bus_url)
    url = f"amqp://bus:wrong@{parameters.host}:{parameters.port}/%2F"
    transport = PikaTransport(
        url, lambda _channel: None, connect_timeout_s=PATIENCE_S, logger=logging.getLogger(__name__)
    )
    with pytest.raises(Unreachable, match="ACCESS_REFUSED"):
        transport.run(Recorder())


def test_publishing_before_the_connection_is_refused() -> None:
    transport = PikaTransport("amqp://a:b@127.0.0.1:1/%2F", lambda _channel: None, logger=logging.getLogger(__name__))
    with pytest.raises(BusError, match="not connected"):
        transport.publish([])
    transport.stop()
    transport.run(Recorder())
