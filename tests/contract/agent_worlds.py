"""The two worlds that the agent's link is tested in: memory, and a real RabbitMQ behind a proxy that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import pika

from adapters.line import Line
from adapters.link import AmqpLink
from adapters.memory_link import MemoryBroker, MemoryLink
from bus.core.actions import Delivery
from bus.core.codec import STRUCTURED, decode, encode
from bus.core.facts import Limits
from bus.core.message import Message
from bus.core.naming import ingress_exchange, ingress_queue
from bus.core.outputs import REPLAY
from bus.ports import AgentLink
from bus.settings import Settings


class World(Protocol):
    """What the contract suite needs of a broker."""

    namespace: str

    def link(self) -> AgentLink: ...
    async def declare(self, queue: str) -> None: ...
    async def put(self, queue: str, message: Message, replay: bool = False) -> None: ...
    async def sent(self) -> Message: ...
    async def ready(self, queue: str) -> int: ...
    async def lose(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.namespace = "agentbus"
        self._broker = MemoryBroker(self.namespace)
        self._links: list[MemoryLink] = []

    def link(self) -> AgentLink:
        self._links.append(MemoryLink(self._broker))
        return self._links[-1]

    async def declare(self, queue: str) -> None:
        await self._broker.declare(queue)

    async def put(self, queue: str, message: Message, replay: bool = False) -> None:
        self._broker.put(queue, message, replay)

    async def sent(self) -> Message:
        return await self._broker.sent.get()

    async def ready(self, queue: str) -> int:
        return self._broker.depth(queue)[0]

    async def lose(self) -> None:
        for each in self._links:
            await each.drop()


class Proxy:
    """A TCP proxy whose connections can all be cut at once."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        for each in self._writers:
            each.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(*self._to)
        pair = {back, forth}
        self._writers |= pair
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_copy(near, forth), _copy(far, back))
        self._writers -= pair
        for each in pair:
            each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class RabbitWorld:
    """Args:
    bus_url, agent_url: of the broker, for the bus's user and the agents'.
    namespace: one that no other test has.
    """

    def __init__(self, bus_url: str, agent_url: str, namespace: str) -> None:
        self.namespace, self._bus_url, self._agent_url = namespace, bus_url, agent_url
        self._queues: list[str] = []
        self._sent: asyncio.Queue[Message] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[RabbitWorld]:
        parts = urlsplit(self._agent_url)
        self._proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5672)
        await self._proxy.start()
        user = parts.netloc.rpartition("@")[0]
        self._proxied = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self._proxy.port}"))
        self._line = Line(self._bus_url, "test")
        await self._line.open()
        exchange = ingress_exchange(self.namespace)
        await self._line.call("exchange_declare", exchange=exchange, exchange_type="x-modulus-hash", durable=True)
        await self.declare(ingress_queue(self.namespace, 0))
        await self._line.call("queue_bind", queue=ingress_queue(self.namespace, 0), exchange=exchange, routing_key="1")
        await self._line.call(
            "basic_consume", queue=ingress_queue(self.namespace, 0), on_message_callback=self._on_sent, auto_ack=True
        )
        try:
            yield self
        finally:
            for queue in self._queues:
                await self._line.call("queue_delete", queue=queue)
            await self._line.call("exchange_delete", exchange=exchange)
            await self._line.close()
            await self._proxy.stop()

    def settings(self, proxied: bool = False) -> Settings:
        url = self._proxied if proxied else self._agent_url
        return Settings(agent_amqp_url=url, namespace=self.namespace, connect_timeout_s=20)

    def link(self) -> AgentLink:
        return AmqpLink(self.settings(proxied=True), "tester")

    async def declare(self, queue: str) -> None:
        self._queues.append(queue)
        await self._line.call("queue_declare", queue=queue, durable=True, arguments={"x-queue-type": "quorum"})

    async def put(self, queue: str, message: Message, replay: bool = False) -> None:
        properties = pika.BasicProperties(
            content_type=STRUCTURED,
            message_id=message.id,
            type=message.type,
            delivery_mode=2,
            headers={REPLAY: True} if replay else None,
        )
        self._line.channel.basic_publish("", queue, encode(message.attributes, message.data), properties)

    async def sent(self) -> Message:
        return await self._sent.get()

    def _on_sent(self, _channel: object, method: Any, properties: Any, body: bytes) -> None:
        headers = properties.headers or {}
        kind, queue = properties.content_type, ingress_queue(self.namespace, 0)
        user, identity = properties.user_id, properties.message_id
        delivery = Delivery(body, kind, headers, user, identity, properties.type, method.routing_key, queue)
        self._sent.put_nowait(decode(delivery, Limits()))

    async def ready(self, queue: str) -> int:
        frame = await self._line.call("queue_declare", queue=queue, passive=True)
        return int(frame.method.message_count)

    async def lose(self) -> None:
        self._proxy.cut()

    async def unbind(self) -> None:
        """Take the ingress queue away from its exchange, as if the bus had never run."""
        queue, exchange = ingress_queue(self.namespace, 0), ingress_exchange(self.namespace)
        await self._line.call("queue_unbind", queue=queue, exchange=exchange, routing_key="1")
