"""Several workers on one store and one broker: they share, replace each other in seconds, and keep order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.crew import Crew, passing, traffic
from tests.acceptance.live import HELLO, LiveBus
from tests.conftest import TestBroker
from tests.postgres_server import shared_server

TAKEOVER_S = 5.0  # from the end of a worker to the first message of its partitions that another one delivers


@pytest.fixture
def live(broker: TestBroker, namespace: str, tmp_path: Path) -> LiveBus:
    bus = LiveBus(HELLO, tmp_path / "home", namespace, broker.bus_url, broker.agent_url, store=shared_server().url)
    bus.home.mkdir()
    return bus


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced_in_seconds_and_order_is_kept(
    live: LiveBus, crew: Crew, how: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    crew.start()
    with traffic(live) as (_, sink):
        passing(sink)
        crew.start()
        time.sleep(3.0)  # the shares have moved by then, or not: both are to be survived
        passing(sink)
        for victim in list(crew.members):
            began = time.monotonic()
            victim.send_signal(how)
            victim.wait(timeout=30)
            time.sleep(TAKEOVER_S + 1.0)
            silence = sink.longest_silence_s(began, time.monotonic())
            record_property(f"takeover after {how.name}, s", round(silence, 2))
            assert silence < TAKEOVER_S + 0.5  # the test's own machine may be busy
            crew.start()
            passing(sink)


def test_a_paused_worker_that_goes_on_writes_nothing_and_order_is_kept(live: LiveBus, crew: Crew) -> None:
    first = crew.start()
    with traffic(live) as (_, sink):
        passing(sink)
        crew.start()
        passing(sink, 500)
        first.send_signal(signal.SIGSTOP)
        time.sleep(6.0)  # past its leases, short of its heartbeats
        first.send_signal(signal.SIGCONT)
        passing(sink, 500)


def test_the_command_starts_several_and_stops_all(live: LiveBus) -> None:
    command = [sys.executable, "-m", "bus", "run", str(live.folder), "--workers", "3", "--output", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=live.environment)
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert (said["event"], said["workers"]) == ("ready", 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 3
    with traffic(live) as (_, sink):
        passing(sink)
        os.kill(int(children[0]), signal.SIGKILL)  # it is started again
        passing(sink, 500)
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_file_serves_one_worker_and_the_command_says_so(live: LiveBus) -> None:
    live.store = ""
    refused = live.command("run", str(live.folder), "--workers", "2")
    assert refused.returncode == 2
    assert "SQLite serves one worker" in refused.stderr
