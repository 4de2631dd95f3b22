"""The store's own thread: commits in order, results back on the loop. The loop never waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class CommitQueue(Protocol):
    """Runs the store's work in order, and brings results back onto the loop."""

    def submit(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Run `work` after all before it; then `done` on the loop, with its result or error."""

    def close(self) -> None:
        """Finish what was submitted."""


class Committer:
    """A `CommitQueue` with a thread of its own.

    Args:
    call_threadsafe: brings a call onto the loop thread.
    """

    def __init__(self, call_threadsafe: Callable[[Callable[[], None]], None]) -> None:
        self._call = call_threadsafe
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Run `work` on the store thread, after all before it; then `done` on the loop, with its result or error."""

        def task() -> None:
            result: Any
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - handed over whole: the loop decides what a failure means
                result = error
            self._call(lambda: done(result))

        self._work.put(task)

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            task = self._work.get()
            if task is None:
                return
            task()
