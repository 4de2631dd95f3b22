"""Prove that the harness goes red: it is run against every broken rule, and must say so; and green with none broken.

python -m tests.chaos.sabotage [TRIAL ...]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.broken_bus import NONE
from tests.chaos.children import interruptible
from tests.chaos.node import Node
from tests.chaos.options import Options
from tests.chaos.run import Report, run


@dataclass(frozen=True, slots=True)
class Trial:
    """Args:
    faults: that bring a broken rule to light.
    counters: of which at least one must not be 0; without any, all must be.
    rule: that is broken, where it is not the trial's name.
    workers: more than one share a store in PostgreSQL.
    """

    faults: tuple[str, ...]
    counters: tuple[str, ...]
    kills: int = 6
    rule: str = ""
    workers: int = 1


TRIALS: Mapping[str, Trial] = {
    NONE: Trial(("kill", "failpoint", "lost-publishes", "full-queue", "duplicates"), ()),
    "ack-before-confirm": Trial(("lost-publishes", "kill"), ("lost", "audit_missing")),
    "skip-the-inbox": Trial(("kill", "duplicates"), ("duplicated_effects",), kills=2),
    "re-evaluate": Trial(("kill", "failpoint"), ("duplicated_effects",)),
    "publish-before-commit": Trial(("kill",), ("duplicated_effects", "audit_missing")),
    "overtake-the-held": Trial(("full-queue",), ("order_violations",)),
    "forget-the-runs": Trial(("kill",), ("lost",), kills=2),
    "ignore-the-turns": Trial(("kill",), ("order_violations",), kills=1),
    "crew: none": Trial(("worker-kill", "worker-pause", "commit-cut", "duplicates"), (), rule=NONE, workers=2),
    "crew: re-evaluate": Trial(("worker-kill", "commit-cut"), ("duplicated_effects",), rule="re-evaluate", workers=2),
}

SEED, MINUTES = 11, 0.4


def attempt(name: str, node: Node) -> Report:
    """Run the harness on a bus with a rule broken."""
    trial = TRIALS[name]
    options = Options(
        seed=SEED, kills=trial.kills, minutes=MINUTES, faults=trial.faults, quiet_s=15.0,
        launcher=("-m", "tests.chaos.broken_bus", trial.rule or name),
        workers=trial.workers, store="postgres" if trial.workers > 1 else "sqlite",
    )  # fmt: skip
    report = run(options, node)
    shutil.rmtree(report.evidence, ignore_errors=True)
    return report


def judged_right(name: str, report: Report) -> bool:
    """Whether one of the counters that the trial must move has moved, or none where nothing is broken."""
    counters = TRIALS[name].counters
    return any(report.verdict.counts[name] for name in counters) if counters else report.good


def main(names: list[str]) -> int:
    """Do the trials; returns 0 when all of them were judged right."""
    interruptible()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="agentbus-sabotage-") as home, Node(Path(home)) as node:
        for name in names:
            report = attempt(name, node)
            right = judged_right(name, report)
            said = ("found out" if TRIALS[name].counters else "passed") if right else "WRONG"
            counts = ", ".join(f"{counter} {count}" for counter, count in report.verdict.counts.items())
            print(f"{said:9}  {name:22} {counts}, kills {report.shown['kills']}", flush=True)
            wrong += [] if right else [name]
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.sabotage", description=__doc__)
    parser.add_argument("trial", nargs="*", help=f"without one, all of them: {', '.join(TRIALS)}")
    asked = parser.parse_args().trial
    if strange := [each for each in asked if each not in TRIALS]:
        parser.error(f"there is no trial `{strange[0]}`; write some of {', '.join(TRIALS)}")
    sys.exit(main(asked or list(TRIALS)))
