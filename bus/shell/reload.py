"""Changing the configuration of a running bus: read, check, make the topology, then swap, or change nothing at all.

    read       all files, as `bus lint` does; findings refuse it, with their positions
    check      the route tests; one that fails refuses it
    declare    queues and exchanges that it needs are made; nothing is taken away
    swap       on the store's thread, between two batches (Judge.reconfigure), in this process at once

It runs on a thread of its own, one change after the other, so that neither the loop nor the store waits for a
configuration that takes long to compile. What comes of each is told in the log, a metric, and the audit log. What fails
because the broker or the store is down is tried again until it is up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal, Protocol, TypeAlias

from bus.core.errors import BusError, StoreDown, Unreachable
from bus.core.message import Json
from bus.core.notices import Notice
from bus.core.route import Catalog
from bus.shell.versions import Configuration
from bus.shell.watching import POLL_S, Watched

_log = logging.getLogger(__name__)

RETRY_S = 2.0  # between attempts while the broker or the store is down
_MOST_TOLD = 50  # findings in one entry of the audit log; the log has all

Result: TypeAlias = Literal["applied", "unchanged", "refused", "failed"]
RESULTS: tuple[Result, ...] = ("applied", "unchanged", "refused", "failed")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that was read.

    Args:
        configuration: None when a finding is an error.
        findings: errors, and tests that failed, each as a line with its position.
    """

    configuration: Configuration | None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Args:
        result: `failed` when the broker or the store is down; it is tried again.
        version: of the configuration that is in force now.
        read: of the one that was read, "" when it has errors.
        why: what asked for it.
        findings: why it was refused, or what failed.
    """

    result: Result
    version: str
    read: str
    why: str
    findings: tuple[str, ...] = ()


class Reconfigurable(Protocol):
    """The worker, as far as it matters here. Thread-safe."""

    def reconfigure(self, after: Configuration, done: Callable[[BusError | None], None]) -> None:
        """Decide by another configuration from the next batch on; `done` is told why that could not be, or None."""

    def notice(self, notice: Notice) -> None:
        """Have something stand in the audit log, as soon as this worker writes one."""


class Reloader:
    """Args:
    first: the configuration that is in force.
    read: reads and checks what the files say now.
    declare: makes what a configuration needs on the broker.
    worker: whose configuration is changed.
    tell: told of every outcome, on this thread.
    watched: looks at the files, or None to wait until somebody asks.
    """

    def __init__(
        self,
        first: Configuration,
        read: Callable[[], Candidate],
        declare: Callable[[Catalog], None],
        worker: Reconfigurable,
        tell: Callable[[Outcome], None] = lambda outcome: None,
        watched: Watched | None = None,
    ) -> None:
        self._current = first
        self._read = read
        self._declare = declare
        self._worker = worker
        self._tell = tell
        self._watched = watched
        self._asked: SimpleQueue[str | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin to listen, and to watch."""
        self._thread.start()

    def ask(self, why: str) -> None:
        """Read the files again and take up what they say; from any thread, and from a signal handler."""
        self._asked.put(why)

    def close(self) -> None:
        """End; what is under way is finished, or given up when the worker does not answer any more."""
        self._stopped.set()
        self._asked.put(None)
        self._thread.join()

    @property
    def version(self) -> str:
        """Of the configuration in force."""
        return self._current.version

    @property
    def catalog(self) -> Catalog:
        """The configuration in force."""
        return self._current.table.catalog

    def _run(self) -> None:
        again, pause = "", POLL_S
        while not self._stopped.is_set():
            why = self._next(again, pause)
            if why is None:
                return
            if why:
                outcome = self.reload(why)
                again = why if outcome.result == "failed" else ""
                pause = RETRY_S if again else POLL_S

    def _next(self, again: str, pause: float) -> str | None:
        """What asks for the next one: a word, a change, or one that has failed; "" for nothing, None for the end."""
        try:
            idle = not again and self._watched is None
            return self._asked.get(timeout=None if idle else pause)
        except Empty:
            pass
        if again:
            return again
        return "files" if self._watched is not None and self._watched.changed() else ""

    def reload(self, why: str) -> Outcome:
        """Read, check, declare, swap; whatever goes wrong, the configuration in force stays as it is."""
        outcome = self._reload(why)
        level = logging.INFO if outcome.result in ("applied", "unchanged") else logging.ERROR
        extra = {"config": outcome.version, "result": outcome.result}
        for finding in outcome.findings:
            _log.log(level, "%s", finding, extra=extra)
        _log.log(level, "%s", sentence(outcome), extra=extra)
        if outcome.result in ("applied", "refused") or (outcome.result == "unchanged" and why != "files"):
            self._worker.notice(_notice(outcome))
        self._tell(outcome)
        return outcome

    def _reload(self, why: str) -> Outcome:
        try:
            candidate = self._read()
        except Exception as error:  # noqa: BLE001 - files change while they are read; the bus goes on in any case
            return Outcome("refused", self.version, "", why, (f"the files cannot be read: {error!r}",))
        after = candidate.configuration
        if after is None or candidate.findings:
            return Outcome("refused", self.version, "" if after is None else after.version, why, candidate.findings)
        if after.version == self.version and why == "files":
            return Outcome("unchanged", self.version, after.version, why)
        try:
            self._declare(after.table.catalog)
            self._swap(after)
        except (Unreachable, StoreDown) as error:
            return Outcome("failed", self.version, after.version, why, (str(error),))
        except BusError as error:
            return Outcome("refused", self.version, after.version, why, (str(error),))
        before, self._current = self.version, after
        result: Result = "unchanged" if before == after.version else "applied"
        return Outcome(result, after.version, before, why)

    def _swap(self, after: Configuration) -> None:
        answered = threading.Event()
        wrong: list[BusError | None] = []

        def done(error: BusError | None) -> None:
            wrong.append(error)
            answered.set()

        self._worker.reconfigure(after, done)
        while not answered.wait(0.2):
            if self._stopped.is_set():
                raise BusError("the bus ends")
        if wrong[0] is not None:
            raise wrong[0]


def sentence(outcome: Outcome) -> str:
    """Say what came of it."""
    if outcome.result == "applied":
        return f"configuration {outcome.read} is followed by {outcome.version} ({outcome.why})"
    if outcome.result == "unchanged":
        return f"the configuration is {outcome.version} as before ({outcome.why})"
    what = "is refused" if outcome.result == "refused" else "cannot be taken up yet"
    read = f" {outcome.read}" if outcome.read else ""
    return f"the changed configuration{read} {what} ({outcome.why}); still running {outcome.version}"


def _notice(outcome: Outcome) -> Notice:
    said: Sequence[Json] = outcome.findings[:_MOST_TOLD]
    data: dict[str, Json] = {
        "result": outcome.result,
        "version": outcome.version,
        "why": outcome.why,
        "findings": list(said),
        "read" if outcome.result == "refused" else "before": outcome.read,
    }
    return Notice(f"bus.config.{outcome.result}", data, sentence(outcome))
