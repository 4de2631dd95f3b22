"""A cluster of three broker nodes that are killed under load, by name only: a start takes half a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster import Cluster
from tests.chaos.options import Options
from tests.chaos.run import run


@pytest.mark.long
def test_nodes_of_a_cluster_are_killed_and_nothing_is_lost_doubled_or_reordered(tmp_path: Path) -> None:
    options = Options(
        seed=3, kills=100, minutes=1.0, faults=("node-kill", "kill", "duplicates"), keep=tmp_path / "evidence"
    )
    with Cluster(tmp_path / "cluster", 3) as cluster:
        report = run(options, cluster)
        members = cluster.members()
    assert report.good, (report.shown, report.examples, report.remarks, str(report.evidence))
    assert report.shown["faults"]["node-kill"] >= 1
    assert set(members) == {3}  # every queue was on all nodes, so that each kill was one of a minority
