"""How a bus takes SIGTERM and SIGINT: it drains when it works, and ends at once while it waits to begin."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Graceful:
    """`drain` is called at the first signal, once it is set; before that there is nothing to drain."""

    drain: Callable[[], None] | None = None


@contextlib.contextmanager
def graceful() -> Iterator[Graceful]:
    """Take both signals for the block. The first drains, a second one interrupts; without `drain` the first ends it.

    Raises:
        KeyboardInterrupt: after SIGINT, as any command does; never after SIGTERM alone.
    """
    asked: list[int] = []
    it = Graceful()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if it.drain is None or len(asked) > 1:
            raise KeyboardInterrupt
        it.drain()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield it
    except KeyboardInterrupt:
        if it.drain is not None or asked != [signal.SIGTERM]:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in asked:
        raise KeyboardInterrupt
