"""The comparison with peers runs, small, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.bench.peers.__main__ import PEERS, ROOT
from tests.conftest import TestBroker


@pytest.mark.long  # installs the peers' packages
def test_every_peer_relays_everything(broker: TestBroker) -> None:
    command = [sys.executable, "-m", "tests.bench.peers", "--messages", "200", "--repeat", "2", "--output", "json"]
    ran = subprocess.run(
        [*command, "--amqp-url", broker.bus_url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert [row["peer"] for row in result["peers"]] == list(PEERS)
    assert all(row["times"] > 0 and len(row["runs"]) == 2 for row in result["peers"])
