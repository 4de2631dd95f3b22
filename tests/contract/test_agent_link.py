"""The contract of `bus.ports.AgentLink`, for the link in memory and the one over RabbitMQ."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest

from adapters.link import AmqpLink
from bus.core.errors import BusError, Refused, Unreachable
from bus.core.message import Message
from bus.core.naming import agent_queue, capability_queue, client_queue
from bus.ports import Inbound
from bus.settings import Settings
from tests.contract.agent_worlds import MemoryWorld, RabbitWorld, World

PATIENCE_S = 15


def message(identity: str, type_: str = "greeting.requested", data: str = "hi") -> Message:
    attributes = {"specversion": "1.0", "id": identity, "source": "bus", "type": type_, "conversationid": "c1"}
    return Message(attributes, data)


class Taken:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.inbound: asyncio.Queue[Inbound] = asyncio.Queue()

    async def __call__(self, inbound: Inbound) -> None:
        self.inbound.put_nowait(inbound)

    async def next(self) -> Inbound:
        return await asyncio.wait_for(self.inbound.get(), PATIENCE_S)


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.broker)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    broker = request.getfixturevalue("broker")
    rabbit = RabbitWorld(broker.bus_url, broker.agent_url, request.getfixturevalue("namespace"))
    async with rabbit.opened():
        yield rabbit


async def test_send_arrives_with_every_attribute(world: World) -> None:
    link = world.link()
    await link.open()
    original = Message({**message("m1").attributes, "hopsleft": 7, "replyto": "agent:tester"}, {"text": "grüße"})
    await link.send(original)
    assert await asyncio.wait_for(world.sent(), PATIENCE_S) == original
    await link.close()


async def test_deliveries_are_bounded_by_prefetch_and_settled_one_by_one(world: World) -> None:
    queue, taken, link = agent_queue(world.namespace, "tester"), Taken(), world.link()
    await world.declare(queue)
    for number in range(4):
        await world.put(queue, message(f"m{number}"))
    await link.open()
    await link.listen([queue], 2, taken)
    first, second = await taken.next(), await taken.next()
    assert (first.message.id, second.message.id, first.queue, first.redelivered) == ("m0", "m1", queue, False)
    assert await world.ready(queue) == 2
    await second.settle(True)
    assert (await taken.next()).message.id == "m2"
    assert await world.ready(queue) == 1
    with pytest.raises(BusError, match="settled already"):
        await second.settle(True)
    await link.close()


async def test_what_is_given_back_comes_again(world: World) -> None:
    queue, taken, link = agent_queue(world.namespace, "tester"), Taken(), world.link()
    await world.declare(queue)
    await world.put(queue, message("m1"))
    await link.open()
    await link.listen([queue], 1, taken)
    await (await taken.next()).settle(False)
    again = await taken.next()
    assert (again.message.id, again.redelivered) == ("m1", True)
    await again.settle(True)
    await link.close()


async def test_what_the_bus_published_again_counts_as_redelivered(world: World) -> None:
    queue, taken, link = agent_queue(world.namespace, "tester"), Taken(), world.link()
    await world.declare(queue)
    await link.open()
    await link.listen([queue], 1, taken)
    for replay in (True, False):
        await world.put(queue, message("m1"), replay)
        inbound = await taken.next()
        assert inbound.redelivered == replay
        await inbound.settle(True)
    await link.close()


async def test_close_keeps_what_is_settled_and_returns_the_rest_in_order(world: World) -> None:
    queue, taken, link = agent_queue(world.namespace, "tester"), Taken(), world.link()
    await world.declare(queue)
    for number in range(5):
        await world.put(queue, message(f"m{number}"))
    await link.open()
    await link.listen([queue], 3, taken)
    held = [await taken.next() for _ in range(3)]
    await held[0].settle(True)
    await link.close()
    other, rest = world.link(), Taken()
    await other.open()
    await other.listen([queue], 10, rest)
    assert [(await rest.next()).message.id for _ in range(4)] == ["m1", "m2", "m3", "m4"]
    await other.close()


async def test_a_lost_connection_brings_unsettled_messages_again_and_sends_go_on(world: World) -> None:
    queue, taken, link = capability_queue(world.namespace, "greeting"), Taken(), world.link()
    await world.declare(queue)
    await world.put(queue, message("m1"))
    await link.open()
    await link.listen([queue], 1, taken)
    old = await taken.next()
    await world.lose()
    again = await taken.next()
    assert again.redelivered
    await old.settle(True)  # void: its line is gone, and this must not ack another message
    await link.send(message("after"))
    assert (await asyncio.wait_for(world.sent(), PATIENCE_S)).id == "after"
    await again.settle(True)
    await link.close()
    assert await world.ready(queue) == 0


class LogEvent(logging.Handler):
    """Set when a line holds the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text, self.seen = text, asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self.seen.set()


async def test_an_undeclared_queue_is_waited_for(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    queue, taken, link = agent_queue(world.namespace, "late"), Taken(), world.link()
    said = LogEvent(f"waiting for the bus to declare {queue}")
    logging.getLogger("adapters").addHandler(said)
    await link.open()
    listening = asyncio.ensure_future(link.listen([queue], 1, taken))
    await asyncio.wait_for(said.seen.wait(), PATIENCE_S)
    logging.getLogger("adapters").removeHandler(said)
    assert not listening.done()
    await world.declare(queue)
    await asyncio.wait_for(listening, PATIENCE_S)
    await world.put(queue, message("m1"))
    assert (await taken.next()).message.id == "m1"
    await link.close()


async def test_a_client_inbox_is_private(world: World) -> None:
    taken, link = Taken(), world.link()
    await link.open()
    address = await link.open_client(taken)
    kind, _, client = address.partition(":")
    assert (kind, len(client)) == ("client", 16)
    await world.put(client_queue(world.namespace, client), message("m1"))
    inbound = await taken.next()
    assert inbound.message.id == "m1"
    await inbound.settle(True)
    await link.close()


async def test_a_handler_that_raises_gets_the_message_again(world: World) -> None:
    queue, link = agent_queue(world.namespace, "tester"), world.link()
    calls: asyncio.Queue[bool] = asyncio.Queue()

    async def fail_once(inbound: Inbound) -> None:
        calls.put_nowait(inbound.redelivered)
        if not inbound.redelivered:
            raise RuntimeError("first time")
        await inbound.settle(True)

    await world.declare(queue)
    await world.put(queue, message("m1"))
    await link.open()
    await link.listen([queue], 1, fail_once)
    assert [await asyncio.wait_for(calls.get(), PATIENCE_S) for _ in range(2)] == [False, True]
    await link.close()


@pytest.fixture
async def rabbit(request: pytest.FixtureRequest) -> AsyncIterator[RabbitWorld]:
    broker = request.getfixturevalue("broker")
    async with RabbitWorld(broker.bus_url, broker.agent_url, request.getfixturevalue("namespace")).opened() as opened:
        yield opened


@pytest.mark.broker
async def test_sends_in_flight_at_a_loss_arrive_once_or_more_with_their_ids(rabbit: RabbitWorld) -> None:
    link = rabbit.link()
    await link.open()
    ids = [f"m{number}" for number in range(300)]
    sending = [asyncio.ensure_future(link.send(message(each))) for each in ids]
    await asyncio.sleep(0)  # they are written now; the confirms cannot be there yet
    await rabbit.lose()
    assert not any(each.done() for each in sending)
    await asyncio.wait_for(asyncio.gather(*sending), 30)
    await link.close()
    arrived: set[str] = set()
    async with asyncio.timeout(PATIENCE_S):
        while arrived != set(ids):
            arrived.add((await rabbit.sent()).id)


@pytest.mark.broker
async def test_after_it_stood_still_all_that_comes_on_the_line_counts_as_redelivered(
    rabbit: RabbitWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.line._STILL_S", 5.0)  # a busy machine must not come near it by itself
    queue, taken, link = capability_queue(rabbit.namespace, "greeting"), Taken(), rabbit.link()
    await rabbit.declare(queue)
    await link.open()
    await link.listen([queue], 10, taken)
    for stop_s, redelivered in ((0.0, False), (5.1, True), (0.0, True)):
        await rabbit.put(queue, message("m1"))
        time.sleep(stop_s)  # noqa: ASYNC251 - as SIGSTOP does
        inbound = await taken.next()
        assert inbound.redelivered == redelivered
        await inbound.settle(True)
    await link.close()


@pytest.mark.broker
async def test_a_message_too_long_is_refused_before_it_leaves(rabbit: RabbitWorld) -> None:
    link = rabbit.link()
    await link.open()
    with pytest.raises(Refused, match="bytes; send at most"):
        await link.send(message("m1", data="x" * 300_000))
    await link.close()


@pytest.mark.broker
async def test_a_return_is_an_error_that_says_what_is_missing(rabbit: RabbitWorld) -> None:
    link = rabbit.link()
    await link.open()
    await rabbit.unbind()
    with pytest.raises(BusError, match="no ingress queue"):
        await asyncio.wait_for(link.send(message("m1")), PATIENCE_S)
    await link.close()


async def test_no_broker_is_unreachable_and_says_what_to_check() -> None:
    link = AmqpLink(Settings(agent_amqp_url="amqp://a:b@127.0.0.1:1/%2F", connect_timeout_s=0.3), "tester")
    with pytest.raises(Unreachable, match="check that it runs"):
        await asyncio.wait_for(link.open(), PATIENCE_S)
