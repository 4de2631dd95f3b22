"""The Messaging Bridge: an agent on two buses, which carries events from each to the other.

At home it is an agent like any other: what it subscribes to comes into its inbox, and goes to the other bus, where it
is an agent, too, by its own name or by `as`. What the other bus gives it there comes home. Each bus asks of it what it
asks of every agent: that it declares what it publishes, and that contracts are kept.

A message keeps its id, its conversation and whatever it carries, so that what comes twice is a duplicate there. It is
acked when the other broker has confirmed it. Messages of a conversation are carried in order, one at a time. What came
over the bridge does not go back over it, and every hop counts down, so that nothing goes round for ever between buses
that are bridged in a ring.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Callable, Mapping

from adapters.link import AmqpLink
from adapters.process import Backoff
from bus.core.errors import BusError, Refused
from bus.core.facts import Limits
from bus.core.message import ATTEMPT, FAILED, FENCE, HOPS, LEASE, REDRIVE, REPLYTO, SOURCE, Message
from bus.core.naming import agent_queue
from bus.core.route import Agent as Declared
from bus.ports import AgentLink, Inbound
from bus.settings import Settings

_PREFETCH = 256  # messages on their way at once, in each direction
_LEFT_BEHIND = frozenset((REPLYTO, FENCE, ATTEMPT, REDRIVE, LEASE))
"""What means something only on the bus that set it."""

log = logging.getLogger(__name__)


class Bridge:
    """Args:
    declared: the agent; `url`, and optionally `namespace` and `as`, are read from its settings.
    environment: not looked at; secrets are filled in already.
    """

    def __init__(self, declared: Declared, environment: Mapping[str, str]) -> None:
        self.name = declared.name
        given = declared.settings
        self._url = str(given.get("url") or "")
        self._namespace = given.get("namespace")
        self._there = str(given.get("as") or declared.name)
        if not self._url:
            raise BusError(f"agent `{self.name}` does not say where it leads; write `url: ${{OTHER_BUS}}`")

    async def run(self, settings: Settings, ready: Callable[[], None]) -> None:
        """Carry until cancelled, over every loss of a connection.

        Raises:
            Unreachable: no connection to the broker at home within `connect_timeout_s`.
        """
        # The other bus is waited for as long as it takes: the agents beside this one have nothing to do with it.
        namespace = str(self._namespace or settings.namespace)
        other = dataclasses.replace(settings, agent_amqp_url=self._url, namespace=namespace, connect_timeout_s=math.inf)
        home, away = AmqpLink(settings, self.name), AmqpLink(other, self._there)
        try:
            await home.open()
            await away.open()
            out, back = Way(self.name, away, self._there), Way(self._there, home, self.name)
            await home.listen([agent_queue(settings.namespace, self.name)], _PREFETCH, out.carry)
            await away.listen([agent_queue(other.namespace, self._there)], _PREFETCH, back.carry)
            ready()
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(home.close(), away.close())


class Way:
    """One direction.

    Args:
        here: the bridge's name on the bus that it takes from.
        link: to the bus that it brings to.
        there: its name on that one.
    """

    def __init__(self, here: str, link: AgentLink, there: str) -> None:
        self._here, self._link, self._there = here, link, there
        self._last: dict[str, asyncio.Future[None]] = {}  # by conversation: the newest that is on its way

    async def carry(self, inbound: Inbound) -> None:
        """Bring one message over, then ack it.

        Raises:
            Refused: it can never be sent there; it is given back, until the broker makes a dead letter of it.
        """
        message = inbound.message
        if message.type == FAILED:
            data = message.data if isinstance(message.data, dict) else {}
            log.error("bridge %s: what it brought was refused: %s", self._here, data.get("reason"))
        elif message.source != self._here:
            await self._in_turn(carried(message, self._there))
        await inbound.settle(True)

    async def _in_turn(self, message: Message) -> None:
        conversation = message.conversation
        before = self._last.get(conversation)
        mine = self._last[conversation] = asyncio.get_running_loop().create_future()
        try:
            if before is not None:
                await asyncio.wait((before,))
            await self._send(message)
        finally:
            mine.set_result(None)
            if self._last.get(conversation) is mine:
                del self._last[conversation]

    async def _send(self, message: Message) -> None:
        backoff = Backoff()
        while True:
            try:
                return await self._link.send(message)
            except Refused:
                raise
            except BusError as error:
                log.warning("bridge %s waits for the other bus: %s", self._here, error)
            await asyncio.sleep(backoff.pause(0.0))


def carried(message: Message, source: str) -> Message:
    """The message as it is said on the other bus, with one hop less."""
    kept = {name: value for name, value in message.attributes.items() if name not in _LEFT_BEHIND}
    left = kept.get(HOPS)
    hops = left if isinstance(left, int) and not isinstance(left, bool) else Limits().hops
    return Message({**kept, SOURCE: source, HOPS: max(0, hops - 1)}, message.data)
