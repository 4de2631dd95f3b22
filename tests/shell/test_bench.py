"""What benchmarks compute: who sends what when, percentiles, scenes with ever more routes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import bootstrap
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
