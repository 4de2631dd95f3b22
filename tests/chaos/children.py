"""Child processes that die and come back: each is started again at once by a thread that waits for its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 120.0  # for anything that must happen; the machine may be busy with other work
ROOT = Path(__file__).parents[2]
AGAIN_S = 0.3  # pause after an end that nobody asked for, so that a process that cannot start does not spin


@dataclass(frozen=True, slots=True)
class Ended:
    """One end of a process: when, its exit code (negative: the signal), whether it was ready, and whether we asked."""

    at_s: float
    code: int
    ready: bool
    asked: bool


@dataclass(slots=True)
class Child:
    """Args:
    name: for its log, `NAME.log` in the folder.
    arguments: words after the interpreter.
    environment: its whole environment.
    folder: where its log is written.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ends: list[Ended] = field(default_factory=list)
    once: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _thread: threading.Thread | None = None
    _ready: threading.Event = field(default_factory=threading.Event)
    _gone: threading.Event = field(default_factory=threading.Event)
    _may_run: threading.Event = field(default_factory=threading.Event)
    _stopping: bool = False
    _asked: bool = False

    def start(self) -> None:
        """Start it, and keep it running."""
        self._may_run.set()
        self._thread = threading.Thread(target=self._keep, name=self.name, daemon=True)
        self._thread.start()

    def keep_down(self) -> None:
        """Do not start it again when it ends, until `bring_up`."""
        self._may_run.clear()

    def bring_up(self) -> None:
        """Start it again after `keep_down`."""
        self._may_run.set()

    def wait_ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it is ready.

        Raises:
            TimeoutError: it is not ready in time.
        """
        if not self._ready.wait(timeout_s):
            raise TimeoutError(f"{self.name} is not ready after {timeout_s:g} s; its log ends:\n{self.log_end()}")

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """What it says on standard error, over all its lives."""
        return self.folder / f"{self.name}.log"

    def signal(self, number: int) -> None:
        """Send a signal; SIGKILL and SIGTERM are ends that we asked for."""
        with contextlib.suppress(ProcessLookupError):
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._asked = True
                self._gone.clear()
                self._ready.clear()
            os.kill(self.pid, number)

    def wait_gone(self, timeout_s: float = PATIENCE_S) -> bool:
        """Wait for the end of the process that runs now; says whether it came."""
        return self._gone.wait(timeout_s)

    def expect_end(self) -> None:
        """The next end is one that we arranged."""
        self._asked = True
        self._gone.clear()

    def stop(self) -> int:
        """SIGTERM for good; returns the exit code."""
        self._stopping = True
        self._may_run.set()
        assert self._thread is not None
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            # Twice, for the first may have met the process before the one that runs now.
            self.signal(signal.SIGCONT)
            self.signal(number)
            self._thread.join(30)
            if not self._thread.is_alive():
                break
        return self.ends[-1].code

    def log_end(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:]) if self.log.is_file() else ""

    def _keep(self) -> None:
        while not self._stopping:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, *self.arguments], stdout=subprocess.PIPE, stderr=log, cwd=ROOT,
                    env={**self.environment, **self.once}, start_new_session=True,
                )  # fmt: skip
            self.once.clear()
            was_ready = self._listen()
            code = self._process.wait()
            self.ends.append(Ended(time.time(), code, was_ready, self._asked or self._stopping))
            surprise = not self._asked
            self._asked = False
            self._ready.clear()
            self._gone.set()
            if surprise and not self._stopping:
                time.sleep(AGAIN_S)
            self._may_run.wait()

    def _listen(self) -> bool:
        """Read what it says until it ends; says whether it ever was ready."""
        was_ready = False
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError, AttributeError):
                if json.loads(line).get("event") == "ready":
                    was_ready = True
                    self._ready.set()
        return was_ready


def interruptible() -> None:
    """Take SIGTERM, and SIGINT even in the background, as Ctrl-C: what was started is stopped on the way out."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def poll(condition: Callable[[], bool], timeout_s: float = PATIENCE_S, step_s: float = 0.05) -> bool:
    """Wait until the condition holds; says whether it came to that."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True
