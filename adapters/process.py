"""Child processes of the adapters: how they are started, read, restarted and ended.

No shell is ever involved and nothing of the environment is passed but what is named. A child leads a session of
its own, so a Ctrl-C in the terminal reaches only the parent, which ends its children in order. That a child does not
outlive a killed parent is the pipe's work: it ends when it reads the end of file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bus.core.errors import BusError
from bus.core.message import Json
from bus.core.route import Agent

ALWAYS = ("PATH", "LANG")
"""Environment variables that every child gets; others are named in the agent's `env`."""

PYTHON = "{python}"
"""As the first word of a command: the interpreter that runs the bus, with its packages."""

LOG_LINE = 16 * 1024  # bytes of one line of a child's stderr; the rest is dropped

_BACKOFF_S = (0.2, 10.0)
_RAN_WELL_S = 10.0
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Command:
    """Args:
    name: the agent's name.
    argv: the program and its arguments.
    folder: working directory: the integration's.
    environment: all that the child sees.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]

    async def start(self, **streams: object) -> asyncio.subprocess.Process:
        """Start it in a session of its own.

        Raises:
            OSError: the program cannot be run.
        """
        return await asyncio.create_subprocess_exec(
            *self.argv,
            cwd=self.folder,
            env=dict(self.environment),
            start_new_session=True,
            **streams,  # type: ignore[arg-type]  # stdin, stdout, stderr, pass_fds
        )


class Backoff:
    """Pauses between restarts: doubling from 0.2 to 10 s, with jitter; anew after a child that ran for 10 s."""

    def __init__(self) -> None:
        self._attempt = 0

    def pause(self, ran_s: float) -> float:
        """Return how long to wait before the next start, given how long the last child ran."""
        self._attempt = 0 if ran_s >= _RAN_WELL_S else self._attempt + 1
        low, high = _BACKOFF_S
        most = min(high, low * 2.0 ** min(self._attempt, 10))
        return random.uniform(low, most)


def words(declared: Agent, key: str) -> tuple[str, ...]:
    """Read a list of strings from an agent's adapter settings; absent is empty.

    Raises:
        BusError: it is something else.
    """
    value: Json = declared.settings.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BusError(f"agent `{declared.name}`: `{key}` must be a list of strings; write {key}: [...]")
    return tuple(str(each) for each in value)


def allowed(declared: Agent, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the agent's `env` names, and PATH and LANG."""
    return {name: environment[name] for name in (*ALWAYS, *words(declared, "env")) if name in environment}


def program(argv: tuple[str, ...], folder: Path, path: str | None) -> tuple[str, ...]:
    """Find the program: `{python}`, a path relative to the folder, or a name on PATH.

    Raises:
        BusError: there is none.
    """
    first = argv[0]
    if first == PYTHON:
        return (sys.executable, *argv[1:])
    found = str((folder / first).resolve()) if "/" in first else shutil.which(first, path=path)
    if found is None or not os.access(found, os.X_OK):
        raise BusError(f"no program `{first}`; write a name on PATH, a path relative to {folder}, or {PYTHON}")
    return (found, *argv[1:])


async def lines(reader: asyncio.StreamReader, longest: int) -> AsyncIterator[bytes | None]:
    """Yield each line without its end; None in place of one longer than `longest` bytes."""
    buffer = bytearray()
    skipping = False
    while chunk := await reader.read(_CHUNK):
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if not skipping:
                yield line if len(line) <= longest else None
            skipping = False
        if len(buffer) > longest:
            buffer.clear()
            if not skipping:
                yield None
            skipping = True
    if buffer and not skipping:
        yield bytes(buffer)


async def relay_log(reader: asyncio.StreamReader, name: str) -> None:
    """Write a child's lines to the log. Lines of our own JSON format keep their level and ids."""
    log = logging.getLogger(f"agent.{name}")
    async for line in lines(reader, LOG_LINE):
        text = "(a line too long to show)" if line is None else line.decode(errors="replace").rstrip()
        level, extra = logging.INFO, {"agent": name}
        fields = _fields(text)
        if isinstance(fields.get("message"), str):
            level = logging.getLevelNamesMapping().get(str(fields.get("level")), logging.INFO)
            text = fields["message"] + (f"\n{fields['exception']}" if "exception" in fields else "")
            extra |= {key: str(fields[key]) for key in ("message_id", "conversation") if key in fields}
        if text:
            log.log(level, "%s", text, extra=extra)


async def end(process: asyncio.subprocess.Process, gently: signal.Signals | None, grace_s: float) -> None:
    """End a child and whatever it started: its stdin is closed, it gets `gently`, and after `grace_s` SIGKILL."""
    if process.stdin is not None:
        process.stdin.close()
    if gently is not None and process.returncode is None:
        process.send_signal(gently)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its session: stragglers too, when it has ended itself
    await process.wait()


def _fields(text: str) -> dict[str, str]:
    if not text.startswith("{"):
        return {}
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
