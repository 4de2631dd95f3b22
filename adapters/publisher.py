"""Confirmed publishing to the bus's ingress, pipelined: a send is a future that the broker's confirm resolves.

What is unconfirmed when the line is lost is published again, in the same order and with the same ids, on the next one;
the bus knows the ids and treats the second as a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
import random
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

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Pending:
    """A message that is not confirmed yet."""

    id: str
    conversation: str
    body: bytes
    properties: Any
    confirmed: asyncio.Future[None]
    returned: str = ""


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
        self._in_flight: dict[int, _Pending] = {}  # by delivery tag of this line, ascending
        self._waiting: list[_Pending] = []  # for a line, oldest first

    async def attach(self, line: Line) -> None:
        """Put the channel in confirm mode and publish whatever waits."""
        line.channel.add_on_return_callback(self._on_return)
        await line.call("confirm_delivery", ack_nack_callback=self._on_outcome)
        self._line, self._tag = line, 0
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._publish(each)

    def detach(self, loss: Loss) -> None:
        """Take back what is unconfirmed; fail it when the broker would refuse it again."""
        self._line = None
        unconfirmed = [each for each in self._in_flight.values() if not each.confirmed.done()]
        self._in_flight.clear()
        if loss.code in (REFUSED, PRECONDITION_FAILED):
            for each in unconfirmed:
                each.confirmed.set_exception(BusError(f"the broker refuses the message: {loss.reason}"))
            return
        if loss.code == NOT_FOUND:
            log.info("waiting for the bus to declare %s", self._exchange)
        self._waiting = unconfirmed + self._waiting

    def close(self) -> None:
        """Fail whoever still waits for a confirm."""
        self._line = None
        for each in (*self._in_flight.values(), *self._waiting):
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
            self._publish(pending)
        await pending.confirmed

    def _properties(self, message: Message) -> Any:
        return pika.BasicProperties(
            content_type=STRUCTURED, message_id=message.id, type=message.type, delivery_mode=_PERSISTENT
        )

    def _publish(self, each: _Pending) -> None:
        line = self._line
        if each.confirmed.done():  # the sender gave up waiting
            return
        if line is None or line.lost.done():
            self._waiting.append(each)
            return
        self._tag += 1
        self._in_flight[self._tag] = each
        each.properties.user_id = line.user
        line.channel.basic_publish(self._exchange, each.conversation, each.body, each.properties, mandatory=True)

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
            if pending is not None and not pending.confirmed.done():
                self._settle(pending, method.NAME == "Basic.Ack")

    def _settle(self, pending: _Pending, accepted: bool) -> None:
        if pending.returned:
            reason = f"the bus has no ingress queue behind {self._exchange} ({pending.returned}); start the bus first"
            pending.confirmed.set_exception(BusError(reason))
        elif accepted:
            pending.confirmed.set_result(None)
        else:
            log.warning("the bus's ingress is full; trying again", extra={"message_id": pending.id})
            pause = random.uniform(0, 2 * _NACK_PAUSE_S)
            asyncio.get_running_loop().call_later(pause, self._publish, pending)
