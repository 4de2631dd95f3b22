"""Runs the agent of `bus bench scatter` in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bus.core.errors import BusError

if TYPE_CHECKING:
    from bus.settings import Settings

READY = "ready"
"""What it says when it listens."""


@contextmanager
def echoing(settings: Settings) -> Iterator[None]:
    """Have it answer during the block; the topology stands already.

    Raises:
        BusError: it did not start.
    """
    from bus.shell.bench.bus_process import end, environment_of

    command = [sys.executable, "-m", "bus.cli.bench.echo_agent"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment_of(settings),
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != READY:
            raise BusError("the agent that answers the benchmark did not start; see above")
        yield
    finally:
        end(process)
