"""An agent at work on the link in memory, as the tests of the SDK run it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from adapters import Agent, Json, Message
from adapters.memory_link import MemoryBroker, MemoryLink
from bus.core.message import TASK_CLAIM, TASK_CLAIMED
from bus.core.naming import address_queue, agent_queue, capability_queue
from bus.settings import Settings

NS = "agentbus"
PATIENCE_S = 5


def request(identity: str = "r1", capability: str = "echo", data: Json = None, **attributes: str | int) -> Message:
    given = {
        "specversion": "1.0",
        "id": identity,
        "source": "bus",
        "type": f"{capability}.requested",
        "conversationid": "c1",
        "replyto": "client:ab!m0!seal",
        "hopsleft": 5,
        **attributes,
    }
    return Message(given, data)


class Running:
    """An agent at work, with what it sends."""

    def __init__(self, agent: Agent, broker: MemoryBroker) -> None:
        self.agent, self.broker = agent, broker

    def put(self, message: Message, capability: str | None = "echo", replay: bool = False) -> None:
        queue = capability_queue(NS, capability) if capability else agent_queue(NS, self.agent.name)
        self.broker.put(queue, message, replay)

    async def claimed(self) -> Message:
        """Take the agent's question whether a task is still to be done."""
        claim = await self.sent()
        assert (claim.type, claim.source, claim.conversation) == (TASK_CLAIM, "tester", "c1")
        return claim

    def say(self, claim: Message, verdict: str, **more: Json) -> None:
        """Answer such a question, as the bus does."""
        assert isinstance(claim.data, dict)
        attributes = {**request("v").attributes, "type": TASK_CLAIMED, "correlationid": claim.id}
        queue = address_queue(NS, str(claim.data["inbox"]))
        self.broker.put(queue, Message(attributes, {"verdict": verdict, **more}))

    async def sent(self) -> Message:
        return await asyncio.wait_for(self.broker.sent.get(), PATIENCE_S)

    async def settled(self, queue: str = capability_queue(NS, "echo")) -> None:
        await asyncio.wait_for(self.broker.until(queue, (0, 0)), PATIENCE_S)

    async def ask(self, message: Message) -> Message:
        self.put(message)
        return await self.sent()


@contextlib.asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[Running]:
    broker = MemoryBroker(NS)
    for queue in (agent_queue(NS, agent.name), *(capability_queue(NS, each) for each in agent.capabilities)):
        await broker.declare(queue)
    ready = asyncio.Event()
    task = asyncio.ensure_future(agent.serve(MemoryLink(broker), Settings(), ready.set))
    await asyncio.wait_for(ready.wait(), PATIENCE_S)
    try:
        yield Running(agent, broker)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def echo(function: Callable[..., Any], **limits: Any) -> Agent:
    agent = Agent("tester", **limits)
    agent.capability("echo")(function)
    return agent
