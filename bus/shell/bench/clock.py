"""How long a relay took, and what of the machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bus.shell.bench.cores import Cores, CoreTimes


@dataclass(slots=True)
class Stopwatch:
    """Wall clock and CPU of this process with all its threads, seconds.

    Args:
        times: looks at the machine's cores; None does not.
        cores: what went by of them, where that can be told.
    """

    times: CoreTimes | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    cores: Cores | None = None
    _before: Cores | None = None
    _began: tuple[float, float] | None = None

    def start(self) -> None:
        """Begin, the first time that it is called."""
        if self._began is None:
            self._before = self._look()
            self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End."""
        if self._began is not None:
            self.wall_s, self.cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
            after = self._look()
            self.cores = after.since(self._before) if after is not None and self._before is not None else None

    def _look(self) -> Cores | None:
        return None if self.times is None else self.times.look()
