"""An agent: handlers in a table, and the two ways to run them, `run` for a program and `serve` within one.

    agent = Agent("sentiment")

    @agent.capability("sentiment")
    async def score(request: Message) -> dict: ...

    agent.run()

Promises: a reply, once recorded, is never computed again. A duplicate gets the recorded one from memory (the newest
10,000 replies, at most 64 MiB); a task that may have been given to another agent before is worked on only when the bus
says that it has no answer. A crash during the handler runs it again, so a handler with effects outside of the bus makes
them idempotent by `request.id`. Messages are acked after the reply is confirmed; what a crash leaves unacked is
delivered again, to any agent with the capability.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from adapters.sdk.context import HOLD_S, in_handler
from adapters.sdk.handlers import Handlers
from adapters.sdk.inbox import Inbox
from adapters.sdk.outgoing import fresh
from adapters.sdk.runner import run_until_signal
from adapters.sdk.values import plain
from bus.core.errors import FAILURE_CLASSES, AgentError, BusError, FailureClass
from bus.core.message import CORRELATION, FAILED, Json, Message
from bus.core.naming import agent_queue, capability_queue
from bus.ports import AgentLink, Inbound
from bus.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

HOSTED: ContextVar[bool] = ContextVar("HOSTED", default=False)
"""Whether the file is being loaded by `python -m adapters.sdk`."""

_GRACE_S = 20.0  # how long running handlers may take to finish when the agent stops
_ANSWERS = 256  # deliveries of the own inbox beyond the running ones, so that answers are not stuck behind requests


class Agent:
    """Args:
    name: as declared under `agents:`.
    concurrency: handlers running at once, and requests taken ahead from each queue. Plain functions run in as many
        threads.
    timeout_s: how long a handler may take without `context.progress`; at most 25 minutes.
    """

    def __init__(self, name: str, concurrency: int = 8, timeout_s: float = 300.0) -> None:
        self.name = name
        self._handlers = Handlers()
        self._link: AgentLink | None = None
        self._asked: dict[str, asyncio.Future[Message]] = {}
        self.limit(concurrency, timeout_s)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Capabilities that have a handler."""
        return tuple(self._handlers.capabilities)

    def limit(self, concurrency: int, timeout_s: float) -> None:
        """Set the limits, before the agent runs.

        Raises:
            BusError: a limit is out of its range.
        """
        if concurrency < 1:
            raise BusError(f"concurrency {concurrency} lets nothing run; write 1 or more")
        if not 0 < timeout_s <= HOLD_S:
            raise BusError(f"a timeout of {timeout_s:g} s is out of range; write more than 0 and at most {HOLD_S:g} s")
        self.concurrency, self.timeout_s = concurrency, timeout_s

    def capability(self, name: str) -> Callable[[Function], Function]:
        """Register the handler that answers `<name>.requested`.

        It takes `(request)` or `(request, context)` and returns the reply's data, or raises `AgentError`.
        """

        def register(function: Function) -> Function:
            self._handlers.add_capability(name, function)
            return function

        return register

    def on(self, pattern: str) -> Callable[[Function], Function]:
        """Register the handler of events: a type, or a glob where `*` is one segment and `**` the rest.

        It takes `(event)` or `(event, context)` and returns nothing. When it raises, the event comes again.
        """

        def register(function: Function) -> Function:
            self._handlers.add_event(pattern, function)
            return function

        return register

    async def send(
        self,
        type_: str,
        data: Json = None,
        conversation: str | None = None,
        replyto: str | None = None,
        message_id: str | None = None,
    ) -> Message:
        """Publish a message that no task caused; returns it when the broker has confirmed.

        Lost connections are bridged under the same id. Whoever wants to call again after an error, or after a crash,
        gives the id: the bus takes the same message once.

        Args:
            type_: message type; the agent's entry must declare it under `publishes`.
            conversation: a running conversation, or None to start one.
            replyto: `agent:<own name>` to get the answer as a message.
            message_id: unique among the agent's messages of the conversation; None for a random one.

        Raises:
            BusError: the agent is not running, the message is not accepted, or a handler calls this: what a handler
                publishes must leave with its reply and have the same id when the task comes again.
            NotJson: the data is no JSON value.
        """
        if in_handler():
            raise BusError(f"a handler publishes with `context.send({type_!r}, data)`: it leaves with the reply")
        made = plain(data, "message")
        message = fresh(self.name, type_, made, time.time(), conversation, replyto, message_id=message_id)
        await self._open_link().send(message)
        return message

    async def ask(
        self, type_: str, data: Json = None, timeout_s: float = 30.0, conversation: str | None = None
    ) -> Message:
        """Publish a message and wait for its answer.

        The answer comes into the agent's own inbox and is known by its correlationid; so `ask` is for agents that run
        as one process. Answers do not wait for a free handler.

        Args:
            timeout_s: how long to wait; also the message's deadline.

        Raises:
            AgentError: the bus told of a final failure (`bus.failed`), or there was no answer in time.
            BusError: the agent is not running, or the message is not accepted.
        """
        link, now = self._open_link(), time.time()
        message = fresh(
            self.name, type_, plain(data, "message"), now, conversation, f"agent:{self.name}", now + timeout_s
        )
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[message.id] = answer
        scope = asyncio.timeout(timeout_s)
        try:
            async with scope:
                await link.send(message)
                return _answer(await answer)
        except TimeoutError:
            raise AgentError("timeout", f"no answer to {type_} within {timeout_s:g} s") from None
        finally:
            del self._asked[message.id]

    async def serve(
        self, link: AgentLink, settings: Settings | None = None, ready: Callable[[], None] | None = None
    ) -> None:
        """Work until cancelled; then finish what runs, at most 20 s, and close the link.

        Args:
            settings: namespace and limits; None reads `BUS_*`.
            ready: called once everything is consumed.

        Raises:
            Unreachable: no connection to the broker.
        """
        settings = settings or Settings.from_environment()
        inbox = Inbox(self.name, self._handlers, link, self.concurrency, self.timeout_s, settings.body_bytes)
        try:
            await link.open()
            self._link = link
            await self._listen(link, settings.namespace, inbox)
            if ready is not None:
                ready()
            await asyncio.Event().wait()
        finally:
            await inbox.drain(_GRACE_S)
            self._link = None
            await link.close()

    def run(self, settings: Settings | None = None) -> None:
        """Work until SIGTERM or Ctrl-C: the whole of a program. Settings come from `BUS_*`.

        In a file that the host loads it returns at once: the host runs the agent, with the declared limits.
        """
        if HOSTED.get():
            return
        run_until_signal(self.name, self.serve, settings or Settings.from_environment())

    async def _listen(self, link: AgentLink, namespace: str, inbox: Inbox) -> None:
        async def take(inbound: Inbound) -> None:
            message = inbound.message
            waiting = self._asked.get(message.text(CORRELATION) or "")
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
            if waiting is None and not inbox.claims.take(message):
                await inbox.handle(inbound)
            else:
                await inbound.settle(True)

        queues = [capability_queue(namespace, each) for each in self.capabilities]
        async with asyncio.TaskGroup() as starting:
            starting.create_task(link.listen([agent_queue(namespace, self.name)], self.concurrency + _ANSWERS, take))
            starting.create_task(link.listen(queues, self.concurrency, inbox.handle))

    def _open_link(self) -> AgentLink:
        if self._link is None:
            raise BusError(f"agent {self.name} is not running; call send and ask while `serve` or `run` is active")
        return self._link


def _answer(message: Message) -> Message:
    """Return a good answer; raise what `bus.failed` tells."""
    if message.type != FAILED:
        return message
    data = message.data if isinstance(message.data, dict) else {}
    said = data.get("class")
    failure: FailureClass = said if said in FAILURE_CLASSES else "internal"
    raise AgentError(failure, str(data.get("reason") or "the bus gave no reason"))
