"""pika's IO loop, with a pause after each turn while there is much to do.

Sockets are read as soon as there is anything, which under load is a few messages at a time, and each read costs the
same system calls and the same way through pika whatever it brings. A pause lets more come together; one is made only
while messages come so fast that it gathers a few, so a quiet bus has none.
"""

from __future__ import annotations

import time
from typing import Any

from pika.adapters.select_connection import IOLoop

PAUSE_S = 0.002
BUSY_PER_S = 5000  # messages and confirms a second from which on a pause gathers more than it delays


class PacedLoop(IOLoop):  # type: ignore[misc] # pika ships no types
    """An `IOLoop` that is told of what was handled."""

    def __init__(self) -> None:
        super().__init__()
        self._handled = 0
        self._over = False

    def handled(self, count: int) -> None:
        """Note that so many deliveries or confirms were handled in this turn."""
        self._handled += count

    def start(self) -> None:
        """Run until `stop`."""
        self.activate_poller()
        since = time.monotonic()
        try:
            while not self._over:
                self.poll()
                self.process_timeouts()
                now = time.monotonic()
                if self._handled > BUSY_PER_S * (now - since):
                    time.sleep(PAUSE_S)
                self._handled, since = 0, now
        finally:
            self.deactivate_poller()

    def stop(self) -> None:
        """Leave `start` after this turn; from its thread, or any other."""
        self._over = True
        self.add_callback_threadsafe(_nothing)


def _nothing(*_: Any) -> None:
    pass
