"""The contract of `bus.ports.Transport`: one suite, in memory and on RabbitMQ."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from bus.core import naming
from bus.core.ingress import Ingress
from bus.core.message import Attribute
from bus.ports import Outgoing, Received, Tag
from bus.shell.entry import way_of
from tests.contract.transport_links import (
    CATALOG,
    LIMIT,
    PATIENCE_S,
    Link,
    memory_link,
    message,
    outgoing,
    pika_link,
)


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
