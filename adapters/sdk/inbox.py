"""One message's way through an agent.

    known?     a duplicate gets the recorded reply again; one that is being worked on is waited for
    claim      only what may have been given to an agent before: the bus says whether it is answered already
    slot       at most `concurrency` handlers run
    accept     only what has a lease: once the bus has said so, the message is settled, and the lease renewed
    handle     under the deadline; whatever goes wrong becomes a `<capability>.failed` with a class and a reason
    record     the reply enters the cache: from here on it is never computed again
    send       what the handler published and the reply, confirmed by the broker
    settle     last: a crash before this brings the message again, and the same reply leaves under the same id

When the agent stops, messages that have not begun are left unsettled; the closing of the link gives them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from adapters.sdk.claims import Claims, Verdict
from adapters.sdk.context import HOLD_S, Context
from adapters.sdk.handlers import Called, Handlers
from adapters.sdk.replies import Recorded, ReplyCache
from adapters.sdk.values import NotJson, plain
from bus.core.answering import FAILED_SUFFIX, REPLIED, reply, task_key
from bus.core.codec import encode, expiry_s
from bus.core.errors import FAILURE_CLASSES, AgentError, BusError, FailureClass, Refused
from bus.core.message import FAILED, LEASE, REPLYTO, REQUESTED, Json, Message
from bus.ports import AgentLink, Inbound

_RETRY_PAUSE_S = 1.0  # before a message goes back to its queue, so that a failing event does not spin
_REASON_CHARS = 1000
_RENEWALS = 3  # of a lease before it would run out: two may be lost

_NOTHING = Recorded((), 0)
"""What a task is settled with that somebody else answers, or has answered."""

log = logging.getLogger(__name__)


class _Delivery:
    """A delivery that is settled once, whoever does it first."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound, self._settled = inbound, False
        self.again = inbound.redelivered

    async def settle(self, done: bool) -> None:
        if not self._settled:
            self._settled = True
            await self._inbound.settle(done)


class Inbox:
    """Args:
    agent: name of the agent.
    handlers: its handlers.
    link: where replies go.
    concurrency: handlers running at once.
    timeout_s: how long a handler may take.
    body_bytes: longest message that the bus accepts.
    """

    def __init__(
        self, agent: str, handlers: Handlers, link: AgentLink, concurrency: int, timeout_s: float, body_bytes: int
    ) -> None:
        self._agent, self._handlers, self._link = agent, handlers, link
        self._timeout_s, self._body_bytes = timeout_s, body_bytes
        self.claims = Claims(agent, link)
        self._slots = asyncio.Semaphore(concurrency)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"agent-{agent}")
        self._cache = ReplyCache()
        self._running: dict[str, asyncio.Future[Recorded | None]] = {}
        self._turns: dict[str, asyncio.Future[None]] = {}  # by conversation: the last one that the bus was asked about
        self._begun = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    async def handle(self, inbound: Inbound) -> None:
        """Take one delivery all the way to its settlement."""
        message, delivery = inbound.message, _Delivery(inbound)
        key = task_key(message)
        with self._counted():
            recorded = self._cache.get(key)
            if recorded is None and key in self._running:
                recorded = await asyncio.shield(self._running[key])
            elif recorded is None:
                recorded = await self._work(key, message, delivery)
            if recorded is not None and await self._send(recorded, message):
                await delivery.settle(True)
                return
            if self._stopping:
                return  # unsettled: it goes back when the link closes
        await asyncio.sleep(_RETRY_PAUSE_S)
        if not self._stopping:
            await delivery.settle(False)

    async def drain(self, grace_s: float) -> None:
        """Begin nothing new, and wait for what has begun, at most `grace_s` seconds."""
        self._stopping = True
        self.claims.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_s)
        if self._begun:
            log.warning("%d tasks were still running after %g s; they will be delivered again", self._begun, grace_s)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._begun += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._begun -= 1
            if not self._begun:
                self._idle.set()

    async def _work(self, key: str, message: Message, delivery: _Delivery) -> Recorded | None:
        """Run the handler once for everybody who waits for this task; None when there is nothing to settle it with."""
        future: asyncio.Future[Recorded | None] = asyncio.get_running_loop().create_future()
        self._running[key] = future
        recorded: Recorded | None = None
        try:
            recorded = await self._begin(message, delivery)
            if recorded is not None:
                self._cache.put(key, recorded)
            return recorded
        finally:
            del self._running[key]
            if not future.done():
                future.set_result(recorded)

    async def _begin(self, task: Message, delivery: _Delivery) -> Recorded | None:
        called = self._handlers.find(task.type)
        capability = called.capability if called is not None and REPLYTO in task.attributes else None
        long = capability is not None and LEASE in task.attributes
        if capability is not None and delivery.again and not long:
            verdict = await self._ask_in_turn(task, capability)
            if verdict is None or not verdict.go:
                return None if verdict is None else _NOTHING
        elif self._turns and task.conversation in self._turns:
            with self._turn(task) as before:
                if before is not None:
                    await asyncio.shield(before)
        async with self._slots:
            if self._stopping:
                return None
            if capability is None or not long:
                return await self._answer(task)
            verdict = await self._ask(task, capability, accept=True)
            if verdict is None or not verdict.go:
                return None if verdict is None else _NOTHING
            if verdict.lease_s is None:  # the route has changed since: it is work like any other
                return await self._answer(task)
            await delivery.settle(True)
            return await self._under_lease(task, capability, verdict.lease_s)

    async def _ask_in_turn(self, task: Message, capability: str) -> Verdict | None:
        with self._turn(task) as before:
            verdict = await self._ask(task, capability)
            if before is not None:
                await asyncio.shield(before)
            return verdict

    @contextlib.contextmanager
    def _turn(self, task: Message) -> Iterator[asyncio.Future[None] | None]:
        """Have what comes later in the conversation wait until the block is left, or it would overtake.

        Gives what to wait for in the block. What only waits has a turn, too: when the one before it is over it goes on
        a moment later, and something might come in that moment.
        """
        before = self._turns.get(task.conversation)
        turn = self._turns[task.conversation] = asyncio.get_running_loop().create_future()
        try:
            yield before
        finally:
            turn.set_result(None)
            if self._turns[task.conversation] is turn:
                del self._turns[task.conversation]

    async def _ask(self, task: Message, capability: str, accept: bool = False) -> Verdict | None:
        verdict = None if self._stopping else await self.claims.ask(task, capability, accept)
        if verdict is not None and not verdict.go:
            log.info("%s is answered, or another agent's; nothing is done", task.type,
                     extra={"message_id": task.id, "conversation": task.conversation})  # fmt: skip
        return verdict

    async def _under_lease(self, task: Message, capability: str, lease_s: float) -> Recorded:
        """Work on what was accepted. When the lease is lost, it is another agent's, and this one must stop."""
        working = asyncio.create_task(self._answer(task, long=True))
        renewing = asyncio.create_task(self._renew(task, capability, lease_s))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result() or _NOTHING
            log.warning("the lease of %s is lost; its handler is stopped", task.type,
                        extra={"message_id": task.id, "conversation": task.conversation})  # fmt: skip
            return _NOTHING
        finally:
            for each in (working, renewing):
                each.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)

    async def _renew(self, task: Message, capability: str, lease_s: float) -> None:
        """Renew until the bus says that the task is not ours any more."""
        while True:
            await asyncio.sleep(lease_s / _RENEWALS)
            verdict = await self.claims.ask(task, capability, accept=True)
            if verdict is not None and not verdict.go:
                return

    async def _answer(self, message: Message, long: bool = False) -> Recorded | None:
        called = self._handlers.find(message.type)
        if called is None:
            return self._unhandled(message)
        hold_s = math.inf if long else HOLD_S
        context = Context(self._agent, message, self._timeout_s, asyncio.get_running_loop(), hold_s)
        try:
            result = await self._call(called, message, context)
            if called.capability is None:
                if result is not None:
                    context.log.warning("what a subscription returns goes nowhere; use context.send(type, data)")
                return self._recorded(context.outbox)
            answer = reply(self._agent, message, called.capability + REPLIED, plain(result, "reply"))
            return self._recorded([*context.outbox, answer])
        except AgentError as error:
            context.log.info("failed with %s: %s", error.failure, error.reason)
            return self._failed(message, called.capability, error.failure, error.reason)
        except (NotJson, Refused) as error:
            context.log.error("%s", error)
            return self._failed(message, called.capability, "internal", str(error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the agent stops: the delivery goes back when the link closes
            context.log.exception("the handler of %s cancelled itself", message.type)
            return self._failed(message, called.capability, "tool_error", "CancelledError: the handler was cancelled")
        except Exception as error:
            context.log.exception("the handler of %s raised", message.type)
            return self._failed(message, called.capability, "tool_error", f"{type(error).__name__}: {error}")

    async def _call(self, called: Called, message: Message, context: Context) -> object:
        expiry = expiry_s(message)
        if expiry is not None and expiry <= time.time():
            raise AgentError("expired", f"the deadline passed before {self._agent} could begin")
        scope = context.scope()
        try:
            async with scope:
                with context.work():
                    return await called(message, context, self._threads)
        except TimeoutError:
            if not scope.expired():
                raise  # the handler's own
            raise AgentError("timeout", f"{self._agent} did not answer before its deadline") from None

    def _unhandled(self, message: Message) -> Recorded:
        if message.type.endswith(REQUESTED):
            capability = message.type.removesuffix(REQUESTED)
            reason = f"agent {self._agent} has no handler for the capability `{capability}`"
            log.error(reason, extra={"message_id": message.id, "conversation": message.conversation})
            answer = reply(self._agent, message, capability + FAILED_SUFFIX, {"class": "internal", "reason": reason})
            return self._recorded([answer])
        if message.type == FAILED:
            log.error("the bus could not deliver: %s", message.data, extra={"conversation": message.conversation})
        else:
            log.warning("no handler for %s; write @agent.on(%r)", message.type, message.type)
        return Recorded((), 0)

    def _failed(self, message: Message, capability: str | None, failure: FailureClass, reason: str) -> Recorded | None:
        if capability is None:
            if failure == "expired":
                return Recorded((), 0)  # nobody waits for it any more
            return None  # an event is tried again; past the delivery limit the bus dead-letters it
        known = failure if failure in FAILURE_CLASSES else "tool_error"
        data: Json = {"class": known, "reason": reason[:_REASON_CHARS]}
        return self._recorded([reply(self._agent, message, capability + FAILED_SUFFIX, data)])

    def _recorded(self, messages: list[Message]) -> Recorded:
        """Weigh what is to leave.

        Raises:
            Refused: a message is longer than the bus accepts, or cannot be written.
        """
        sizes = [len(encode(each.attributes, each.data)) for each in messages]
        for each, size in zip(messages, sizes, strict=True):
            if size > self._body_bytes:
                raise Refused("too-big", f"{each.type} has {size} bytes; the bus accepts {self._body_bytes}")
        return Recorded(tuple(messages), sum(sizes))

    async def _send(self, recorded: Recorded, task: Message) -> bool:
        try:
            if len(recorded.messages) == 1:
                await self._link.send(recorded.messages[0])
            elif recorded.messages:
                await asyncio.gather(*(self._link.send(each) for each in recorded.messages))
        except BusError as error:
            log.error("the reply to %s could not be sent: %s", task.type, error,
                      extra={"message_id": task.id, "conversation": task.conversation})  # fmt: skip
            return False
        return True
