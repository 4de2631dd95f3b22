"""The agent's link without a broker: queues in memory, for the SDK's tests and for agents' own.

It keeps the guarantees of `bus.ports.AgentLink` that matter to an agent: prefetch, settlement one by one, redelivery of
what was not settled, waiting for undeclared queues. Both implementations pass tests/contract/test_agent_link.py.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from bus.core.errors import BusError, Unreachable
from bus.core.message import Message
from bus.core.naming import client_queue
from bus.ports import Handler, Inbound

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Queue:
    waiting: deque[tuple[Message, bool]] = field(default_factory=deque)
    consumers: list[_Consumer] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Consumer:
    queue: str
    prefetch: int
    handler: Handler
    unsettled: dict[int, Message] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class MemoryBroker:
    """What stands in for the broker and the bus: `put` is what the bus sends, `sent` what it receives.

    Args:
        namespace: of the queues' names.
    """

    def __init__(self, namespace: str = "agentbus") -> None:
        self.namespace = namespace
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self._queues: dict[str, _Queue] = {}
        self._declared = asyncio.Condition()
        self._tag = 0
        self._changed = asyncio.Event()

    async def declare(self, queue: str) -> None:
        """Make a queue, as the bus does when it starts."""
        async with self._declared:
            self._queues.setdefault(queue, _Queue())
            self._declared.notify_all()

    def put(self, queue: str, message: Message, replay: bool = False) -> None:
        """Put a message into a queue.

        Args:
            replay: the bus does not know whether it has published this before.

        Raises:
            BusError: there is no such queue.
        """
        if queue not in self._queues:
            raise BusError(f"no queue {queue}; declare it first")
        self._queues[queue].waiting.append((message, replay))
        self._hand_out(queue)

    def depth(self, queue: str) -> tuple[int, int]:
        """Return how many messages are ready and how many are delivered but unsettled."""
        here = self._queues[queue]
        return len(here.waiting), sum(len(each.unsettled) for each in here.consumers)

    async def until(self, queue: str, depth: tuple[int, int]) -> None:
        """Wait until `queue` has this depth."""
        while self.depth(queue) != depth:
            self._changed.clear()
            await self._changed.wait()

    async def attach(self, consumer: _Consumer) -> None:
        """Wait for the queue to be declared, then hand its messages to the consumer."""
        async with self._declared:
            if consumer.queue not in self._queues:
                log.info("waiting for the bus to declare %s", consumer.queue)
            await self._declared.wait_for(lambda: consumer.queue in self._queues)
        self._queues[consumer.queue].consumers.append(consumer)
        self._hand_out(consumer.queue)

    def detach(self, consumer: _Consumer) -> None:
        """Take a consumer away; what it had not settled goes back to the head of the queue."""
        here = self._queues.get(consumer.queue)
        if here is None or consumer not in here.consumers:
            return
        here.consumers.remove(consumer)
        here.waiting.extendleft((message, True) for message in reversed(consumer.unsettled.values()))
        consumer.unsettled.clear()
        self._hand_out(consumer.queue)

    def remove(self, queue: str) -> None:
        """Delete a queue and what is in it."""
        self._queues.pop(queue, None)

    def _hand_out(self, queue: str) -> None:
        self._changed.set()
        here = self._queues[queue]
        while here.waiting:
            free = [each for each in here.consumers if len(each.unsettled) < each.prefetch]
            if not free:
                return
            message, again = here.waiting.popleft()
            self._deliver(here.consumers, free[0], message, again)

    def _deliver(self, ring: list[_Consumer], consumer: _Consumer, message: Message, again: bool) -> None:
        ring.append(ring.pop(ring.index(consumer)))  # round robin
        self._tag += 1
        tag = self._tag
        consumer.unsettled[tag] = message
        settled = False

        async def settle(done: bool) -> None:
            nonlocal settled
            if settled:
                raise BusError("this delivery is settled already; settle each exactly once")
            settled = True
            if consumer.unsettled.pop(tag, None) is None:
                return  # the link was closed or lost: it has gone back already
            if not done:
                self._queues[consumer.queue].waiting.appendleft((message, True))
            self._hand_out(consumer.queue)

        async def handle() -> None:
            try:
                await consumer.handler(Inbound(message, consumer.queue, again, settle))
            except Exception:
                log.exception("a handler raised; giving the message back")
                if not settled:
                    await settle(False)

        task = asyncio.ensure_future(handle())
        consumer.tasks.add(task)
        task.add_done_callback(consumer.tasks.discard)


class MemoryLink:
    """An `AgentLink` on a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._consumers: list[_Consumer] = []
        self._private: list[str] = []
        self._open = False

    async def open(self) -> None:
        """Connect."""
        self._open = True

    async def send(self, message: Message) -> None:
        """Hand a message to the bus."""
        if not self._open:
            raise Unreachable("the link is closed")
        self._broker.sent.put_nowait(message)
        await asyncio.sleep(0)  # as a real confirm, it never comes in the same turn

    async def listen(self, queues: Sequence[str], prefetch: int, handler: Handler) -> None:
        """Consume; returns when every queue is consumed."""
        for queue in queues:
            consumer = _Consumer(queue, prefetch, handler)
            self._consumers.append(consumer)
            await self._broker.attach(consumer)

    async def open_client(self, handler: Handler) -> str:
        """Make a private inbox; returns its address."""
        client = secrets.token_hex(8)
        queue = client_queue(self._broker.namespace, client)
        self._private.append(queue)
        await self._broker.declare(queue)
        await self.listen([queue], 1000, handler)
        return f"client:{client}"

    async def drop(self) -> None:
        """Lose the connection and get it back at once: what was not settled comes again."""
        for each in self._consumers:
            self._broker.detach(each)
            await self._broker.attach(each)

    async def close(self) -> None:
        """Cancel handlers that still run and let the connection go."""
        self._open = False
        tasks = [task for each in self._consumers for task in each.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self._consumers:
            self._broker.detach(each)
        for queue in self._private:
            self._broker.remove(queue)
