"""The life of a bus's process, as the outside sees it: when it is ready, and how signals end it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

READY = ("running", "standby")
"""States of a worker that does what it should."""


@dataclass(slots=True)
class Readiness:
    """Calls `ready` the first time that the worker runs, or stands by to."""

    ready: Callable[[], None]
    done: bool = False

    def turned(self, state: str) -> None:
        if state in READY and not self.done:
            self.done = True
            self.ready()


@contextlib.contextmanager
def drained_by_signals(drain: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT drain; a second one interrupts."""
    asked: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        drain()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in asked:
        raise KeyboardInterrupt
