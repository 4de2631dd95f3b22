"""How a bus takes SIGTERM and SIGINT: it drains when it works, and ends at once while it waits to begin.

SIGHUP has it look at its configuration, once there is anything that looks.

A handler interrupts the main thread anywhere, also where that has a lock, as pika's loop has one to wake itself: asked
to wake it then, the handler would wait for ever. So it only puts a word into a queue that may be put to from a
handler, and a thread of its own asks for the drain.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType


@dataclass(slots=True)
class Graceful:
    """`drain` is called at the first signal, on another thread; before it is set there is nothing to drain.

    `reload` is called at each SIGHUP, there too.
    """

    drain: Callable[[], None] | None = None
    reload: Callable[[], None] | None = None


@contextlib.contextmanager
def graceful() -> Iterator[Graceful]:
    """Take both signals for the block. The first drains, a second one interrupts; without `drain` the first ends it.

    Raises:
        KeyboardInterrupt: after SIGINT, as any command does; never after SIGTERM alone.
    """
    asked: list[int] = []
    it = Graceful()
    words: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def wait() -> None:
        while (drain := words.get()) is not None:
            drain()

    def on_hangup(_number: int, _frame: FrameType | None) -> None:
        if it.reload is not None:
            words.put(it.reload)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if it.drain is None or len(asked) > 1:
            raise KeyboardInterrupt
        words.put(it.drain)

    waiter = threading.Thread(target=wait, name="signals", daemon=True)
    waiter.start()
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, on_hangup)
    try:
        yield it
    except KeyboardInterrupt:
        if it.drain is not None or asked != [signal.SIGTERM]:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        words.put(None)
        waiter.join()
    if signal.SIGINT in asked:
        raise KeyboardInterrupt
