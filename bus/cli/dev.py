"""`bus dev`: broker, bus and agents in one command, started again whenever a file of the configuration changes.

The bus and the agents are processes of their own, so that an edit of an agent's Python code is taken up too, and so
that what runs in production is what runs here. An edit with errors is reported and changes nothing.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import rich_click as click

from bus.cli.common import Printer, folders_of, output_option, settings_of, settings_options

if TYPE_CHECKING:
    from bus.config.loading import Loaded

_POLL_S = 0.4  # an edit is seen within this; scanning a hundred files takes about a millisecond
_STOP_S = 20.0  # above the worker's own limit for a drain

Snapshot = dict[Path, tuple[int, int]]


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@settings_options
@output_option()
def dev(paths: tuple[Path, ...], printer: Printer, **flags: Any) -> int:
    """Run a private broker, the bus and the agents of PATH, and reload on every change, until Ctrl-C.

    An edit with errors is reported and the running configuration stays.

    \b
    Examples:
      bus dev
      bus dev routes/hello
      bus send hello.asked '{"name": "Ada"}' --wait       in a second terminal
    """
    from bus import bootstrap

    folders = folders_of(paths)
    signal.signal(signal.SIGTERM, _leave)
    settings = settings_of(flags)
    loaded = bootstrap.load(folders)
    for finding in loaded.findings:
        printer.note(str(finding))
    bootstrap.table(loaded)
    broker = bootstrap.open_broker(settings, printer.note)
    try:
        return _Development(folders, _shared_flags(flags), printer).run(loaded)
    finally:
        broker.stop()


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _shared_flags(flags: dict[str, Any]) -> list[str]:
    return [
        word
        for name, value in flags.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


class _Child:
    """The bus or the agents as a process; its lines arrive in `heard`."""

    def __init__(self, name: str, words: Sequence[str], heard: queue.SimpleQueue[tuple[_Child, str]]) -> None:
        self.name = name
        # A session of its own: Ctrl-C reaches us alone, and we stop the two in order.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bus", *words, "--output", "json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(heard,), daemon=True)
        self._reader.start()

    def _read(self, heard: queue.SimpleQueue[tuple[_Child, str]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            heard.put((self, line))
        heard.put((self, ""))

    def stop(self) -> int:
        """End it in order, or by force after a while; returns its exit code. Idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class _Development:
    """Args:
    folders: what is watched and run.
    flags: settings' flags that both processes get.
    """

    def __init__(self, folders: Sequence[Path], flags: Sequence[str], printer: Printer) -> None:
        self._folders = folders
        self._words = [*map(str, folders), *flags]
        self._printer = printer
        self._heard: queue.SimpleQueue[tuple[_Child, str]] = queue.SimpleQueue()
        self._children: list[_Child] = []
        self._version = ""

    def run(self, loaded: Loaded) -> int:
        """Run until interrupted; returns the bus's exit code when it ends by itself."""
        seen = _snapshot(self._folders)
        try:
            self._start(loaded)
            while True:
                ended = self._listen()
                if ended is not None:
                    return ended
                now = _snapshot(self._folders)
                if now != seen and now == _settled(self._folders, now):
                    seen = now
                    self._reload()
        finally:
            self._stop()

    def _start(self, loaded: Loaded) -> None:
        assert loaded.catalog is not None
        self._version = loaded.catalog.version
        self._children = [_Child("bus", ["run", *self._words], self._heard)]

    def _listen(self) -> int | None:
        """Wait for a line of a process, a moment at most; returns the bus's exit code when it has ended."""
        try:
            child, line = self._heard.get(timeout=_POLL_S)
        except queue.Empty:
            return None
        if child not in self._children:
            return None  # last words of a process that we stopped
        if not line:
            return self._ended(child)
        if child.name == "bus" and '"ready"' in line:
            self._children.append(_Child("agents", ["agents", "run", *self._words], self._heard))
        elif '"ready"' in line:
            self._ready(line)
        return None

    def _ready(self, line: str) -> None:
        agents = json.loads(line).get("agents", [])
        watched = ", ".join(map(str, self._folders))
        self._printer.emit(
            {"event": "ready", "config": self._version, "agents": agents},
            f"ready, {len(agents)} agents, configuration {self._version}, watching {watched}",
        )

    def _ended(self, child: _Child) -> int | None:
        code = child.stop()
        self._children.remove(child)
        if child.name == "bus":
            self._printer.note(f"the bus ended with exit code {code}; what it said stands above")
            return code or 1
        self._printer.note(f"[dev] the agents ended with exit code {code}; they start again at the next edit")
        return None

    def _reload(self) -> None:
        from bus import bootstrap

        loaded = bootstrap.load(self._folders)
        errors = [each for each in loaded.findings if each.severity == "error"]
        if loaded.catalog is None or errors:
            for finding in errors:
                self._printer.emit(
                    {"event": "refused", **finding.as_dict(), "config": self._version},
                    f"[dev] {finding}. Still running {self._version}.",
                )
            return
        self._printer.note(f"[dev] changed; starting configuration {loaded.catalog.version}")
        self._stop()
        self._start(loaded)

    def _stop(self) -> None:
        # The agents first: what the bus still delivers while it drains then waits for the next start.
        while self._children:
            self._children.pop().stop()


def _settled(folders: Sequence[Path], before: Snapshot) -> Snapshot:
    """Look again a moment later, so that an editor's half-written file is not taken for the edit."""
    threading.Event().wait(0.1)
    after = _snapshot(folders)
    return after if after == before else {}


def _snapshot(folders: Sequence[Path]) -> Snapshot:
    return {path: stamp for folder in folders for path, stamp in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for root, below, names in os.walk(folder):
        below[:] = [each for each in below if not each.startswith((".", "__pycache__"))]
        for name in names:
            path = Path(root, name)
            if not name.startswith("."):
                try:
                    status = path.stat()
                except OSError:
                    continue  # gone since it was listed
                yield path, (status.st_mtime_ns, status.st_size)
