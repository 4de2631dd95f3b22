"""Several bus processes, load through them, and what came out: shared by tests of workers and of growth."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pika

from bus.core.naming import capability_queue, ingress_exchange
from tests.acceptance.live import LiveBus, event

CONVERSATIONS = 20


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
        self.said: dict[int, dict[str, Any]] = {}
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
                self.said[noted[1]] = message["data"]
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
