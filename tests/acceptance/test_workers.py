"""Several workers on one store and one broker: they share, replace each other in seconds, and keep order."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pika
import pytest

from bus.core.naming import capability_queue, ingress_exchange
from tests.acceptance.live import HELLO, LiveBus, event
from tests.conftest import TestBroker
from tests.postgres_server import shared_server

CONVERSATIONS = 20
TAKEOVER_S = 5.0  # from the end of a worker to the first message of its partitions that another one delivers


class Crew:
    """`bus run` processes, one by one so that a test can end each in its own way."""

    def __init__(self, live: LiveBus) -> None:
        self._live = live
        self._log = (live.home / "workers.log").open("a")
        self.members: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bus", "run", str(self._live.folder), "--output", "json"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=self._live.environment
        )
        assert process.stdout is not None
        self.members.append(process)
        if not any(json.loads(line).get("event") == "ready" for line in process.stdout):
            raise AssertionError((self._live.home / "workers.log").read_text()[-3000:])
        return process

    def stop(self) -> None:
        for process in self.members:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(timeout=30)
        self._log.close()


class Load(threading.Thread):
    """Publishes numbered messages of many conversations, confirmed, until told to stop."""

    def __init__(self, live: LiveBus, conversations: int) -> None:
        super().__init__()
        self._conversations = conversations
        self._live = live
        self.sent: dict[str, list[int]] = defaultdict(list)
        self.enough = threading.Event()

    def run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._live.agent_url))
        channel = connection.channel()
        channel.confirm_delivery()
        exchange, number = ingress_exchange(self._live.namespace), 0
        properties = pika.BasicProperties(
            content_type="application/cloudevents+json", delivery_mode=2, user_id="agents"
        )
        while not self.enough.wait(0.002):
            conversation = f"c{number % self._conversations}"
            body = event("hello.asked", {"name": str(number)}, f"m{number}", conversationid=conversation)
            channel.basic_publish(exchange, conversation, body, properties, mandatory=True)
            self.sent[conversation].append(number)
            number += 1
        connection.close()


class Sink(threading.Thread):
    """Takes what is delivered to the capability, and notes when each first came."""

    def __init__(self, live: LiveBus) -> None:
        super().__init__()
        self._live = live
        self.first: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.enough = threading.Event()
        self._known: set[str] = set()

    def run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._live.bus_url))
        channel = connection.channel()
        queue = capability_queue(self._live.namespace, "greeting")
        for _, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.1):
            if properties is not None and properties.message_id not in self._known:
                self._known.add(properties.message_id)
                message = orjson.loads(body)
                noted = time.monotonic(), int(message["data"]["name"])
                self.first[message["conversationid"]].append(noted)
            if self.enough.is_set() and properties is None:
                break
        connection.close()

    def count(self) -> int:
        return len(self._known)

    def longest_silence_s(self, since: float, until: float) -> float:
        """The longest that any conversation had to wait between two deliveries in a span of time."""
        longest = 0.0
        for noted in self.first.values():
            times = [since, *[at for at, _ in noted if since <= at <= until], until]
            longest = max(longest, *(later - at for at, later in itertools.pairwise(times)))
        return longest


@pytest.fixture
def live(broker: TestBroker, namespace: str, tmp_path: Path) -> LiveBus:
    bus = LiveBus(HELLO, tmp_path / "home", namespace, broker.bus_url, broker.agent_url, store=shared_server().url)
    bus.home.mkdir()
    return bus


@pytest.fixture
def crew(live: LiveBus) -> Iterator[Crew]:
    made = Crew(live)
    yield made
    made.stop()


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def traffic(live: LiveBus, conversations: int = CONVERSATIONS) -> Iterator[tuple[Load, Sink]]:
    """Load while the block runs; then everything sent is awaited, and compared with what came."""
    load, sink = Load(live, conversations), Sink(live)
    sink.start()
    load.start()
    try:
        yield load, sink
        load.enough.set()
        load.join()
        total = sum(map(len, load.sent.values()))
        wait_for(lambda: sink.count() == total)
    finally:
        load.enough.set()
        sink.enough.set()
        load.join()
        sink.join()
    assert {name: [number for _, number in noted] for name, noted in sink.first.items()} == load.sent


def passing(sink: Sink, more: int = 200) -> None:
    """Wait until so many more messages have come through."""
    goal = sink.count() + more
    wait_for(lambda: sink.count() >= goal)


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
