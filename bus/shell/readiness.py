"""Whether the bus is ready, and if not, why: for `/readyz`, for the log, and for whoever has started it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger("bus")

READY = ("running", "standby")
"""States of a worker that does what it should."""


@dataclass(slots=True)
class Readiness:
    """Args:
    ready: called once, with the port, the first time that the worker runs or stands by to.
    waiting: called with a reason and the port whenever something is waited for at the start.
    port: of the metrics endpoint, if there is one.
    wrong: why the bus is not ready; "" when it is.
    """

    ready: Callable[[int | None], None]
    waiting: Callable[[str, int | None], None]
    port: int | None = None
    wrong: str = "the bus starts"
    done: bool = False

    def waits(self, reason: str) -> None:
        """Something that the bus cannot start without is down."""
        _log.warning("waiting: %s", reason)
        self.wrong = f"waiting: {reason}"
        self.waiting(reason, self.port)

    def turned(self, state: str) -> None:
        """The worker is in another state."""
        self.wrong = "" if state in READY else f"the worker is {state}"
        if state in READY and not self.done:
            self.done = True
            self.ready(self.port)
