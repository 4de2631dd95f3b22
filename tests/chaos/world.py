"""The world of a run: broker, store, wires, bus, agents, sinks and producers, wired together, taken down in order."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import orjson

from bus.core import naming
from bus.core.endpoints import endpoints
from bus.core.moving import ARRIVED
from bus.shell.history_log import Log
from bus.shell.postgres_log import PostgresLog
from bus.shell.sqlite_log import SqliteLog
from tests.chaos.children import Child
from tests.chaos.database import Database
from tests.chaos.effects import EffectReader
from tests.chaos.load import Load, Mix
from tests.chaos.node import Node
from tests.chaos.options import BUS, Options
from tests.chaos.producer import Producer
from tests.chaos.sinks import Sinks
from tests.chaos.wire import Wire

SINKS = {
    "fast": "capability.fast",
    "slow": "capability.slow",
    "mute": "capability.mute",
    "producer": "agent.producer",
    "ear_one": "agent.ear_one",
    "ear_two": "agent.ear_two",
    "auditor": "agent.auditor",
    "sink": "agent.sink",
    "dead": "dead",
    "invalid": "invalid",
}
"""Queues that the harness consumes, by the name of their place."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is played in a world.

    Args:
        routes: folder that the bus runs.
        agents: words after the interpreter, by name.
        sinks: queues that the harness consumes, by the name of their place.
        load: what the producer of a name sends.
    """

    routes: Path
    agents: Mapping[str, Sequence[str]]
    sinks: Mapping[str, str]
    load: Callable[[Options, str], Load]


CHAOS = Scene(
    Path(__file__).parent / "routes",
    {name: ("-m", "tests.chaos.agent", name) for name in ("worker_one", "worker_two", "solo", "stepper", "grumbler")},
    SINKS,
    lambda options, name: Mix(
        options.seed,
        name,
        options.conversations,
        "duplicates" in options.faults,
    ),
)
"""The general harness's."""

PARTITIONS = 4
PREFETCHES = (50, 250, 2000)  # the last is the default; a small one makes the ingress wait in the broker


@dataclass(slots=True)
class Bus(Child):
    """A bus process. `store_wire` is its own way to the database, where there is one."""

    store_wire: Wire | None = None


class World:
    """Everything that runs. Use as a context manager; entering it starts all but the producers.

    Args:
        options: of the run.
        folder: evidence: logs, store, timeline.
        node: a broker node that runs already, and may be killed.
        scene: what is played.
    """

    def __init__(self, options: Options, folder: Path, node: Node | None = None, scene: Scene = CHAOS) -> None:
        self.options, self.folder, self.scene = options, folder, scene
        self.namespace = f"chaos{secrets.token_hex(4)}"
        self.chance = random.Random(options.seed)
        self.counts: Counter[str] = Counter()
        self.kills = 0
        self.remarks: list[str] = []
        self.node = node
        self.database: Database | None = None
        self.buses: list[Bus] = []
        self.effects = EffectReader(folder / "effects.jsonl")
        self.drain_s = 0.0  # when the load ended, epoch seconds
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
        if self.options.store == "postgres":
            self.database = self._stack.enter_context(Database())
        self.buses = [self._bus(number + 1) for number in range(self.options.workers)]
        for bus in self.buses:  # all at once: whoever is first makes the tables
            self._run(bus)
        for bus in self.buses:
            bus.wait_ready()
        self.agents = {
            name: Child(name, words, self.environment, self.folder) for name, words in self.scene.agents.items()
        }
        for agent in self.agents.values():
            self._run(agent)
        for agent in self.agents.values():
            agent.wait_ready()
        queues = {place: f"{self.namespace}.{queue}" for place, queue in self.scene.sinks.items()}
        self.sinks = Sinks(self.bus_url, queues)
        self.sinks.start()
        self._stack.callback(self.sinks.stop, 0.0)
        self.producers = [self._producer(f"p{number}") for number in range(self.options.producers)]

    def _bus(self, number: int) -> Bus:
        words = (*self.options.launcher, "run", str(self.scene.routes), "--output", "json")
        name = "bus" if self.options.workers == 1 else f"bus-{number}"
        if self.database is None:
            return Bus(name, words, self.environment, self.folder)
        server = self.database.server
        wire = self._stack.enter_context(Wire("127.0.0.1", server.port))
        return Bus(
            name, words, {**self.environment, "BUS_STORE": server.url_at(wire.port)}, self.folder, store_wire=wire
        )

    def _run(self, child: Child) -> None:
        self._stack.callback(child.stop)
        child.start()

    def _producer(self, name: str) -> Producer:
        options = self.options
        load, rate = self.scene.load(options, name), options.rate / options.producers
        return Producer(self.agent_url, naming.ingress_exchange(self.namespace), load, rate)

    @property
    def environment(self) -> dict[str, str]:
        """Of the bus and of the agents, each with a wire of its own to the broker."""
        broken = self.options.launcher != BUS  # of compiled modules no method can be replaced
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUS_")},
            "BUS_AMQP_URL": _through(self.wire, self.bus_url),
            "BUS_AGENT_AMQP_URL": _through(self.agent_wire, self.agent_url),
            "BUS_NAMESPACE": self.namespace,
            "BUS_HOME": str(self.folder / "home"),
            "BUS_PREFETCH": str(random.Random(self.options.seed).choice(PREFETCHES)),
            "BUS_PARTITIONS": str(PARTITIONS),
            "BUS_IDENTITY": "shared",
            "BUS_EXPRESS": "off" if broken else os.environ.get("BUS_EXPRESS", ""),
            "CHAOS_EFFECTS": str(self.folder / "effects.jsonl"),
            "GATHER_GATE": str(self.folder / "gate"),
        }

    @property
    def has(self) -> frozenset[str]:
        """What faults may need: see `Fault.needs`."""
        found = {"node"} if self.node is not None else set()
        found |= {"crew"} if len(self.buses) > 1 else set()
        if self.database is not None:
            found |= {"database", "disk"} if self.database.can_fill else {"database"}
        return frozenset(found)

    def log(self) -> Log:
        """The bus's log as it stands, for reading."""
        if self.database is None:
            return SqliteLog(self.folder / "home" / "bus.db")
        return PostgresLog(self.database.server.url, self.namespace, self.folder / "home")

    def remembered(self, kind: str = "") -> int:
        """Rows of runs of routes with memory, and of what they share, in the store as it stands.

        Args:
            kind: what their keys begin with.
        """
        where = f"WHERE key LIKE '{kind}%' AND key <> '{ARRIVED}'"
        if self.database is not None:
            rows = self.database.server.execute(f'SELECT count(*) FROM "{self.namespace}".state {where}')
            return int(rows[0][0])
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/home/bus.db?mode=ro", uri=True)) as db:
            return int(db.execute(f"SELECT count(*) FROM state {where}").fetchone()[0])

    def a_bus(self) -> Bus:
        """One of the bus processes, noted in the timeline."""
        bus = self.chance.choice(self.buses)
        self.note("chosen", bus=bus.name, pid=bus.pid)
        return bus

    def owners(self) -> dict[int, Bus | None]:
        """Who leases each partition; None: a process that is gone. Only with a database."""
        assert self.database is not None
        by_pid = {bus.pid: bus for bus in self.buses}
        return {partition: by_pid.get(pid) for partition, pid in self.database.owners(self.namespace).items()}

    def an_owner(self) -> Bus:
        """One of the bus processes that have a partition, when it can be told; noted in the timeline."""
        owning = {} if self.database is None else {bus.name: bus for bus in self.owners().values() if bus is not None}
        if not owning:
            return self.a_bus()
        bus = owning[self.chance.choice(sorted(owning))]
        self.note("chosen", bus=bus.name, pid=bus.pid)
        return bus

    def mend(self) -> None:
        """Let everything pass all wires again."""
        for wire in (self.wire, self.agent_wire, *(bus.store_wire for bus in self.buses)):
            if wire is not None:
                wire.mend()

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
