"""Asking the bus whether a task is to be done here, before work that another agent may have done or begun already.

The question is asked when a task comes that may have been given to somebody before, and that this process has no reply
to; and for a task that may take long, to take its lease and to renew it. It waits for as long as the bus is silent: to
work without its word could be to work for the second time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import NamedTuple

from adapters.sdk.outgoing import claim
from bus.core.errors import BusError
from bus.core.message import CORRELATION, TASK_CLAIMED, Json, Message
from bus.ports import AgentLink, Inbound

_ASK_AGAIN_S = 30.0  # a verdict may be lost with the connection that its inbox hangs on

log = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """What the bus says of a task.

    Args:
        go: do it; if not, it is answered, or another agent's by now.
        lease_s: it is accepted: within so many seconds the bus must hear of it again. None: it is not.
    """

    go: bool
    lease_s: float | None


class Claims:
    """Args:
    agent: name of the agent.
    link: to the bus.
    """

    def __init__(self, agent: str, link: AgentLink) -> None:
        self._agent, self._link = agent, link
        self._asked: dict[str, asyncio.Future[Message]] = {}
        self._asking: set[asyncio.Task[Verdict | None]] = set()
        self._opening: asyncio.Task[str] | None = None

    async def ask(self, task: Message, capability: str, accept: bool = False) -> Verdict | None:
        """Ask the bus whether the task is to be done here.

        Args:
            accept: take the task's lease, or renew it.

        Returns:
            None when the bus refuses to say, or `stop` comes.
        """
        asking = asyncio.create_task(self._until_said(task, capability, accept))
        self._asking.add(asking)
        try:
            await asyncio.wait({asking})
            return None if asking.cancelled() else asking.result()
        finally:
            asking.cancel()
            self._asking.discard(asking)

    def take(self, message: Message) -> bool:
        """Take what answers a question; returns whether it does."""
        asked = self._asked.get(message.text(CORRELATION) or "")
        if asked is None:
            return False
        if not asked.done():
            asked.set_result(message)
        return True

    def stop(self) -> None:
        """Wait for no verdict any more."""
        for each in self._asking:
            each.cancel()
        if self._opening is not None:
            self._opening.cancel()

    async def _until_said(self, task: Message, capability: str, accept: bool) -> Verdict | None:
        where = {"message_id": task.id, "conversation": task.conversation}
        while True:
            try:
                async with asyncio.timeout(_ASK_AGAIN_S):
                    said = await self._ask(task, capability, accept)
                break
            except TimeoutError:
                log.warning("the bus does not say whether %s is still to be done; asking again", task.type, extra=where)
            except BusError as error:
                log.error("cannot ask the bus about %s: %s", task.type, error, extra=where)
                return None
        if said.type == TASK_CLAIMED and isinstance(said.data, dict):
            return _verdict(said.data)
        log.error("the bus does not let %s have %s: %s", self._agent, task.type, said.data, extra=where)
        return None

    async def _ask(self, task: Message, capability: str, accept: bool) -> Message:
        question = claim(self._agent, task, capability, await self._inbox(), accept)
        said: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[question.id] = said
        try:
            await self._link.send(question)
            return await said
        finally:
            del self._asked[question.id]

    async def _inbox(self) -> str:
        """The private inbox for verdicts: other processes of this agent take from its own one, too."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._link.open_client(self._on_verdict))
        return await asyncio.shield(self._opening)

    async def _on_verdict(self, inbound: Inbound) -> None:
        self.take(inbound.message)
        await inbound.settle(True)


def _verdict(data: Mapping[str, Json]) -> Verdict:
    lease = data.get("lease")
    return Verdict(data.get("verdict") == "go", float(lease) if isinstance(lease, int) else None)
