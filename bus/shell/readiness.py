"""What a bus tells of itself while it starts and works: that it waits, and for what, and once that it is ready."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

READY = ("running", "standby")
"""States of a worker that does what it should."""


@dataclass(slots=True)
class Readiness:
    """What is told of a bus: that it waits, and for what, and once that it is ready.

    Args:
        wrong: why it is not ready; "" when it is.
    """

    ready: Callable[[int | None], None]
    waiting: Callable[[str, int | None], None]
    port: int | None = None
    done: bool = False
    wrong: str = "the bus starts"

    def waits(self, reason: str) -> None:
        logging.getLogger("bus").warning("waiting: %s", reason)
        self.wrong = f"waiting: {reason}"
        self.waiting(reason, self.port)

    def turned(self, state: str) -> None:
        self.wrong = "" if state in READY else f"the worker is {state}"
        if state in READY and not self.done:
            self.done = True
            self.ready(self.port)
