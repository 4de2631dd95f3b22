"""Confirmed publishing to the bus's ingress, pipelined: a send is a future that the broker's confirm resolves.

What is unconfirmed when the line is lost is published again, in the same order and with the same ids, on the next one;
the bus knows the ids and treats the second as a duplicate.

Of a conversation one message is unconfirmed at a time, the rest wait in its lane: a full ingress may refuse one and
take the next, and order within a conversation would be lost.

RabbitMQ can refuse a connection for ever after a limit was lifted (rabbitmq-server issue 12206; bus/shell/refusals.py
tells more), so when a message has been refused for long the line is dropped, and what waits is tried on a new one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import pika

from adapters.line import NOT_FOUND, PRECONDITION_FAILED, REFUSED, Line, Loss
from bus.core.codec import STRUCTURED, encode
from bus.core.errors import BusError, Refused, Unreachable
from bus.core.message import Message
from bus.core.naming import ingress_exchange

_PERSISTENT = 2
_NACK_PAUSE_S = 0.5  # a full ingress: wait this long on average before the same message is tried again
_REFUSED_S = (
    30.0,
    3600.0,
)  # how long a message is refused before the line is dropped: doubles from the first to the last

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Pending:
    """A message that is not confirmed yet.

    Args:
        flying: the broker's word on it is awaited.
        refused_s: since when this line refuses it, on the loop's clock; 0 when it does not.
    """

    id: str
    conversation: str
    body: bytes
    properties: Any
    confirmed: asyncio.Future[None]
    returned: str = ""
    flying: bool = False
    refused_s: float = 0.0


class Publisher:
    """Args:
    namespace: of the bus.
    body_bytes: longest message that the bus accepts.
    """

    def __init__(self, namespace: str, body_bytes: int) -> None:
        self._exchange = ingress_exchange(namespace)
        self._body_bytes = body_bytes
        self._line: Line | None = None
        self._tag = 0
        self._patience_s = _REFUSED_S[0]
        self._in_flight: dict[int, _Pending] = {}  # by delivery tag of this line, ascending
        self._lanes: dict[str, deque[_Pending]] = {}  # by conversation: the one under way, and those behind it
        self._waiting: list[_Pending] = []  # for a line, oldest first

    async def attach(self, line: Line) -> None:
        """Put the channel in confirm mode and publish whatever waits."""
        line.channel.add_on_return_callback(self._on_return)
        await line.call("confirm_delivery", ack_nack_callback=self._on_outcome)
        self._line, self._tag = line, 0
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._enter(each)

    def detach(self, loss: Loss) -> None:
        """Take back what is unconfirmed; fail it when the broker would refuse it again."""
        self._line = None
        unconfirmed = [each for lane in self._lanes.values() for each in lane if not each.confirmed.done()]
        self._in_flight.clear()
        self._lanes.clear()
        if loss.code in (REFUSED, PRECONDITION_FAILED):
            for each in unconfirmed:
                if each.flying:
                    each.confirmed.set_exception(BusError(f"the broker refuses the message: {loss.reason}"))
        if loss.code == NOT_FOUND:
            log.info("waiting for the bus to declare %s", self._exchange)
        for each in unconfirmed:
            each.flying, each.refused_s = False, 0.0
        self._waiting = [each for each in unconfirmed if not each.confirmed.done()] + self._waiting

    def close(self) -> None:
        """Fail whoever still waits for a confirm."""
        self._line = None
        for each in (*(each for lane in self._lanes.values() for each in lane), *self._waiting):
            if not each.confirmed.done():
                each.confirmed.set_exception(Unreachable("the link was closed before the broker confirmed"))

    async def send(self, message: Message) -> None:
        """Publish, and return when the broker has confirmed.

        Raises:
            Refused: the message is longer than the bus accepts.
            BusError: it was returned because the bus has no ingress queue, or the broker refuses it.
        """
        body = encode(message.attributes, message.data)
        if len(body) > self._body_bytes:
            raise Refused("too-big", f"the message has {len(body)} bytes; send at most {self._body_bytes}")
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pending = _Pending(message.id, message.conversation, body, self._properties(message), confirmed)
        if self._line is None:
            self._waiting.append(pending)
        else:
            self._enter(pending)
        try:
            await pending.confirmed
        except asyncio.CancelledError:
            if pending in self._waiting:  # the sender gave up, and no line has had it
                self._waiting.remove(pending)
            raise

    def _properties(self, message: Message) -> Any:
        return pika.BasicProperties(
            content_type=STRUCTURED, message_id=message.id, type=message.type, delivery_mode=_PERSISTENT
        )

    def _enter(self, each: _Pending) -> None:
        """Publish it, or let it wait behind earlier ones of its conversation."""
        lane = self._lanes.setdefault(each.conversation, deque())
        lane.append(each)
        if len(lane) == 1:
            self._publish(each)

    def _leave(self, each: _Pending) -> None:
        """It is done: publish the next of its conversation whose sender still waits."""
        lane = self._lanes[each.conversation]
        lane.popleft()
        while lane and lane[0].confirmed.done():
            lane.popleft()
        if lane:
            self._publish(lane[0])
        else:
            del self._lanes[each.conversation]

    def _publish(self, each: _Pending) -> None:
        line = self._line
        if line is None or line.lost.done():
            return  # its lane is taken back when the line is detached
        self._tag += 1
        self._in_flight[self._tag] = each
        each.flying = True
        each.properties.user_id = line.user
        line.channel.basic_publish(self._exchange, each.conversation, each.body, each.properties, mandatory=True)

    def _refused(self, pending: _Pending) -> None:
        """Try it again in a moment, or on a new line when this one has refused it for long."""
        loop = asyncio.get_running_loop()
        pending.refused_s = pending.refused_s or loop.time()
        seconds = loop.time() - pending.refused_s
        if seconds > self._patience_s and self._line is not None:
            log.warning("the bus's ingress has refused a message for %.0f s; connecting anew", seconds)
            self._patience_s = min(_REFUSED_S[1], 2 * self._patience_s)
            self._line.drop()
            return
        log.warning("the bus's ingress is full; trying again", extra={"message_id": pending.id})
        loop.call_later(random.uniform(0, 2 * _NACK_PAUSE_S), self._again, pending)

    def _again(self, each: _Pending) -> None:
        """Try a refused one again, unless a new line has meanwhile."""
        lane = self._lanes.get(each.conversation)
        if not lane or lane[0] is not each or each.flying:
            return
        if each.confirmed.done():  # the sender gave up waiting
            self._leave(each)
        else:
            self._publish(each)

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        # Rare, and it comes before the confirm of the same message, so looking through all of them is fine.
        for each in self._in_flight.values():
            if each.id == properties.message_id:
                each.returned = method.reply_text or "unroutable"

    def _on_outcome(self, frame: Any) -> None:
        method, tag = frame.method, frame.method.delivery_tag
        tags = [each for each in self._in_flight if each <= tag] if method.multiple else [tag]
        for each in tags:
            pending = self._in_flight.pop(each, None)
            if pending is not None:
                self._settle(pending, method.NAME == "Basic.Ack")

    def _settle(self, pending: _Pending, accepted: bool) -> None:
        pending.flying = False
        waited_for = not pending.confirmed.done()
        if waited_for and not accepted and not pending.returned:
            self._refused(pending)
            return
        if pending.refused_s:
            self._patience_s = _REFUSED_S[0]
        if waited_for and pending.returned:
            reason = f"the bus has no ingress queue behind {self._exchange} ({pending.returned}); start the bus first"
            pending.confirmed.set_exception(BusError(reason))
        elif waited_for:
            pending.confirmed.set_result(None)
        self._leave(pending)
