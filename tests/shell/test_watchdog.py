"""A stall ends the process by a signal, with the stack on standard error; a pause, rest and slow progress do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus.core.errors import BusError
from bus.shell.watchdog import LOOKS, Looks, Vitals, Watchdog

ROOT = Path(__file__).parents[2]

CHILD = """
import sys, time
from bus.shell.watchdog import Vitals, watched

def stall_in_python():
    while True:
        pass

def stall_in_a_library():
    pow(9, 9**10)  # keeps the interpreter's lock

def stall_asleep():
    time.sleep(3600)

def slow():
    for step in range(15):  # silent for 1.5 s, and busy
        time.sleep(0.1)
        if step == 5:
            print("half", flush=True)

vitals = Vitals()
with watched(vitals, 2.0):
    vitals.loop.beat()
    vitals.loop.rest()
    vitals.store.beat()
    print("begun", flush=True)
    globals()[sys.argv[1]]()
    vitals.store.rest()
    print("done", flush=True)
    sys.stdin.read()
"""


@contextmanager
def child(deed: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", CHILD, deed]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("deed", "end"),
    [
        ("stall_in_python", signal.SIGABRT),
        ("stall_asleep", signal.SIGABRT),
        ("stall_in_a_library", signal.SIGPROF),
    ],
)
def test_a_stall_ends_the_process_and_says_where(deed: str, end: signal.Signals) -> None:
    with child(deed) as process:
        _, said = process.communicate(timeout=30)
        assert process.returncode == -end
        assert f"in {deed}" in said


def test_a_pause_of_the_process_is_no_stall() -> None:
    with child("slow") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3.0)  # longer than a period: what is tested is the time that passes
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=30)
        assert (said, process.returncode) == ("done\n", 0)


def test_only_a_whole_period_of_silence_is_a_stall() -> None:
    vitals = Vitals()
    looks = Looks(vitals.all)
    assert [looks.stalled() for _ in range(3 * LOOKS)] == [None] * 3 * LOOKS  # nothing to do
    for _ in range(3):
        vitals.store.beat()
        assert [looks.stalled() for _ in range(LOOKS)] == [None] * LOOKS
    assert looks.stalled() is vitals.store
    vitals.loop.beat()
    vitals.store.rest()
    assert [looks.stalled() for _ in range(LOOKS)] == [None] * LOOKS
    assert looks.stalled() is vitals.loop


def test_a_period_too_short_is_refused() -> None:
    with pytest.raises(BusError, match="BUS_STALL_S is `1`; write 2 seconds or more, or 0"):
        Watchdog(Vitals(), 1.0)
