"""How long a relay took."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Stopwatch:
    """Wall clock and CPU of this process with all its threads, seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    _began: tuple[float, float] | None = None

    def start(self) -> None:
        """Begin, the first time that it is called."""
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End."""
        if self._began is not None:
            self.wall_s, self.cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
