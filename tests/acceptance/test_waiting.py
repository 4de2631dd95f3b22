"""What is down is waited for, and said; what waiting cannot mend is said at once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.live import HELLO, LiveBus, event
from tests.acceptance.test_bus import asking
from tests.conftest import TestBroker
from tests.postgres_server import PostgresServer
from tests.proxy import Proxy

PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def through(url: str, *ports: int) -> str:
    """A URL that leads to these ports instead."""
    parts = urlsplit(url)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@{hosts}").geturl()


def answered(live: LiveBus) -> bool:
    answers: dict[str, Any] = {}
    asking(live, 3, answers)
    return len(answers) == 3


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    made = PostgresServer()
    yield made
    made.close()


@pytest.fixture
def bus(broker: TestBroker, namespace: str, tmp_path: Path) -> Iterator[LiveBus]:
    """Not started."""
    made = LiveBus(HELLO, tmp_path / "home", namespace, broker.bus_url, broker.agent_url)
    yield made
    made.stop()


def test_a_bus_waits_for_its_broker_and_says_so(bus: LiveBus, broker: TestBroker) -> None:
    at, target = free_port(), urlsplit(broker.bus_url)
    bus.bus_url, good = through(broker.bus_url, at), bus.bus_url
    bus.begin()
    said = bus.hear("waiting")
    assert f"127.0.0.1:{at}" in said["reason"]
    assert bus.readiness() == (503, f"waiting: {said['reason']}\n")
    with Proxy(str(target.hostname), target.port or 0, at):
        bus.hear("ready")
        assert bus.readiness() == (200, "ok\n")
        bus.bus_url = good
        assert answered(bus)
        assert bus.stop() == 0
    assert (
        '"level": "WARNING", "logger": "bus", "message": "waiting: no broker answers'
        in (bus.home / "bus.log").read_text()
    )


def test_a_bus_waits_for_its_database_and_a_tap_goes_on(bus: LiveBus, server: PostgresServer) -> None:
    bus.store = server.url
    server.stop()
    bus.begin()
    assert f"127.0.0.1:{server.port}" in bus.hear("waiting")["reason"]
    assert bus.readiness()[0] == 503
    server.start()
    bus.hear("ready")
    tap = subprocess.Popen(
        [sys.executable, "-m", "bus", "tap", "--output", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=bus.environment,
    )  # fmt: skip
    assert tap.stdout is not None
    assert tap.stderr is not None
    try:
        bus.publish(event("hello.noted", {}, "before"), key="before")
        assert "before" in tap.stdout.readline()
        server.stop()
        assert "waiting: postgresql://127.0.0.1" in tap.stderr.readline()
        server.start()
        bus.publish(event("hello.noted", {}, "after"), key="after")
        assert "after" in tap.stdout.readline()
    finally:
        tap.send_signal(signal.SIGINT)
        tap.communicate(timeout=30)
    assert tap.returncode == 130


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("password", "check user, password and virtual host in the URL"),
        ("vhost", "vhost nope not found"),
        ("url", "write amqp://USER:PASSWORD@HOST"),
        ("user", 'role "nobody" does not exist'),
        ("database", 'database "nope" does not exist'),
    ],
)
def test_a_plain_mistake_ends_it_at_once(
    bus: LiveBus, broker: TestBroker, server: PostgresServer, what: str, says: str
) -> None:
    password = str(urlsplit(broker.bus_url).password)
    if what in ("user", "database"):
        bus.store = server.url_at(server.port, "nobody") if what == "user" else server.url.replace("/postgres", "/nope")
    bus.bus_url = {
        "password": broker.bus_url.replace(password, "wrong"),
        "vhost": broker.bus_url.replace("%2F", "nope"),
        "url": "http://127.0.0.1:5672/",
    }.get(what, broker.bus_url)
    began = time.monotonic()
    ended = bus.command("run", str(bus.folder))
    assert ended.returncode == 3, ended.stderr
    assert says in ended.stderr
    assert "waiting" not in ended.stderr
    assert time.monotonic() - began < PATIENCE_S / 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_bus_that_waits_ends_when_it_is_told(bus: LiveBus, number: signal.Signals, code: int) -> None:
    bus.bus_url = through(bus.bus_url, free_port())
    bus.begin()
    bus.hear("waiting")
    assert bus.stop(number) == code
    assert "Traceback" not in (bus.home / "bus.log").read_text()


def test_of_several_hosts_the_bus_and_its_agents_use_one_that_answers(bus: LiveBus, broker: TestBroker) -> None:
    target = urlsplit(broker.bus_url)
    host, port = str(target.hostname), target.port or 0
    with Proxy(host, port) as one:
        two = free_port()
        bus.bus_url = through(broker.bus_url, one.port, two)
        bus.agent_url = through(broker.agent_url, two, one.port)
        bus.start()
        assert answered(bus)
        with Proxy(host, port, two):
            one.__exit__()
            assert answered(bus)
        assert bus.stop() == 0


def test_an_agent_says_that_it_waits_and_for_what(bus: LiveBus) -> None:
    at = free_port()
    bus.agent_url = through(bus.agent_url, at)
    folder = bus.home.parent / "routes" / "one"
    folder.mkdir(parents=True)
    (folder / "integration.yaml").write_text("integration: one\ntypes:\n  some.event: {contract: any}\n")
    (folder / "agents.yaml").write_text(
        "agents:\n  one: {adapter: sdk, run: 'one.py:agent', subscribes: [some.event]}\n"
    )
    (folder / "one.py").write_text("from adapters import Agent\nagent = Agent('one')\n")
    running = subprocess.Popen(
        [sys.executable, "-m", "bus", "agents", "run", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=bus.environment,
    )  # fmt: skip
    assert running.stderr is not None
    try:
        assert f"waiting for the broker at 127.0.0.1:{at}" in running.stderr.readline()
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)


def test_ctrl_c_during_the_imports_is_quiet(tmp_path: Path, bus: LiveBus) -> None:
    slow = tmp_path / "rich_click.py"
    slow.write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    started = subprocess.Popen(
        [sys.executable, "-m", "bus", "lint"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**bus.environment, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == "importing\n"
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=30)
    assert (started.returncode, said) == (130, "")
