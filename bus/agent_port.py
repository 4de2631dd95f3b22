"""The port of agents: their side of the broker. It is a part of bus.ports, whence everybody has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bus.core.message import Message


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message for an agent. `settle` must be awaited exactly once: True acks, False gives it back.

    Args:
        redelivered: an agent may have had it before: the broker says so, or the bus, which published it again; or this
            process stood still for so long that the broker may have given it to another.
    """

    message: Message
    queue: str
    redelivered: bool
    settle: Callable[[bool], Awaitable[None]]


Handler: TypeAlias = Callable[[Inbound], Awaitable[None]]


class AgentLink(Protocol):
    """An agent's connection to the bus, on asyncio.

    Guarantees:
    - `send` returns after the broker confirmed the message; it keeps the id over reconnects, so a repeat is a duplicate
      to the bus and not a second message;
    - deliveries are settled one by one; what is not settled when the connection drops comes again;
    - it reconnects by itself with full jitter, 0.1 to 10 s, and says so in the log.
    """

    async def open(self) -> None:
        """Connect.

        Raises:
            Unreachable: no connection within the configured time.
        """

    async def send(self, message: Message) -> None:
        """Publish to the bus's ingress, mandatory and confirmed."""

    async def listen(self, queues: Sequence[str], prefetch: int, handler: Handler) -> None:
        """Consume: one handler task per delivery, at most `prefetch` at once."""

    async def open_client(self, handler: Handler) -> str:
        """Make a private inbox that goes away with the connection; returns its return address `client:<id>`."""

    async def close(self) -> None:
        """Finish what is being settled, then close."""
