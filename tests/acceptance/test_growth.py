"""A namespace grows under load, on a real broker, also through kill -9: nothing lost or doubled, order is kept."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bus.core.ingress import Ingress
from bus.core.naming import capability_queue
from bus.shell.history import History
from bus.shell.postgres_log import PostgresLog
from bus.shell.probe import connection, queue_states
from bus.shell.sqlite_log import SqliteLog
from tests.acceptance.crew import Crew, passing, traffic, wait_for
from tests.acceptance.live import HELLO, LiveBus, event
from tests.conftest import TestBroker
from tests.postgres_server import shared_server

CONVERSATIONS = 150


@pytest.fixture(params=["sqlite", "postgres"])
def live(request: pytest.FixtureRequest, broker: TestBroker, namespace: str, tmp_path: Path) -> LiveBus:
    store = shared_server().url if request.param == "postgres" else ""
    bus = LiveBus(HELLO, tmp_path / "home", namespace, broker.bus_url, broker.agent_url, store=store)
    bus.home.mkdir()
    return bus


def history(live: LiveBus) -> History:
    if live.store:
        return History(PostgresLog(live.store, live.namespace, live.home))
    return History(SqliteLog(live.home / "bus.db"))


def ingress(live: LiveBus) -> Ingress:
    with contextlib.closing(history(live)) as log:
        return log.ingress()


def growing(live: LiveBus, partitions: int) -> Iterator[dict[str, object]]:
    """Run the command, and yield what it says as it says it."""
    words = [sys.executable, "-m", "bus", "topology", "grow", "--partitions", str(partitions), "--output", "json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=live.environment) as process:
        assert process.stdout is not None
        yield from map(json.loads, process.stdout)
    assert process.returncode == 0


def test_it_grows_under_load_through_kills_and_grows_again(
    live: LiveBus, crew: Crew, record_property: Callable[[str, object], None]
) -> None:
    workers = 2 if live.store else 1
    for _ in range(workers):
        crew.start()
    assert ingress(live) == Ingress((4,))
    with traffic(live, CONVERSATIONS) as (load, sink):
        passing(sink, 500)
        for partitions, kill_when in ((8, "draining"), (12, "noted"), (14, "never")):
            for said in growing(live, partitions):
                if said["state"] == kill_when:
                    crew.members[-1].send_signal(signal.SIGKILL)
                    crew.members[-1].wait()
                    crew.start()
                    kill_when = "never"
            assert said == {"state": "done", "partitions": partitions}
            assert kill_when == "never"
            assert (ingress(live).last.size, ingress(live).growing) == (partitions, False)
            passing(sink, 1000)
        total = sum(map(len, load.sent.values()))
    record_property("messages", total)
    longest = max(later - at for rows in sink.first.values() for (at, _), (later, _) in itertools.pairwise(rows))
    record_property("longest wait of a conversation, s", round(longest, 1))
    repeats = [number for numbers in load.sent.values() for number in numbers[:2]]
    for number in repeats:  # of both earlier generations; their sender may not have had the confirm
        conversation = f"c{number % CONVERSATIONS}"
        body = event("hello.asked", {"name": str(number)}, f"m{number}", conversationid=conversation)
        live.publish(body, key=conversation)
    live.publish(event("hello.asked", {"name": "end"}, "end", conversationid="end"), key="end")
    queue = capability_queue(live.namespace, "greeting")
    with connection(live.bus_url) as opened, contextlib.closing(history(live)) as log:
        wait_for(lambda: log.ends(len(repeats) + 1).get("duplicate", 0) == len(repeats))
        state = queue_states(opened, [queue])[queue]
        assert state is not None
        assert state.depth == 1  # the one at the end


def test_the_command_says_what_it_does_not_do(live: LiveBus) -> None:
    def said(*words: str, code: int) -> str:
        done = live.command(*words)
        assert done.returncode == code, done
        return done.stderr

    assert "start the bus once" in said("topology", "grow", "--partitions", "8", code=3)
    live.start(BUS_PARTITIONS="3")
    assert "leave them, or give a new bus a --namespace" in said("topology", "grow", "--partitions", "2", code=2)
    noted = live.command("topology", "grow", "--partitions", "6", "--no-wait", "--output", "json")
    assert [json.loads(line) for line in noted.stdout.splitlines()] == [{"state": "noted", "from": 3, "to": 6}]
    assert "bus topology grow --partitions 9" in said("topology", "plan", str(live.folder), "--partitions", "9", code=2)
    wait_for(lambda: ingress(live) == Ingress((3, 6), serving=1))
    live.stop()
    refused = live.command("run", str(live.folder), "--partitions", "9")
    assert (refused.returncode, "while the bus runs" in refused.stderr) == (2, True)
    live.start(BUS_PARTITIONS="3")  # right once: a restart must not fail because of it
    assert "there are 6 by now" in (live.home / "bus.log").read_text()
    assert "missing" not in live.command("topology", "plan", str(live.folder), "--output", "text").stdout
    live.stop()
