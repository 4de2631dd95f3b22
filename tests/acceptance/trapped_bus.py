"""`bus` with one step more, `spring`, which does what a message says: it ends the process, or never ends.

Run as `python -m tests.acceptance.trapped_bus run FOLDER`. It stands in for what nobody has found yet: a message on
which an expression engine crashes, or a contract takes forever.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from bus import cli
from bus.core import registry
from bus.core.spec import Spec, Text
from bus.core.work import Step, Work

_WORKER = os.getpid()


def _allocate() -> None:
    kept = []
    try:
        while True:
            kept.append(bytearray(1 << 24))
    except MemoryError:
        kept.clear()
        if os.getpid() == _WORKER:
            os.kill(_WORKER, signal.SIGKILL)  # what the kernel does to a worker that takes all memory
        raise


def _raise() -> None:
    raise RuntimeError("a fault of the bus")


def _loop() -> None:
    while True:
        pass


DEEDS: Mapping[str, Callable[[], object]] = {
    "abort": os.abort,
    "allocate": _allocate,
    "raise": _raise,
    "loop": _loop,
    "loop in C": lambda: pow(9, 9**10),  # holds the interpreter's lock, as an extension module may
    "sleep": lambda: time.sleep(3600),
}


def _spring(work: Work) -> None:
    data: Any = work.message.data
    deed = DEEDS.get(str(data.get("do")))
    if deed is not None:
        deed()


def _build(_parsed: str) -> Step:
    return _spring


SPEC = Spec("spring", "Trap", "Does what the message says.", Text(), _build, "spring: here")

if __name__ == "__main__":
    registry.STEPS = {**registry.STEPS, SPEC.kind: SPEC}
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))  # `allocate` shall not take the machine's memory
    cli.main()
