"""The reply cache: what a task was answered with, so that a second delivery gets the same and computes nothing."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from bus.core.message import Message


@dataclass(frozen=True, slots=True)
class Recorded:
    """Args:
    messages: what the task caused, in the order it leaves; the reply last.
    octets: their encoded size.
    """

    messages: tuple[Message, ...]
    octets: int


class ReplyCache:
    """In memory, bounded by number and by size; the oldest go first.

    Args:
        newest: replies kept.
        octets: bytes kept.
    """

    def __init__(self, newest: int = 10_000, octets: int = 64 * 1024 * 1024) -> None:
        self._newest, self._octets, self._held = newest, octets, 0
        self._replies: OrderedDict[str, Recorded] = OrderedDict()

    def get(self, key: str) -> Recorded | None:
        """Return what the task was answered with, or None."""
        return self._replies.get(key)

    def put(self, key: str, recorded: Recorded) -> None:
        """Record an answer, and forget the oldest that no longer fit."""
        self._replies[key] = recorded
        self._held += recorded.octets
        while len(self._replies) > self._newest or (self._held > self._octets and len(self._replies) > 1):
            _, oldest = self._replies.popitem(last=False)
            self._held -= oldest.octets
