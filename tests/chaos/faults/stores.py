"""Faults of who holds the store."""

from __future__ import annotations

import subprocess
import sys

from tests.chaos.children import PATIENCE_S, ROOT
from tests.chaos.world import World

UNREACHABLE = 3  # exit code of `bus` for a broker or store that cannot be had


def second_store(world: World) -> None:
    """A bus with another store on the namespace, and one more on the same file: both must refuse to start."""
    homes = {"another store": world.folder / "second"}
    if world.database is None:
        homes["the same store"] = world.folder / "home"
    for name, home in homes.items():
        code, said = _started(world, {**world.environment, "BUS_HOME": str(home), "BUS_CONNECT_TIMEOUT_S": "30"})
        refused = code not in (0, None) and ("belongs to store" in said or "holds" in said)
        if code == UNREACHABLE and "belongs to store" not in said and "holds" not in said:
            continue  # the broker was away: nothing is proved either way
        if not refused:
            world.remarks.append(f"a second bus on {name} was not refused: exit {code}, {said[-300:]}")
            world.counts["second-store accepted"] += 1


def _started(world: World, environment: dict[str, str]) -> tuple[int | None, str]:
    words = [sys.executable, "-m", "bus", "run", str(world.scene.routes), "--output", "json"]
    with subprocess.Popen(
        words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=PATIENCE_S / 4)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return None, said
        return process.returncode, said
