"""Publishing to an ingress that refuses some: everything comes, and in order within each conversation."""

from __future__ import annotations

import asyncio
import json

import pika
import pytest

from adapters import publisher
from adapters.link import AmqpLink
from bus.core.message import Message
from bus.core.naming import ingress_exchange, ingress_queue
from bus.settings import Settings
from bus.shell.broker_ctl import rabbitmqctl
from tests.conftest import TestBroker

MESSAGES = 60
PATIENCE_S = 60.0
FILL_S = 0.5  # until the queue has told who publishes that it is full
LIMIT = {"x-queue-type": "quorum", "x-max-length": 3, "x-overflow": "reject-publish"}


async def test_a_full_ingress_does_not_change_the_order_of_a_conversation(broker: TestBroker, namespace: str) -> None:
    exchange, queue = ingress_exchange(namespace), ingress_queue(namespace, 0)
    connection = pika.BlockingConnection(pika.URLParameters(broker.bus_url))
    channel = connection.channel()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_declare(queue, durable=True, arguments=LIMIT)
    channel.queue_bind(queue, exchange)
    link = AmqpLink(Settings(agent_amqp_url=broker.agent_url, namespace=namespace), "tester")
    await link.open()
    taken: list[str] = []
    try:
        await link.send(message("c9-first"))  # from here on the queue knows the channel, and can refuse it
        for _ in range(10):
            channel.basic_publish("", queue, b"filler", pika.BasicProperties(message_id="filler"))
        await asyncio.sleep(FILL_S)
        names = [f"c{number % 2}-{number:03}" for number in range(MESSAGES)]
        sending = asyncio.gather(*(link.send(message(name)) for name in names))
        async with asyncio.timeout(PATIENCE_S):
            while not set(names) <= set(taken):
                method, properties, _ = await asyncio.to_thread(channel.basic_get, queue, True)
                if method is not None:
                    taken.append(properties.message_id)
                await asyncio.sleep(0.01)
            await sending
    finally:
        await link.close()
        channel.queue_delete(queue)
        channel.exchange_delete(exchange)
        connection.close()
    for conversation in ("c0", "c1"):
        assert [name for name in taken if name.startswith(conversation)] == sorted(
            name for name in names if name.startswith(conversation)
        )


async def test_an_ingress_that_refuses_for_ever_is_tried_on_a_new_connection(
    broker: TestBroker, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broker.home is None:
        pytest.skip("needs rabbitmqctl on a node of our own")
    monkeypatch.setattr(publisher, "_REFUSED_S", (2.0, 2.0))
    exchange, queue = ingress_exchange(namespace), ingress_queue(namespace, 0)
    connection = pika.BlockingConnection(pika.URLParameters(broker.bus_url))
    channel = connection.channel()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(queue, exchange)
    link = AmqpLink(Settings(agent_amqp_url=broker.agent_url, namespace=namespace), "tester")
    await link.open()
    rules = json.dumps({"max-length": 3, "overflow": "reject-publish"})
    words = ("set_policy", "--priority", "9", "--apply-to", "queues", namespace, f"^{queue}$", rules)
    await asyncio.to_thread(rabbitmqctl, broker.home, *words)
    try:
        await link.send(message("c0-first"))
        for _ in range(10):
            channel.basic_publish("", queue, b"filler", pika.BasicProperties(message_id="filler"))
        await asyncio.sleep(FILL_S)
        names = [f"c0-{number}" for number in range(5)]
        sending = asyncio.gather(*(link.send(message(name)) for name in names))
        await asyncio.sleep(FILL_S)
        await asyncio.to_thread(rabbitmqctl, broker.home, "clear_policy", namespace)
        channel.queue_purge(queue)
        async with asyncio.timeout(PATIENCE_S):
            await sending
        taken = [channel.basic_get(queue, True)[1].message_id for _ in names]
        assert taken == names
    finally:
        await link.close()
        channel.queue_delete(queue)
        channel.exchange_delete(exchange)
        connection.close()


def message(name: str) -> Message:
    attributes = {"specversion": "1.0", "id": name, "source": "tester", "type": "said", "conversationid": name[:2]}
    return Message(dict(attributes), {"name": name})
