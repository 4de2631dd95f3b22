"""Child processes that a job needs: started, watched, started again when they die, and stopped in order.

Each part runs in a session of its own, so Ctrl-C in the terminal reaches us and not it, and we stop the parts in the
order we choose. On its standard output it says `{"event": "ready"}` when it is, or `{"event": "waiting"}` with a reason
while a broker or a store is down, which we pass on; its standard error goes to a log file.
A part that dies before it was ever ready has a reason that starting it again would not mend: the job ends with
the end of its log. When we are killed ourselves, Linux sends the parts SIGTERM, so nothing is orphaned.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bus.core.errors import BusError, Unreachable
from bus.settings import environment as current_environment

STOP_TIMEOUT_S = 40.0  # a bus that drains and agents that finish take seconds; then SIGKILL
UNREACHABLE = 3  # exit code of a `bus` command that reaches no broker or store
AGAIN_S = (0.1, 5.0)  # pause before starting again: doubles from the first to the second while it keeps dying
LOG_LINES = 15
_PR_SET_PDEATHSIG = 1  # prctl(2)

Say = Callable[[str], None]


class Part:
    """Args:
    name: for people, and for `NAME.log` and `NAME.pid` in the folder.
    arguments: words after `python -m`.
    environment: variables on top of our own.
    folder: where its log and its pid are written; without one its log goes to our standard error.
    say: told when it dies and comes back.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None, say: Say
    ) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self.announced: dict[str, object] = {}
        self.waits = ""  # for what, while it does
        self.restarts = 0
        self.log = None if folder is None else folder / f"{name}.log"
        self._pid_file = None if folder is None else folder / f"{name}.pid"
        self._argv = [sys.executable, "-P", "-m", *arguments]
        # The part inherits our environment, which is where its own settings come from.
        self._environment = {**current_environment(), **environment}
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep it running until `stop`.

        Raises:
            Unreachable: it ended, before it was ever ready, because it reached no broker or store.
            BusError: it ended otherwise before it was ever ready.
        """
        pause_s, ever_ready = AGAIN_S[0], False
        while not self._stopping.is_set():
            how = await self._once()
            ready, ever_ready = self.ready.is_set(), ever_ready or self.ready.is_set()
            self.ready.clear()
            if self._stopping.is_set():
                return
            if not ever_ready:
                text = f"{self.name} {how} before it was ready{self._log_end()}"
                unreachable = self._process is not None and self._process.returncode == UNREACHABLE
                raise Unreachable(text) if unreachable else BusError(text)
            self.restarts += 1
            self._say(f"{self.name} {how}; starting it again")
            pause_s = AGAIN_S[0] if ready else min(pause_s * 2, AGAIN_S[1])
            await asyncio.sleep(pause_s)

    def hang_up(self) -> None:
        """Send it SIGHUP, if it runs."""
        if self.ready.is_set() and self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL when it takes too long; returns when it is gone. Idempotent."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            self._say(f"{self.name} did not stop within {STOP_TIMEOUT_S:g} s; killing it")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its whole session: what it started must not outlive it
            await process.wait()

    async def _once(self) -> str:
        """Run it to its end; returns how it ended, for people."""
        with contextlib.ExitStack() as opened:
            log = None if self.log is None else opened.enter_context(self.log.open("ab"))
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=self._environment, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        if self._stopping.is_set():  # stop() came while it was being started, and saw no process
            self._process.terminate()
        if self._pid_file is not None:
            self._pid_file.write_text(f"{self._process.pid}\n")
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._hear(line)
        code = await self._process.wait()
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _hear(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        event = said.get("event") if isinstance(said, dict) else None
        if event == "ready":
            self.announced, self.waits = said, ""
            self.ready.set()
        elif event == "waiting":
            self.waits = str(said.get("reason"))
            self._say(f"{self.name} waits: {self.waits}")

    def _log_end(self) -> str:
        if self.log is None:
            return "; its log says why"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"; the end of {self.log}:\n" + ("\n".join(lines[-LOG_LINES:]) or "(nothing)")


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent dies; runs in the child before it becomes the program."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
