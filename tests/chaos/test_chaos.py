"""The harness itself against the bus: a short run with every `deploy/test`, and long ones by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import ALL
from tests.chaos.node import Node
from tests.chaos.options import Options
from tests.chaos.run import run
from tests.chaos.sabotage import TRIALS, attempt, judged_right
from tests.conftest import TestBroker

SHORT = ("kill", "handover", "failpoint", "cut", "lost-confirms", "lost-publishes", "agent-after-reply", "duplicates")
# seed 2417 begins with a pause in the middle of a commit, and a commit of which the answer is lost and the worker dies
SHORT_CREW = (
    "worker-kill",
    "worker-pause",
    "commit-cut",
    "postgres-outage",
    "failpoint",
    "lost-confirms",
    "duplicates",
)


def test_killed_and_cut_nothing_is_lost_doubled_reordered_or_unrecorded(broker: TestBroker, tmp_path: Path) -> None:
    options = Options(
        seed=7, kills=5, minutes=0.13, faults=SHORT, rate=120.0, keep=tmp_path / "evidence",
        pause_s=(0.1, 0.8), broker=(broker.bus_url, broker.agent_url),
    )  # fmt: skip
    report = run(options)
    assert report.good, (report.shown, report.examples, report.remarks, str(report.evidence))
    assert report.shown["kills"] >= 1  # the first fault of this seed; on a busy machine there may be no time for more
    assert report.shown["confirmed"] > 300
    assert report.shown["delivered"] > report.shown["confirmed"]


def test_two_workers_on_postgresql_that_are_killed_paused_and_cut_off_keep_the_promise(
    broker: TestBroker, tmp_path: Path
) -> None:
    options = Options(
        seed=2417, kills=2, minutes=0.13, faults=SHORT_CREW, rate=120.0, store="postgres", workers=2,
        keep=tmp_path / "evidence", pause_s=(0.1, 0.8), broker=(broker.bus_url, broker.agent_url),
    )  # fmt: skip
    report = run(options)
    assert report.good, (report.shown, report.examples, report.remarks, str(report.evidence))
    assert report.shown["faults"]["worker-pause in a commit"] == 1  # the first fault of this seed
    assert report.shown["confirmed"] > 300
    assert report.shown["delivered"] > report.shown["confirmed"]


@pytest.mark.long
@pytest.mark.parametrize(("store", "workers"), [("sqlite", 1), ("postgres", 3)])
def test_every_fault_for_five_minutes(store: str, workers: int, tmp_path: Path) -> None:
    options = Options(
        seed=20, kills=100, minutes=5.0, faults=ALL, store=store, workers=workers, keep=tmp_path / "evidence"
    )
    report = run(options)
    assert report.good, (report.shown, report.examples, report.remarks, str(report.evidence))


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A broker node that may be told that its queues are full."""
    with Node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.mark.long
@pytest.mark.parametrize("trial", TRIALS)
def test_a_bus_with_a_broken_rule_is_found_out_and_a_healthy_one_passes(trial: str, own_node: Node) -> None:
    report = attempt(trial, own_node)
    assert judged_right(trial, report), (trial, report.shown)
