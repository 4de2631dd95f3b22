"""`python -m tests.chaos.gather`: see README.md in the folder above."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.chaos.children import interruptible
from tests.chaos.gather.run import FILL_PER_S, gather
from tests.chaos.options import Options


def main() -> int:
    """Parse the arguments, run, print; returns 0 when each run was composed exactly once."""
    interruptible()
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.gather", description="Open many runs at once, kill on the way, count results."
    )
    parser.add_argument("--runs", type=int, default=10_000, help="open at the same time")
    parser.add_argument("--kills", type=int, default=20, help="of the bus and of agents, half before any answer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the evidence")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    given = parser.parse_args()
    if given.workers < 1 or (given.store == "sqlite" and given.workers > 1):
        sys.stderr.write("several workers need a store that they can share; write --store postgres, or --workers 1\n")
        return 2
    options = Options(
        seed=given.seed, kills=given.kills, rate=FILL_PER_S, producers=1, store=given.store, workers=given.workers,
        keep=given.keep,
    )  # fmt: skip
    result = gather(given.runs, options)
    shown = dict(result.shown)
    if result.remarks:
        shown["remarks"] = result.remarks
    if not result.good:
        shown["evidence"] = str(result.evidence)
    if given.output == "json":
        print(json.dumps(shown))
    else:
        print("\n".join(f"{name:18} {value}" for name, value in shown.items()))
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
