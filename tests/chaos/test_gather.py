"""Many runs of a scatter-gather at once, with kills: each is composed exactly once. Short, with every `deploy/test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.broken_bus import NONE
from tests.chaos.gather.check import BAD, check
from tests.chaos.gather.run import FILL_PER_S, Result, gather
from tests.chaos.options import Options
from tests.chaos.sinks import Arrival
from tests.conftest import TestBroker

RUNS = 300


def gathered(broker: TestBroker, folder: Path, rule: str, quiet_s: float = 60.0) -> Result:
    options = Options(
        kills=2, quiet_s=quiet_s, rate=FILL_PER_S, producers=1, keep=folder, broker=(broker.bus_url, broker.agent_url),
        launcher=("-m", "tests.chaos.broken_bus", rule),
    )  # fmt: skip
    return gather(RUNS, options)


def test_hundreds_of_runs_at_once_are_composed_once_each_though_the_bus_dies(
    broker: TestBroker, tmp_path: Path
) -> None:
    result = gathered(broker, tmp_path / "evidence", NONE)
    assert result.good, (result.shown, result.remarks, str(result.evidence))
    assert result.shown["open_at_once"] == RUNS
    assert result.shown["kills"] == 2


@pytest.mark.long
@pytest.mark.parametrize(("rule", "counter"), [("forget-the-runs", "lost"), ("ask-again", "asked_twice")])
def test_a_bus_that_forgets_runs_or_asks_again_is_found_out(
    rule: str, counter: str, broker: TestBroker, tmp_path: Path
) -> None:
    result = gathered(broker, tmp_path / "evidence", rule, quiet_s=8.0)
    assert result.shown[counter] > 0, (result.shown, result.remarks)


def arrival(run: str, id_: str, digest: str = "d", of: str = "") -> Arrival:
    results = ",".join(f'"{name}":{{"run":"{of or run}","by":"{name}"}}' for name in ("one", "two", "three"))
    return Arrival("collector", id_, "", digest, f'{{"data":{{"run":"{run}","results":{{{results}}}}}}}'.encode(), {})


@pytest.mark.parametrize(
    ("arrivals", "logged", "left", "bad"),
    [
        ([arrival("a", "1"), arrival("a", "1"), arrival("b", "2")], ["1", "2"], 0, {}),
        ([arrival("a", "1")], [], 0, {"lost": 1}),
        ([arrival("a", "1"), arrival("a", "3"), arrival("b", "2")], [], 0, {"twice": 1}),
        ([arrival("a", "1"), arrival("a", "1", "e"), arrival("b", "2")], [], 0, {"wrong": 1}),
        ([arrival("a", "1"), arrival("b", "2", of="a")], [], 0, {"wrong": 1}),
        ([arrival("a", "1"), arrival("b", "2")], ["1", "2", "2"], 0, {"asked_twice": 1}),
        ([arrival("a", "1"), arrival("b", "2")], [], 3, {"left_remembered": 3}),
    ],
)
def test_each_fault_turns_its_own_counter(
    arrivals: list[Arrival], logged: list[str], left: int, bad: dict[str, int]
) -> None:
    counts = check({"a", "b"}, arrivals, logged, left)
    assert {name: counts[name] for name in BAD if counts[name]} == bad
