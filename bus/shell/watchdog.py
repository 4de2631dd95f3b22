"""The watchdog: ends a worker that no longer gets on, so that whoever runs it starts it again.

Theory of operation. Two threads matter: the loop, and the store's thread, which decides and commits. Each has a
`Pulse`, which it beats when it begins something and at least once a second where that may take long, and rests while
it waits for work. A message on which deciding never ends so ends the worker; from its third delivery on it is decided
apart (bus.shell.trial), and nobody else suffers for it.

    a thread of Python        looks eight times in a period; a pulse that was silent for all of them is a stall
    the kernel's SIGPROF      rings after a period of processor time, unless that thread has wound it up meanwhile:
                              code in C that keeps the interpreter's lock keeps the thread from looking, too

Looks are counted and not the clock, and a process that does not run uses no processor time: a pause of the whole
process, or of its machine, costs one look.

Either way the process ends by a signal, like a crash, after the stacks of all threads are on standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence

from bus.core.errors import BusError

_log = logging.getLogger(__name__)

BEAT_S = 1.0  # how often a thread that may be busy for long says that it lives
LEAST_S = 2 * BEAT_S  # the shortest period that leaves room for a late beat
LOOKS = 8  # in a period
_LAST_WORDS_S = 5  # for the log and the stacks; past it standard error itself is what hangs


class Pulse:
    """Signs of life of one thread, which alone beats it.

    Args:
        name: of the thread, for people.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.beats = 0
        self.resting = True

    def beat(self) -> None:
        """It gets on, or begins something."""
        self.beats += 1
        self.resting = False

    def rest(self) -> None:
        """It waits for work: its silence is no stall."""
        self.resting = True


class Vitals:
    """The pulses of a worker."""

    def __init__(self) -> None:
        self.loop = Pulse("the loop")
        self.store = Pulse("the store's thread")

    @property
    def all(self) -> Sequence[Pulse]:
        """Every pulse."""
        return self.loop, self.store


class Looks:
    """Counts how long pulses are silent, in looks.

    Args:
        pulses: which.
    """

    def __init__(self, pulses: Sequence[Pulse]) -> None:
        self._pulses = pulses
        self._seen = [(0, 0)] * len(pulses)  # its beats, and for how many looks they have not changed

    def stalled(self) -> Pulse | None:
        """Look once; returns a pulse that was silent for a whole period."""
        found = None
        for number, pulse in enumerate(self._pulses):
            beats, silent = self._seen[number]
            silent = 0 if pulse.resting or pulse.beats != beats else silent + 1
            self._seen[number] = (pulse.beats, silent)
            if silent >= LOOKS:
                found = pulse
        return found


@contextlib.contextmanager
def watched(vitals: Vitals, stall_s: float) -> Iterator[None]:
    """Watch a worker during the block, on the main thread; 0 seconds is no watch.

    Raises:
        BusError: the period is too short.
    """
    if not stall_s:
        yield
        return
    watchdog = Watchdog(vitals, stall_s)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.close()


class Watchdog:
    """Watches from `start` to `close`, both on the main thread.

    Args:
        vitals: the worker's.
        stall_s: seconds without a sign of life that end the process.

    Raises:
        BusError: the period is too short.
    """

    def __init__(self, vitals: Vitals, stall_s: float) -> None:
        if stall_s < LEAST_S:
            raise BusError(f"BUS_STALL_S is `{stall_s:g}`; write {LEAST_S:g} seconds or more, or 0 for no watchdog")
        self._looks = Looks(vitals.all)
        self._stall_s = stall_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        faulthandler.enable()  # writes all stacks when the process is aborted
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        faulthandler.register(signal.SIGPROF, chain=True)  # the same, then ends it
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self._thread.join()
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def _run(self) -> None:
        while True:
            signal.setitimer(signal.ITIMER_PROF, self._stall_s)
            if self._closed.wait(self._stall_s / LOOKS):
                return
            stalled = self._looks.stalled()
            if stalled is not None:
                signal.alarm(_LAST_WORDS_S)
                text = (
                    "%s has stalled for %g s: this worker ends, to be started again; the stacks of all threads follow"
                )
                _log.critical(text, stalled.name, self._stall_s)
                os.abort()
