"""The stdio adapter: any program that reads JSON lines and writes JSON lines is an agent.

To the program, one line for each task:

    {"id": "...", "type": "sentiment.requested", "capability": "sentiment", "data": {...}}

(`capability` is null for an event.) From it, in any order, one of

    {"id": "...", "data": {...}}                                      the reply's data; for an event, that it is done
    {"id": "...", "error": {"class": "tool_error", "reason": "..."}}  a failure, as data
    {"id": "...", "progress": "half way"}                             it gets on: the task's timeout starts again

Up to `concurrency` tasks are under way at once. The program's stderr is its log. It must end when its stdin ends.
What reads and answers the bus is the SDK: this is an `Agent` whose handlers talk to the program, so dedup, deadlines
and failures are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from adapters.link import AmqpLink
from adapters.process import Backoff, Command, allowed, program, words
from adapters.sdk import Agent, Context
from adapters.stdio_child import Child
from bus.core.errors import BusError, Unreachable
from bus.core.message import Json, Message
from bus.core.route import Agent as Declared
from bus.ports import AgentLink
from bus.settings import Settings

_TIMEOUT_S = 300.0

log = logging.getLogger(__name__)


class StdioAgent:
    """A declared agent whose work is done by a program.

    Args:
        declared: the agent; `command: [ARGV...]` and `env: [NAMES]` are read from its settings.
        environment: where allowed variables are taken from.

    Raises:
        BusError: no command, or no such program.
    """

    def __init__(self, declared: Declared, environment: Mapping[str, str]) -> None:
        argv, folder = words(declared, "command"), Path(declared.folder or ".").resolve()
        if not argv:
            raise BusError(f"agent `{declared.name}` has no command; write command: [PROGRAM, ARGUMENTS...]")
        seen = allowed(declared, environment)
        self.name = declared.name
        self._child = Child(Command(self.name, program(argv, folder, seen.get("PATH")), folder, seen))
        self._agent = Agent(self.name, declared.concurrency, declared.timeout_s or _TIMEOUT_S)
        for capability in declared.capabilities:
            self._agent.capability(capability)(self._handler(capability))
        for pattern in declared.subscribes:
            self._agent.on(pattern)(self._handler(None))

    async def run(self, settings: Settings, ready: Callable[[], None]) -> None:
        """Work until cancelled; a broker that stays away is tried again."""
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.serve(AmqpLink(settings, self.name), settings, ready)
            except Unreachable as error:
                log.error("agent %s: %s", self.name, error)
            await asyncio.sleep(backoff.pause(loop.time() - began))

    async def serve(self, link: AgentLink, settings: Settings, ready: Callable[[], None]) -> None:
        """Keep the program running and work until cancelled; the program ends after the last task is done.

        Raises:
            Unreachable: no connection to the broker.
        """
        keeping = asyncio.create_task(self._child.keep())
        try:
            await self._child.wait_until_up()
            await self._agent.serve(link, settings, ready)
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    def _handler(self, capability: str | None) -> Callable[[Message, Context], object]:
        async def handle(message: Message, context: Context) -> Json:
            data = await self._child.ask(message, capability, context)
            return None if capability is None else data

        return handle
