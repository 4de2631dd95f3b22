"""Fixtures that every area shares: one private RabbitMQ node for the whole run, and a namespace for each test.

`AGENTBUS_TEST_BROKER=<bus_url>,<agent_url>` uses a broker that is already there (it needs the rabbitmq_sharding plugin
and the policies of `bus topology export`). `bus_url` needs every right.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from bus.core.errors import Unreachable
from bus.shell.broker import start_broker

# A busy machine is no failure: what is slow shows in benchmarks, as a ratio.
hypothesis.settings.register_profile("agentbus", deadline=None)
hypothesis.settings.load_profile("agentbus")


@dataclass(frozen=True, slots=True)
class TestBroker:
    """URLs of the broker that tests run on; `home` is its folder when it is a private node."""

    __test__ = False

    bus_url: str
    agent_url: str
    home: Path | None = None


@pytest.fixture(scope="session")
def broker() -> Iterator[TestBroker]:
    """A real RabbitMQ: skipped where none is installed, but a failure where `CI=true`."""
    given = os.environ.get("AGENTBUS_TEST_BROKER")
    if given:
        bus_url, _, agent_url = given.partition(",")
        yield TestBroker(bus_url, agent_url or bus_url)
        return
    home = Path(tempfile.mkdtemp(prefix="agentbus-test-"))
    try:
        node = start_broker(home, progress=lambda _text: None)
    except Unreachable as error:
        shutil.rmtree(home, ignore_errors=True)
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    try:
        yield TestBroker(node.bus_url, node.agent_url, home)
    finally:
        node.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return f"t{secrets.token_hex(5)}"


def pytest_configure() -> None:
    """Have SIGINT end what tests start: a shell's `&` has it ignored, by us and by all that we start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured with `record_property`: shares of public corpora, for one."""
    reports = [each for outcome in ("passed", "failed") for each in terminalreporter.stats.get(outcome, [])]
    rows = [(each.nodeid, each.user_properties) for each in reports if each.when == "call" and each.user_properties]
    if rows:
        terminalreporter.section("measured")
    for node, properties in rows:
        terminalreporter.write_line(f"{node}: " + ", ".join(f"{name} {value}" for name, value in properties))
