"""What benchmarks compute: who sends what when, percentiles, smaller scenes cut out of a large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import bootstrap
from bus.shell.bench.load import ORDER, order
from bus.shell.bench.pace import Pace, percentile
from bus.shell.bench.scene import fewer, other, write_scene


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


def test_a_smaller_scene_is_like_one_written_so(tmp_path: Path) -> None:
    large, small = (
        bootstrap.table(bootstrap.load([write_scene(tmp_path / str(others), others)])).catalog for others in (501, 2)
    )
    cut = fewer(large, 2)
    assert [route.match.types for route in cut.routes] == [route.match.types for route in small.routes]
    assert [route.match.types for route in large.routes[-2:]] == [(other(number)[0],) for number in (499, 500)]
    assert list(cut.types) == list(small.types) == [ORDER, other(0)[1], other(1)[1]]
    assert cut.agents["shop"].publishes == small.agents["shop"].publishes
