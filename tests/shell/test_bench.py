"""What benchmarks compute: who sends what when, percentiles, scenes with ever more routes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bus import bootstrap
from bus.shell.bench.cores import Cores, CoreTimes
from bus.shell.bench.load import ORDER, order
from bus.shell.bench.pace import Pace, percentile
from bus.shell.bench.scene import other, with_others, write_scene


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.9, 9), (0.91, 10), (0.999, 10), (0.01, 1)])
def test_percentiles_are_nearest_ranks(share: float, value: int) -> None:
    assert percentile([*range(10, 0, -1)], share) == value


def test_both_ways_take_turns_and_count_alike() -> None:
    pace = Pace("ns", 100, slices=4)
    counted = [pace.mediated(number) for number in range(pace.count) if pace.counts(number)]
    assert pace.count == 300
    assert len(counted) == 200
    assert counted[:50] == [False] * 50
    assert counted[50:100] == [True] * 50
    assert sum(counted) == 100


def test_where_the_cores_time_went(tmp_path: Path) -> None:
    def write(machine: str, broker: tuple[int, int], own: tuple[int, int]) -> None:
        (tmp_path / "stat").write_text(f"cpu  {machine} 0 0\ncpu0 1 2 3\n")
        for pid, (user, system) in ((77, broker), (os.getpid(), own)):
            (tmp_path / str(pid)).mkdir(exist_ok=True)
            (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) S {'0 ' * 10}{user} {system} 0 0 20")

    times = CoreTimes(77, tmp_path)
    assert times.look() is None
    write("100 10 50 1000 5 1 2 3", (60, 20), (30, 10))
    before = times.look()
    write("400 10 150 1100 25 11 12 13", (260, 60), (80, 30))
    after = times.look()
    assert before is not None
    assert after is not None
    ticks = Cores(*(each * os.sysconf("SC_CLK_TCK") for each in after.since(before)))
    assert ticks == pytest.approx(Cores(broker=240, own=70, others=110, idle=120, stolen=10))


def test_a_message_is_about_600_bytes() -> None:
    assert 550 < len(order("run", 1234)) < 650


@pytest.mark.parametrize("others", [2, 7])
def test_a_scene_made_of_another_is_like_one_written_so(tmp_path: Path, others: int) -> None:
    loaded, written = (
        bootstrap.table(bootstrap.load([write_scene(tmp_path / str(count), count)])).catalog for count in (3, others)
    )
    made = with_others(loaded, others)
    assert [(each.name, each.match.types) for each in made.routes] == [
        (each.name, each.match.types) for each in written.routes
    ]
    assert set(made.types) == set(written.types) == {ORDER, *(other(number)[1] for number in range(others))}
    assert set(made.agents["shop"].publishes) == set(written.agents["shop"].publishes)
