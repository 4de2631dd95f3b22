"""The bus over PostgreSQL: the same promises, when the bus is killed and when the database is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.shell.history import History
from bus.shell.postgres_log import PostgresLog
from tests.acceptance.live import HELLO, LiveBus, event
from tests.acceptance.test_bus import asking
from tests.conftest import TestBroker
from tests.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    made = PostgresServer()
    yield made
    made.close()


@pytest.fixture
def live(broker: TestBroker, namespace: str, server: PostgresServer, tmp_path: Path) -> Iterator[LiveBus]:
    bus = LiveBus(HELLO, tmp_path / "home", namespace, broker.bus_url, broker.agent_url, server.url)
    bus.start()
    yield bus
    bus.stop()


def test_killed_in_the_middle_nothing_is_lost_and_nothing_answered_twice(live: LiveBus, server: PostgresServer) -> None:
    answers: dict[str, Any] = {}
    asking(live, 200, answers, after=30)
    assert {number: data for number, (_, data) in answers.items()} == {
        str(number): {"text": f"Hello {number}"} for number in range(200)
    }
    assert live.stop() == 0
    history = History(PostgresLog(server.url, live.namespace, live.home))
    ends = history.ends()
    history.close()
    assert ends["routed"] == 400
    assert not {"dead_letter", "invalid", "superseded"} & set(ends)
    given = {identity for identity, _ in answers.values()}
    assert {properties.message_id for properties, _ in live.queue("agent.desk")} <= given
    assert not (live.home / "bus.db").exists()


def test_what_came_while_the_database_was_dead_is_done_afterwards(live: LiveBus, server: PostgresServer) -> None:
    server.kill()
    live.publish(event("hello.asked", {"name": "Ada"}, "late-1"), key="late-1")
    time.sleep(0.5)
    server.start()
    live.kill()
    live.start()
    answers: dict[str, Any] = {}
    asking(live, 3, answers)
    assert len(answers) == 3
    traced = live.command("trace", "late-1", "--output", "text").stdout
    assert "hello.asked  desk -> route hello/hello" in traced
