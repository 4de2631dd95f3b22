"""The bus as a process of its own, as in production: `bus run`, with its memory read from /proc."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bus.core.errors import BusError
from bus.settings import Settings, environment

_STOP_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class BusProcess:
    """A bus that takes messages."""

    pid: int

    def rss_mb(self) -> float:
        """Its resident memory now, in MB; 0 when it has ended."""
        return self._status("VmRSS")

    def max_rss_mb(self) -> float:
        """The most that it ever had, in MB, as the kernel keeps it."""
        return self._status("VmHWM")

    def _status(self, key: str) -> float:
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0.0
        for line in text.splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024 / 1e6
        return 0.0


@contextmanager
def bus_process(
    settings: Settings, integration: Path, folder: Path, *, store: str | None = None, workers: int = 1
) -> Iterator[BusProcess]:
    """Run the bus during the block.

    Args:
        settings: of an open broker.
        integration: what it runs.
        folder: for its store and its log; the same one again continues that store, as a namespace demands.
        store: another store than a file there.
        workers: processes; the one that is told of starts the others.

    Raises:
        BusError: it did not start; says the end of its log.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    theirs = dataclasses.replace(settings, home=home, store=store, metrics_port=-1, log_level="warning")
    log = folder / "bus.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "bus", "run", str(integration), "--workers", str(workers), "--output", "json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment_of(theirs),
            start_new_session=True,  # Ctrl-C is for us; we stop it
        )
    try:
        _await_ready(process, log)
        yield BusProcess(process.pid)
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a process of the benchmark: it may drain first, but not for ever."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _await_ready(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == "ready":
            return
    raise BusError(f"the bus did not start; its log ends:\n{log.read_text()[-2000:]}")


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a process with these settings: ours, with every setting named, so that none of the user's own
    variables reaches the benchmark."""
    plain = {name: value for name, value in environment().items() if not name.startswith("BUS_")}
    values = {each.name: getattr(settings, each.name) for each in dataclasses.fields(settings)}
    return plain | {f"BUS_{name.upper()}": str(value) for name, value in values.items() if value is not None}
