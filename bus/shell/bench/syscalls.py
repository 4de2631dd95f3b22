"""Count the system calls that this process makes, all threads, with what the machine has for it.

`perf stat` counts in the kernel and hardly slows the process. `strace -c` stops it at each call: what is counted is
right, but batches grow while the process is slow, so it is the second choice. Neither belongs into a timed run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field

from bus.settings import environment

ATTACH_S = 0.5  # neither tool says reliably when it has attached
_END_S = 10.0

_PERF = ("perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p")
_STRACE = ("strace", "-c", "-f", "-qq", "-p")
_FOUND = {
    "perf": re.compile(r"^(\d+),[^\n]*raw_syscalls:sys_enter", re.MULTILINE),
    "strace": re.compile(r"^100\.00\s+\S+\s+(?:\d+\s+)?(\d+)\s", re.MULTILINE),
}
_NAMES = {"perf": "perf stat -e raw_syscalls:sys_enter", "strace": "strace -c -f"}
_MISSING = "install strace, or perf with the right to count (root, or kernel.perf_event_paranoid below 0)"


@dataclass(slots=True)
class Syscalls:
    """Counts between `start` and `stop`.

    Args:
        count: calls made; None when they cannot be counted.
        method: how they were counted, or what is missing.
    """

    count: int | None = None
    method: str = _MISSING
    _tool: str = ""
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Attach; takes a second. Does nothing where no tool works, and nothing the second time."""
        if self._process is not None:
            return
        for tool, command in (("perf", _PERF), ("strace", _STRACE)):
            if shutil.which(tool) is None:
                continue
            process = subprocess.Popen(
                [*command, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**environment(), "LC_ALL": "C"},
            )
            time.sleep(ATTACH_S)
            if process.poll() is None:
                self._tool, self._process = tool, process
                return
            process.communicate()  # it is not allowed to: it has ended by itself

    def stop(self) -> None:
        """Detach and read the count."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            _, said = self._process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return
        found = _FOUND[self._tool].search(said)
        if found is not None:
            self.count, self.method = int(found[1]), _NAMES[self._tool]
