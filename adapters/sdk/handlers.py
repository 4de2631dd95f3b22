"""The table of an agent's handlers: which function takes a message, and how it is called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from adapters.sdk.context import Context
from bus.core.errors import BusError
from bus.core.message import REQUESTED, Message
from bus.core.table import GlobIndex, is_glob


@dataclass(frozen=True, slots=True)
class Called:
    """A handler: the function and how to call it.

    Args:
        capability: what it answers for, or None for a subscription, which answers nothing.
    """

    function: Callable[..., Any]
    capability: str | None
    wants_context: bool
    asynchronous: bool

    async def __call__(self, message: Message, context: Context, threads: Executor) -> object:
        """Run it, in a thread when it is a plain function."""
        arguments = (message, context) if self.wants_context else (message,)
        if self.asynchronous:
            return await self.function(*arguments)
        result = await asyncio.get_running_loop().run_in_executor(threads, self.function, *arguments)
        return await result if inspect.isawaitable(result) else result


class Handlers:
    """Handlers by capability and by event type; a message has at most one, exact types before globs."""

    def __init__(self) -> None:
        self.capabilities: dict[str, Called] = {}
        self._events: dict[str, Called] = {}
        self._globs: list[tuple[str, Called]] = []

    def add_capability(self, name: str, function: Callable[..., Any]) -> None:
        """Register what answers `<name>.requested`.

        Raises:
            BusError: it has a handler already, or the function's parameters do not fit.
        """
        if name in self.capabilities:
            raise BusError(f"capability `{name}` has a handler already; write one for each")
        self.capabilities[name] = _called(function, name)

    def add_event(self, pattern: str, function: Callable[..., Any]) -> None:
        """Register what takes events of a type or glob.

        Raises:
            BusError: it has a handler already, or the function's parameters do not fit.
        """
        if pattern in self._events or any(glob == pattern for glob, _ in self._globs):
            raise BusError(f"events `{pattern}` have a handler already; write one for each")
        called = _called(function, None)
        if is_glob(pattern):
            self._globs.append((pattern, called))
            self._index = GlobIndex((glob, number) for number, (glob, _) in enumerate(self._globs))
        else:
            self._events[pattern] = called

    def find(self, type_: str) -> Called | None:
        """Return the handler of a message type, or None."""
        if type_.endswith(REQUESTED):
            called = self.capabilities.get(type_.removesuffix(REQUESTED))
            if called is not None:
                return called
        exact = self._events.get(type_)
        if exact is not None or not self._globs:
            return exact
        numbers = [number for number, _ in self._index.find(type_)]
        return self._globs[min(numbers)][1] if numbers else None


def _called(function: Callable[..., Any], capability: str | None) -> Called:
    parameters = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    required = sum(each.default is each.empty for each in parameters)
    if not parameters or required > 2:
        name = getattr(function, "__name__", "handler")
        raise BusError(
            f"`{name}` takes {len(parameters)} parameters; write `{name}(message)` or `{name}(message, context)`"
        )
    return Called(function, capability, len(parameters) >= 2, inspect.iscoroutinefunction(function))
