"""Prove that the harness goes red: it is run against every broken rule, and must say so; and green with none broken.

python -m tests.chaos.sabotage [RULE ...]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.broken_bus import NONE, RULES
from tests.chaos.children import interruptible
from tests.chaos.node import Node
from tests.chaos.options import Options
from tests.chaos.run import Report, run


@dataclass(frozen=True, slots=True)
class Trial:
    """Args:
    faults: that bring a broken rule to light.
    counters: of which at least one must not be 0; without any, all must be.
    """

    faults: tuple[str, ...]
    counters: tuple[str, ...]
    kills: int = 6


TRIALS: Mapping[str, Trial] = {
    NONE: Trial(("kill", "failpoint", "lost-publishes", "full-queue", "duplicates"), ()),
    "ack-before-confirm": Trial(("lost-publishes", "kill"), ("lost", "audit_missing")),
    "skip-the-inbox": Trial(("kill", "duplicates"), ("duplicated_effects",), kills=2),
    "re-evaluate": Trial(("kill", "failpoint"), ("duplicated_effects",)),
    "publish-before-commit": Trial(("kill",), ("duplicated_effects", "audit_missing")),
    "overtake-the-held": Trial(("full-queue",), ("order_violations",)),
}

SEED, MINUTES = 11, 0.4


def attempt(rule: str, node: Node) -> Report:
    """Run the harness on a bus with this rule broken."""
    trial = TRIALS[rule]
    launcher = ("-m", "tests.chaos.broken_bus", rule)
    options = Options(
        seed=SEED, kills=trial.kills, minutes=MINUTES, faults=trial.faults, launcher=launcher, quiet_s=15.0
    )
    report = run(options, node)
    shutil.rmtree(report.evidence, ignore_errors=True)
    return report


def judged_right(rule: str, report: Report) -> bool:
    """Whether one of the counters that this rule must move has moved, or none where nothing is broken."""
    counters = TRIALS[rule].counters
    return any(report.verdict.counts[name] for name in counters) if counters else report.good


def main(rules: list[str]) -> int:
    """Try the rules; returns 0 when all of them were judged right."""
    interruptible()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="agentbus-sabotage-") as home, Node(Path(home)) as node:
        for rule in rules:
            report = attempt(rule, node)
            right = judged_right(rule, report)
            said = ("found out" if TRIALS[rule].counters else "passed") if right else "WRONG"
            counts = ", ".join(f"{name} {count}" for name, count in report.verdict.counts.items())
            print(f"{said:9}  {rule:22} {counts}, kills {report.shown['kills']}", flush=True)
            wrong += [] if right else [rule]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(RULES)))
