"""Joins what the specialists of a conversation find with the request that waits for it.

Findings arrive as events, in any order, before or after the request. A handler that brings one waits here until
its group is closed: its delivery stays unacked, so when this process dies RabbitMQ delivers request and findings
again, to the next one, and the group is rebuilt. A group closes when everything that the request names is there, or at
the request's deadline with what there is. What then still comes belongs to nobody, and is let go at once.

A conversation has one open inquiry at a time; the next one may follow as soon as the first is answered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapters import Json

DEADLINE_S = 10.0  # how long a request waits for its specialists
UNASKED_S = 30.0  # how long a finding waits for its request
LINGER_S = 0.5  # findings stay unacked this much longer, until the answer is on its way
FORGET_S = 600.0  # how long a late finding is known to be late; later it waits UNASKED_S for nothing
FORGET_ABOVE = 50_000  # conversations; beyond, the oldest are forgotten earlier


@dataclass(slots=True)
class Group:
    """What has come for one inquiry: data by specialist, None for one that failed; `closed` when it is answered."""

    found: dict[str, Json] = field(default_factory=dict)
    wanted: frozenset[str] | None = None
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> None:
        """See whether everything that is wanted has come."""
        if self.wanted is not None and self.wanted <= self.found.keys():
            self.complete.set()


class Joiner:
    """Args:
    clock: seconds, monotonic.
    """

    def __init__(
        self, clock: Callable[[], float], deadline_s: float = DEADLINE_S, unasked_s: float = UNASKED_S,
        linger_s: float = LINGER_S,
    ) -> None:  # fmt: skip
        self._clock, self._deadline_s, self._unasked_s, self._linger_s = clock, deadline_s, unasked_s, linger_s
        self._open: dict[str, Group] = {}
        self._late: OrderedDict[str, tuple[float, set[str]]] = OrderedDict()

    async def bring(self, conversation: str, specialist: str, data: Json) -> None:
        """Add a finding, and wait until its inquiry is answered.

        Args:
            data: the reply's data, or None when the specialist failed.
        """
        if self._is_late(conversation, specialist):
            return
        group = self._group(conversation)
        group.found[specialist] = data
        group.look()
        if await _happens(group.closed, self._unasked_s):
            await asyncio.sleep(self._linger_s)
        elif self._open.get(conversation) is group and group.wanted is None:
            del self._open[conversation]  # nobody asked

    async def collect(self, conversation: str, specialists: Sequence[str]) -> dict[str, Json]:
        """Wait for the findings of these specialists, until the deadline; returns what came."""
        self._forget()
        self._late.pop(conversation, None)
        group = self._group(conversation)
        group.wanted = frozenset(specialists)
        group.look()
        await _happens(group.complete, self._deadline_s)
        missing = group.wanted - group.found.keys()
        if missing:
            self._late[conversation] = (self._clock(), set(missing))
        if self._open.get(conversation) is group:
            del self._open[conversation]
        group.closed.set()
        return group.found

    @property
    def size(self) -> int:
        """How many conversations are held in memory."""
        return len(self._open) + len(self._late)

    def _group(self, conversation: str) -> Group:
        return self._open.setdefault(conversation, Group())

    def _is_late(self, conversation: str, specialist: str) -> bool:
        _, missing = self._late.get(conversation, (0.0, set()))
        if specialist not in missing:
            return False
        missing.discard(specialist)
        return True

    def _forget(self) -> None:
        oldest_s = self._clock() - FORGET_S
        while self._late:
            at_s, missing = next(iter(self._late.values()))
            if missing and at_s > oldest_s and len(self._late) <= FORGET_ABOVE:
                return
            self._late.popitem(last=False)


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    """Wait for an event; tells whether it came in time."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
