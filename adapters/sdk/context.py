"""What a handler may do besides returning: publish messages, say that it gets on, see its deadline, log."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import Awaitable, Generator, Iterator
from contextvars import ContextVar

from adapters.sdk.values import plain
from bus.core.answering import caused
from bus.core.codec import expiry_s
from bus.core.message import Json, Message

HOLD_S = 25 * 60.0  # RabbitMQ takes a delivery back after 30 minutes; no progress holds one for longer than this


_WORKING: ContextVar[Context | None] = ContextVar("_WORKING", default=None)


def in_handler() -> bool:
    """Whether this code runs within a handler that has not returned yet."""
    context = _WORKING.get()
    return context is not None and context.working


class _Done(Awaitable[None]):
    """Already done: `await` is allowed and not needed, so that plain functions can use the same methods."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class Context:
    """One task's surroundings; made by the SDK, one for each call of a handler.

    Args:
        agent: name of the agent.
        task: the message that is worked on.
        timeout_s: how long the handler may take without progress.
        loop: the agent's loop; handlers may run in other threads.
        hold_s: how long it may take with all its progress; accepted work is not bounded.

    Attributes:
        outbox: what the handler has published so far; it leaves together with the reply.
        working: whether the handler runs.
    """

    def __init__(
        self, agent: str, task: Message, timeout_s: float, loop: asyncio.AbstractEventLoop, hold_s: float = HOLD_S
    ) -> None:
        self._agent, self._task, self._timeout_s, self._loop = agent, task, timeout_s, loop
        now = time.time()
        expiry = expiry_s(task)
        self._latest = min(now + hold_s, math.inf if expiry is None else expiry)
        self._scope: asyncio.Timeout | None = None
        self.deadline_s = min(now + timeout_s, self._latest)
        self.outbox: list[Message] = []
        self.working = False

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Surround the handler's call."""
        before = _WORKING.set(self)
        self.working = True
        try:
            yield
        finally:
            self.working = False
            _WORKING.reset(before)

    @functools.cached_property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry the message and conversation ids."""
        extra = {"agent": self._agent, "message_id": self._task.id, "conversation": self._task.conversation}
        return logging.LoggerAdapter(logging.getLogger(f"agent.{self._agent}"), extra)

    @property
    def deadline(self) -> float:
        """When the handler will be stopped, in epoch seconds."""
        return self.deadline_s

    def send(self, type_: str, data: Json = None) -> Awaitable[None]:
        """Publish a message of the same conversation. It leaves with the reply, and not at all when the task fails.

        Args:
            type_: message type; the agent's entry must declare it under `publishes`.
            data: JSON payload.

        Raises:
            NotJson: the data is no JSON value.
        """
        self.outbox.append(caused(self._agent, self._task, len(self.outbox) + 1, type_, plain(data, "message")))
        return _DONE

    def progress(self, note: str | float = "") -> Awaitable[None]:
        """Say that the work gets on: its timeout starts again, up to the message's own expiry and, without a lease,
        25 minutes in all.

        Args:
            note: text or fraction done, for the log.
        """
        self.log.debug("progress: %s", note)
        self.deadline_s = min(time.time() + self._timeout_s, self._latest)
        self._loop.call_soon_threadsafe(self._reschedule)
        return _DONE

    def scope(self) -> asyncio.Timeout:
        """Return the timeout that the SDK runs the handler under."""
        self._scope = asyncio.timeout_at(self._on_loop())
        return self._scope

    def _on_loop(self) -> float:
        """The deadline on the loop's clock, which does not jump."""
        return self._loop.time() + self.deadline_s - time.time()

    def _reschedule(self) -> None:
        if self._scope is not None and not self._scope.expired() and self._scope.when() is not None:
            try:
                self._scope.reschedule(self._on_loop())
            except RuntimeError:
                self.log.debug("progress came after the work had ended")
