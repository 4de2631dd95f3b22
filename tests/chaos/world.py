"""The world of a run: broker, wire, bus, agents, sinks and producers, wired together and taken down in order."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import orjson

from bus.core import naming
from bus.core.endpoints import endpoints
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from tests.chaos.children import Child
from tests.chaos.effects import EffectReader
from tests.chaos.load import Mix
from tests.chaos.node import Node
from tests.chaos.options import Options
from tests.chaos.producer import Producer
from tests.chaos.sinks import Sinks
from tests.chaos.wire import Wire

ROUTES = Path(__file__).parent / "routes"
AGENTS = ("worker_one", "worker_two", "solo", "stepper")
SINKS = {
    "fast": "capability.fast",
    "slow": "capability.slow",
    "producer": "agent.producer",
    "ear_one": "agent.ear_one",
    "ear_two": "agent.ear_two",
    "auditor": "agent.auditor",
    "sink": "agent.sink",
    "dead": "dead",
    "invalid": "invalid",
}
"""Queues that the harness consumes, by the name of their place."""

PARTITIONS = 4
PREFETCHES = (50, 250, 2000)  # the last is the default; a small one makes the ingress wait in the broker


class World:
    """Everything that runs. Use as a context manager; entering it starts all but the producers.

    Args:
        options: of the run.
        folder: evidence: logs, store, timeline.
        node: a broker node that runs already, and may be killed.
    """

    def __init__(self, options: Options, folder: Path, node: Node | None = None) -> None:
        self.options, self.folder = options, folder
        self.namespace = f"chaos{secrets.token_hex(4)}"
        self.chance = random.Random(options.seed)
        self.counts: Counter[str] = Counter()
        self.kills = 0
        self.remarks: list[str] = []
        self.node = node
        self.effects = EffectReader(folder / "effects.jsonl")
        self._stack = contextlib.ExitStack()
        self._began_s = time.monotonic()

    def __enter__(self) -> World:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _start(self) -> None:
        if self.node is None and self.options.broker is None:
            self.node = self._stack.enter_context(Node(self.folder / "node"))
        if self.node is not None:
            self.bus_url, self.agent_url = self.node.broker.bus_url, self.node.broker.agent_url
        elif self.options.broker is not None:
            self.bus_url, self.agent_url = self.options.broker
        target = urlsplit(endpoints(self.bus_url)[0])
        assert target.hostname is not None
        self.wire = self._stack.enter_context(Wire(target.hostname, target.port or 5672))
        self.agent_wire = self._stack.enter_context(Wire(target.hostname, target.port or 5672))
        self.bus = self._child("bus", (*self.options.launcher, "run", str(ROUTES), "--output", "json"))
        self.agents = {name: self._child(name, ("-m", "tests.chaos.agent", name)) for name in AGENTS}
        queues = {place: f"{self.namespace}.{queue}" for place, queue in SINKS.items()}
        self.sinks = Sinks(self.bus_url, queues)
        self.sinks.start()
        self._stack.callback(self.sinks.stop, 0.0)
        self.producers = [self._producer(f"p{number}") for number in range(self.options.producers)]

    def _child(self, name: str, words: tuple[str, ...]) -> Child:
        child = Child(name, words, self.environment, self.folder)
        child.start()
        self._stack.callback(child.stop)
        return child

    def _producer(self, name: str) -> Producer:
        options = self.options
        mix = Mix(options.seed, name, options.conversations, "duplicates" in options.faults)
        rate = options.rate / options.producers
        return Producer(self.agent_url, naming.ingress_exchange(self.namespace), mix, rate)

    @property
    def environment(self) -> dict[str, str]:
        """Of the bus and of the agents, each with a wire of its own to the broker."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUS_")},
            "BUS_AMQP_URL": _through(self.wire, self.bus_url),
            "BUS_AGENT_AMQP_URL": _through(self.agent_wire, self.agent_url),
            "BUS_NAMESPACE": self.namespace,
            "BUS_HOME": str(self.folder / "home"),
            "BUS_PREFETCH": str(random.Random(self.options.seed).choice(PREFETCHES)),
            "BUS_PARTITIONS": str(PARTITIONS),
            "BUS_IDENTITY": "shared",
            "CHAOS_EFFECTS": str(self.folder / "effects.jsonl"),
        }

    def history(self) -> History:
        """The log as it stands, for reading."""
        return History(SqliteLog(self.folder / "home" / "bus.db"))

    def note(self, what: str, **more: Any) -> None:
        """Write a line of the timeline."""
        line = {"at_s": round(time.monotonic() - self._began_s, 3), "time": time.time(), "what": what, **more}
        with (self.folder / "timeline.jsonl").open("ab") as file:
            file.write(orjson.dumps(line) + b"\n")


def _through(wire: Wire, url: str) -> str:
    if len(endpoints(url)) > 1:
        return url  # nodes of a cluster are reached without a wire: what fails there are the nodes
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{wire.port}").geturl()
