"""A live bus for the acceptance tests: `bus run` as a process of its own, and what stands around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pika

from adapters import Agent
from adapters.link import AmqpLink
from bus.core.message import Json, Message
from bus.core.naming import ingress_exchange
from bus.settings import Settings

HELLO = Path(__file__).parent / "hello"


class LiveBus:
    """Args:
    folder: the integration.
    home: for the store and state.
    namespace: its own.
    bus_url, agent_url: the broker.
    store: PostgreSQL URL; "" is a file in `home`.
    """

    def __init__(self, folder: Path, home: Path, namespace: str, bus_url: str, agent_url: str, store: str = "") -> None:
        self.store = store
        self.folder, self.home, self.namespace = folder, home, namespace
        self.bus_url, self.agent_url = bus_url, agent_url
        self.metrics_port = 0
        self.options: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUS_")},
            "BUS_AMQP_URL": self.bus_url,
            "BUS_AGENT_AMQP_URL": self.agent_url,
            "BUS_NAMESPACE": self.namespace,
            "BUS_HOME": str(self.home),
            "BUS_IDENTITY": "shared",
            "BUS_STORE": self.store,
        }

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    def start(self, **environment: str) -> dict[str, Any]:
        """Start it and wait until it takes messages; returns what it said then."""
        self.begin(**environment)
        return self.hear("ready")

    def begin(self, *words: str, **environment: str) -> None:
        """Start it, with more words on its command line."""
        self.home.mkdir(exist_ok=True)
        log = (self.home / "bus.log").open("a")
        command = [sys.executable, "-m", "bus", "run", str(self.folder), *words, "--output", "json", *self.options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**self.environment, **environment}
        )

    def hear(self, event: str) -> dict[str, Any]:
        """Wait until it says this; returns what it said with it."""
        assert self._process is not None
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            said: dict[str, Any] = json.loads(line)
            self.metrics_port = said.get("metrics_port") or self.metrics_port
            if said.get("event") == event:
                return said
        raise AssertionError(f"the bus ended without `{event}`: {(self.home / 'bus.log').read_text()[-3000:]}")

    def readiness(self) -> tuple[int, str]:
        """Status and text of `/readyz`."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/readyz", timeout=5) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """SIGTERM, and the exit code; 0 when it was never started."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout=30)

    def command(self, *arguments: str, input_: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a `bus` command against it."""
        return subprocess.run(
            [sys.executable, "-m", "bus", *arguments],
            capture_output=True, text=True, env=self.environment, input=input_, timeout=60, check=False,
        )  # fmt: skip

    def publish(self, body: bytes, *, key: str = "k", **properties: Any) -> None:
        """Publish bytes to the ingress as an agent would, confirmed."""
        properties.setdefault("content_type", "application/cloudevents+json")
        connection = pika.BlockingConnection(pika.URLParameters(self.agent_url))
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            made = pika.BasicProperties(delivery_mode=2, user_id="agents", **properties)
            channel.basic_publish(ingress_exchange(self.namespace), key, body, made, mandatory=True)
        finally:
            connection.close()

    def queue(self, name: str) -> list[tuple[Any, bytes]]:
        """Take what lies in a queue of the namespace: (properties, body), oldest first."""
        connection = pika.BlockingConnection(pika.URLParameters(self.bus_url))
        taken = []
        try:
            channel = connection.channel()
            while (got := channel.basic_get(f"{self.namespace}.{name}", auto_ack=True))[0] is not None:
                taken.append((got[1], got[2]))
        finally:
            connection.close()
        return taken

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def event(type_: str, data: Json, id_: str, **attributes: Any) -> bytes:
    """A structured CloudEvent of the agent `desk`."""
    return orjson.dumps({"specversion": "1.0", "id": id_, "source": "desk", "type": type_, **attributes, "data": data})


def ask_by_turns(live: LiveBus, count: int) -> dict[str, list[str]]:
    """Ask for greetings numbered from 0 in three conversations; returns what each must bring, as `arrivals` does."""
    asked: dict[str, list[str]] = {}
    for number in range(count):
        conversation = f"c{number % 3}"
        live.publish(
            event("hello.asked", {"name": str(number)}, f"m{number}", conversationid=conversation), key=conversation
        )
        asked.setdefault(conversation, []).append(str(number))
    return asked


def arrivals(live: LiveBus, count: int) -> dict[str, list[str]]:
    """Take `count` requests from the capability `greeting`: names by conversation, the first of each id, in order."""
    first: dict[str, tuple[str, str]] = {}
    deadline = time.monotonic() + 60
    while len(first) < count and time.monotonic() < deadline:
        for properties, body in live.queue("capability.greeting"):
            said = orjson.loads(body)
            first.setdefault(properties.message_id, (said["conversationid"], said["data"]["name"]))
        time.sleep(0.05)
    got: dict[str, list[str]] = {}
    for conversation, name in first.values():
        got.setdefault(conversation, []).append(name)
    return got


async def playing(live: LiveBus, agents: dict[str, Agent], act: Callable[[dict[str, Agent]], Awaitable[None]]) -> None:
    """Run agents, and `act` once all of them are connected and consuming."""
    ready = {name: asyncio.Event() for name in agents}
    serving = [
        asyncio.create_task(agent.serve(AmqpLink(live.settings, name), live.settings, ready[name].set))
        for name, agent in agents.items()
    ]
    try:
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in ready.values())), 30)
        await asyncio.wait_for(act(agents), 90)
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def greeter() -> Agent:
    """Greets by name, at once."""
    agent = Agent("greeter", concurrency=64)

    @agent.capability("greeting")
    async def greet(request: Message) -> dict[str, Json]:
        assert isinstance(request.data, dict)
        return {"text": f"Hello {request.data['name']}"}

    return agent
