"""An agent's link to the bus over RabbitMQ: `bus.ports.AgentLink` on asyncio.

Two lines are kept up as a pair, one that consumes and one that publishes, so that a broker that slows publishers down
does not stop acks. When either goes, both are dropped and made anew with full jitter; consumers are registered again
and unconfirmed messages sent again. Deliveries belong to the line they came on: a settlement that comes after its
line was lost is void, and the broker delivers the message again. Of several hosts each attempt takes the next; a round
of them is tried before there is a longer pause.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pika.exceptions

from adapters.line import Line, Loss
from adapters.publisher import Publisher
from bus.core.actions import Delivery
from bus.core.codec import decode
from bus.core.endpoints import endpoints, places
from bus.core.errors import BusError, Unreachable
from bus.core.facts import Limits
from bus.core.message import Message
from bus.core.naming import client_queue
from bus.core.outputs import REPLAY
from bus.ports import Handler, Inbound
from bus.settings import Settings

_BACKOFF_S = (0.1, 10.0)
_SAY_PAUSE_S = 3.0  # between two log lines about a broker that is waited for
_DECLARE_PAUSE_S = 0.5  # between two looks whether the bus has declared a queue
_SAY_EVERY = 20  # looks between two log lines about it
_CLIENT_PREFETCH = 1000
_GIVE_BACK_PAUSE_S = 1.0  # a handler that raised: not at once again, or it spins
_INBOUND = Limits(body_bytes=16 * 1024 * 1024)  # only the bus writes inboxes; the cap is against accidents

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Subscription:
    """A queue to consume on every line; `private` queues are declared by the link itself."""

    queue: str
    prefetch: int
    handler: Handler
    private: bool = False
    consuming: asyncio.Event = field(default_factory=asyncio.Event)


class AmqpLink:
    """Args:
    settings: broker URL (`agent_amqp_url`, else `amqp_url`), namespace, limits.
    name: the agent's name, for the broker's list of connections.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        url = settings.agent_amqp_url or settings.amqp_url
        if not url:
            raise BusError("no broker to connect to; set BUS_AGENT_AMQP_URL to the URL that `bus run` shows")
        self._name, self._settings = name, settings
        self._where = places(url)
        # In an order of our own, so that those who connect at once do not all go to the same host.
        self._hosts = random.sample(endpoints(url), len(endpoints(url)))
        self._publisher = Publisher(settings.namespace, settings.body_bytes)
        self._subscriptions: list[_Subscription] = []
        self._line: Line | None = None  # the consuming one, while it is up
        self._publishing: Line | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._starting: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """Connect, and keep connected until `close`.

        Raises:
            Unreachable: no connection within `connect_timeout_s`.
        """
        deadline = asyncio.get_running_loop().time() + self._settings.connect_timeout_s
        attempt, silent_until = 0, 0.0
        while True:
            try:
                lines = await self._connect()
                break
            except Unreachable as error:
                pause = self._pause(attempt)
                if asyncio.get_running_loop().time() + pause > deadline:
                    raise Unreachable(
                        f"no connection to the broker at {self._where} in "
                        f"{self._settings.connect_timeout_s:g} s: {error}; "
                        "check that it runs and that BUS_AGENT_AMQP_URL is right"
                    ) from error
                if asyncio.get_running_loop().time() >= silent_until:
                    log.warning("waiting for the broker at %s: %s", self._where, error)
                    silent_until = asyncio.get_running_loop().time() + _SAY_PAUSE_S
            attempt += 1
            await asyncio.sleep(pause)
        self._keeper = asyncio.create_task(self._keep(*lines))

    async def send(self, message: Message) -> None:
        """Publish to the bus's ingress; returns when confirmed.

        Raises:
            BusError: the message cannot be accepted, now or later.
        """
        await self._publisher.send(message)

    async def listen(self, queues: Sequence[str], prefetch: int, handler: Handler) -> None:
        """Consume; returns when every queue is consumed. Queues that the bus has not declared yet are waited for."""
        subscriptions = [_Subscription(queue, prefetch, handler) for queue in queues]
        await self._subscribe(subscriptions)

    async def open_client(self, handler: Handler) -> str:
        """Make a private inbox that goes away with the connection; returns its address `client:<id>`."""
        client = secrets.token_hex(8)
        queue = client_queue(self._settings.namespace, client)
        await self._subscribe([_Subscription(queue, _CLIENT_PREFETCH, handler, private=True)])
        return f"client:{client}"

    async def close(self) -> None:
        """Cancel handlers that still run, flush what was settled, and close without cancelling consumers."""
        self._closing = True
        tasks = [*self._starting, *self._work, *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._publisher.close()
        for line in (self._line, self._publishing):
            if line is not None:
                await line.close()
        self._line = self._publishing = None

    async def _connect(self) -> tuple[Line, Line]:
        self._hosts.append(url := self._hosts.pop(0))  # the next attempt takes the next host
        consuming, publishing = Line(url, f"{self._name} inbox"), Line(url, f"{self._name} outbox")
        try:
            await asyncio.gather(consuming.open(), publishing.open())
            await self._publisher.attach(publishing)
        except BaseException:
            consuming.drop()
            publishing.drop()
            raise
        self._line, self._publishing = consuming, publishing
        self._start(consuming, self._subscriptions)  # those that come later start themselves
        return consuming, publishing

    async def _keep(self, consuming: Line, publishing: Line) -> None:
        attempt = 0
        while True:
            up_since = asyncio.get_running_loop().time()
            await asyncio.wait({consuming.lost, publishing.lost}, return_when=asyncio.FIRST_COMPLETED)
            self._on_lost(consuming, publishing)
            if asyncio.get_running_loop().time() - up_since > _BACKOFF_S[1]:
                attempt = 0
            while True:
                await asyncio.sleep(self._pause(attempt))
                attempt += 1
                try:
                    consuming, publishing = await self._connect()
                    break
                except (Unreachable, pika.exceptions.AMQPError) as error:
                    log.warning("still no connection to the broker: %s", error)
            log.info("connected to the broker again")

    def _pause(self, attempt: int) -> float:
        """Full jitter, by rounds: while there is a host that was not tried, there is little to wait for."""
        return _jitter(attempt // len(self._hosts))

    def _on_lost(self, consuming: Line, publishing: Line) -> None:
        loss = publishing.lost.result() if publishing.lost.done() else Loss(0, "")
        reason = loss.reason or consuming.lost.result().reason
        log.warning("connection to the broker lost: %s; reconnecting", reason)
        self._publisher.detach(loss)
        self._line = self._publishing = None
        for task in self._starting:
            task.cancel()
        for each in self._subscriptions:
            each.consuming.clear()
        consuming.drop()
        publishing.drop()

    async def _subscribe(self, subscriptions: list[_Subscription]) -> None:
        self._subscriptions += subscriptions
        if self._line is not None:
            self._start(self._line, subscriptions)
        for each in subscriptions:
            await each.consuming.wait()

    def _start(self, line: Line, subscriptions: Sequence[_Subscription]) -> None:
        for each in subscriptions:
            task = asyncio.create_task(self._consume(line, each))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _consume(self, line: Line, each: _Subscription) -> None:
        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            self._receive(line, each, method, properties, body)

        try:
            if each.private:
                await line.call("queue_declare", queue=each.queue, exclusive=True, auto_delete=True)
            else:
                await _until_declared(line, each.queue)
            # Not global: quorum queues refuse that. It holds for the consumers made after it on this channel.
            line.channel.basic_qos(prefetch_count=each.prefetch)
            await line.call("basic_consume", queue=each.queue, on_message_callback=on_message)
            each.consuming.set()
        except Unreachable:
            return  # the line is lost; the keeper starts this again on the next one
        except pika.exceptions.AMQPError as error:
            log.warning("cannot consume %s: %s", each.queue, error)
            line.drop()
        except BusError as error:
            log.error("cannot consume %s: %s", each.queue, error)

    def _receive(self, line: Line, each: _Subscription, method: Any, properties: Any, body: bytes) -> None:
        delivery = Delivery(
            body=body,
            content_type=properties.content_type,
            headers=properties.headers or {},
            user_id=properties.user_id,
            message_id=properties.message_id,
            type=properties.type,
            routing_key=method.routing_key,
            queue=each.queue,
        )
        try:
            message = decode(delivery, _INBOUND)
        except BusError as error:
            # To the dead-letter exchange, where the bus records it: giving it back would bring it again for ever.
            log.error("rejected a message in %s: %s", each.queue, error, extra={"message_id": properties.message_id})
            line.channel.basic_reject(method.delivery_tag, requeue=False)
            return
        settlement = _Settlement(line, method.delivery_tag)
        again = method.redelivered or REPLAY in delivery.headers or line.stood_still()
        inbound = Inbound(message, each.queue, again, settlement.settle)
        task: asyncio.Task[None] = asyncio.ensure_future(each.handler(inbound))
        self._work.add(task)
        task.add_done_callback(lambda done: self._worked(done, settlement, message.id))

    def _worked(self, task: asyncio.Task[None], settlement: _Settlement, message_id: str) -> None:
        self._work.discard(task)
        if self._closing or (not task.cancelled() and task.exception() is None):
            return
        error = None if task.cancelled() else task.exception()
        log.error("a handler raised or was cancelled; giving the message back", exc_info=error,
                  extra={"message_id": message_id})  # fmt: skip
        asyncio.get_running_loop().call_later(_GIVE_BACK_PAUSE_S, settlement.give_back)


class _Settlement:
    """The one settlement of a delivery, void once its line is lost."""

    def __init__(self, line: Line, tag: int) -> None:
        self._line, self._tag, self._settled = line, tag, False

    async def settle(self, done: bool) -> None:
        if self._settled:
            raise BusError("this delivery is settled already; settle each exactly once")
        self._settled = True
        if self._line.lost.done() or not self._line.channel.is_open:
            return
        if done:
            self._line.channel.basic_ack(self._tag)
        else:
            self._line.channel.basic_nack(self._tag, requeue=True)

    def give_back(self) -> None:
        if not self._settled and not self._line.lost.done():
            self._settled = True
            self._line.channel.basic_nack(self._tag, requeue=True)


async def _until_declared(line: Line, queue: str) -> None:
    looks = 0
    while not await line.queue_exists(queue):
        if looks % _SAY_EVERY == 0:
            log.info("waiting for the bus to declare %s", queue)
        looks += 1
        await asyncio.sleep(_DECLARE_PAUSE_S)


def _jitter(attempt: int) -> float:
    """Full jitter: evenly between the least pause and one that doubles up to the largest."""
    low, high = _BACKOFF_S
    return random.uniform(low, max(2 * low, min(high, low * 2.0 ** min(attempt, 10))))
