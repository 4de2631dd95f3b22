"""A meter that knows when a backlog is worked off."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bus.core.actions import Decision
from bus.core.route import Catalog
from bus.shell.bench.clock import Stopwatch


def _nothing() -> None: ...


class CountingMeter:
    """Stops the clock and calls `done` at the last of `count` finished inputs; whoever runs the worker starts it."""

    def __init__(self, count: int, clock: Stopwatch) -> None:
        self._left, self._clock = count, clock
        self.ends: dict[str, int] = {}
        self.commits = 0
        self.decide_s = 0.0
        self.done: Callable[[], None] = _nothing

    def decided(self, decisions: Sequence[Decision], seconds: float) -> None:
        self.decide_s += seconds

    def committed(self, entries: int, seconds: float) -> None:
        self.commits += entries > 0

    def finished(self, decision: Decision, seconds: float) -> None:
        self.ends[decision.end] = self.ends.get(decision.end, 0) + 1
        self._left -= 1
        if self._left == 0:
            self._clock.stop()
            self.done()

    def confirmed(self, outputs: int, oldest_seconds: float) -> None: ...
    def retried(self, target: str) -> None: ...
    def excepted(self, how: str, code: str, outputs: int) -> None: ...
    def in_flight(self, inputs: int, outputs: int) -> None: ...
    def connected(self, up: bool) -> None: ...
    def blocked(self, blocked: bool) -> None: ...
    def store_up(self, up: bool) -> None: ...
    def owns(self, partitions: int) -> None: ...
    def configured(self, catalog: Catalog) -> None: ...
