"""The scenario to live by, as `deploy/run` plays it: real agents, a real broker, and a bus killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bus.audit.trace import Leg, Node, trace_tree
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from tests.conftest import TestBroker

ROOT = Path(__file__).parents[2]
INQUIRIES = 150
KILL_AFTER = 30


def legs(node: Node) -> Iterator[Leg]:
    """All outputs of a message, and of those below it."""
    for leg in node.legs:
        yield leg
        for answer in leg.answers:
            yield from legs(answer)


def test_every_inquiry_is_answered_once_though_the_bus_is_killed(
    broker: TestBroker, namespace: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "BUS_AMQP_URL": broker.bus_url,
        "BUS_AGENT_AMQP_URL": broker.agent_url,
        "BUS_NAMESPACE": namespace,
        "BUS_IDENTITY": "shared",
    }
    home = tmp_path / "home"
    command = [sys.executable, "-m", "bus", "job", "--once", "--limit", str(INQUIRIES), "--output", "json",
               "--home", str(home)]  # fmt: skip
    answers: list[dict[str, Any]] = []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        for line in job.stdout:
            answers.append(json.loads(line))
            if len(answers) == KILL_AFTER:
                os.kill(int((home / "log" / "bus.pid").read_text()), signal.SIGKILL)
    summary = answers.pop()
    assert job.returncode == 0, summary
    expected = {"answered": INQUIRIES, "lost": 0, "duplicates": 0, "dead_lettered": 0, "invalid": 0, "bus_restarts": 1}
    assert {name: summary[name] for name in expected} == expected
    log = History(SqliteLog(home / "bus.db"))
    for answer in (answers[0], answers[KILL_AFTER], answers[-1]):
        assert answer["intent"]
        assert not answer["missing"]
        records = log.conversation(answer["conversation"])
        (root,) = trace_tree(records, log.fates(records))
        assert root.record.route == "customer_service/inquiry-intake"
        assert all(leg.answers for leg in root.legs)
        # The specialists are asked by the inquiry; what follows stands below the last of their answers.
        requests = sorted(leg.output.name for leg in legs(root) if leg.output.kind == "capability")
        assert requests == ["knowledge", "response", "sentiment", "understanding"]
