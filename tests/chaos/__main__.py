"""`python -m tests.chaos`: see README.md in this folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tests.chaos.children import interruptible
from tests.chaos.faults import ALL, COMING, FAULTS
from tests.chaos.options import Options
from tests.chaos.run import Report, run


def main() -> int:
    """Parse the arguments, run, print; returns the exit code."""
    interruptible()
    given = _parser().parse_args()
    names = ALL if given.faults == "all" else tuple(each for each in given.faults.split(",") if each)
    for name in names:
        if name not in FAULTS:
            coming = f": {name} is not there yet, {COMING[name]}" if name in COMING else ""
            sys.stderr.write(f"there is no fault `{name}`; write some of {', '.join(FAULTS)}{coming}\n")
            return 2
    if given.workers < 1 or (given.store == "sqlite" and given.workers > 1):
        sys.stderr.write("several workers need a store that they can share; write --store postgres, or --workers 1\n")
        return 2
    missing = frozenset() if given.faults == "all" else frozenset[str]().union(*(FAULTS[name].needs for name in names))
    if (missing & {"database", "disk"} and given.store == "sqlite") or ("crew" in missing and given.workers == 1):
        sys.stderr.write("these faults need --store postgres, or --workers 2 or more\n")
        return 2
    broker = None
    if given.broker:
        bus_url, _, agent_url = given.broker.partition(",")
        broker = bus_url, agent_url or bus_url
    options = Options(
        seed=given.seed, kills=given.kills, minutes=given.minutes, faults=names, rate=given.rate,
        store=given.store, workers=given.workers, keep=given.keep, broker=broker,
    )  # fmt: skip
    report = run(options)
    show(report, given.output)
    return 0 if report.good else 1


def show(report: Report, output: str) -> None:
    """Print a report: one JSON object, or lines for people. Examples and evidence only when something is wrong."""
    shown: dict[str, Any] = dict(report.shown)
    if not report.good:
        shown |= {"examples": report.examples, "evidence": str(report.evidence)}
    if report.remarks:
        shown["remarks"] = report.remarks
    if output == "json":
        print(json.dumps(shown, ensure_ascii=False))
        return
    for name, value in shown.items():
        print(f"{name:20} {value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Drive the bus through faults, then judge."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20, help="end the faults after so many kills")
    parser.add_argument("--minutes", type=float, default=5.0, help="end the faults after so long in any case")
    parser.add_argument("--faults", default="all", help=f"comma-separated, or all: {', '.join(FAULTS)}")
    parser.add_argument("--rate", type=float, default=150.0, help="inputs a second")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the evidence, kept in any case")
    parser.add_argument("--broker", help="BUS_URL,AGENT_URL of a node that is not to be killed")
    parser.add_argument("--output", choices=("json", "text"), default="text")
    return parser


if __name__ == "__main__":
    sys.exit(main())
