"""`python -m tests.chaos`: see README.md in this folder."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.children import interruptible
from tests.chaos.cluster import Cluster
from tests.chaos.faults import ALL, CLUSTER, FAULTS
from tests.chaos.options import Options
from tests.chaos.run import Report, run

MINUTES = 5.0
KILL_S = 20.0  # a kill comes about every seven seconds on SQLite, every twelve with three workers on PostgreSQL


def main() -> int:
    """Parse the arguments, run, print; returns the exit code."""
    interruptible()
    given = _parser().parse_args()
    every = ALL if given.nodes == 1 else CLUSTER
    names = every if given.faults == "all" else tuple(each for each in given.faults.split(",") if each)
    if not names:
        sys.stderr.write(f"no faults, nothing to judge; write some of {', '.join(FAULTS)}, or all\n")
        return 2
    for name in names:
        if name not in FAULTS:
            sys.stderr.write(f"there is no fault `{name}`; write some of {', '.join(FAULTS)}\n")
            return 2
    if given.store == "sqlite" and given.workers > 1:
        sys.stderr.write("several workers need a store that they can share; write --store postgres, or --workers 1\n")
        return 2
    missing = frozenset() if given.faults == "all" else frozenset[str]().union(*(FAULTS[name].needs for name in names))
    if (missing & {"database", "disk"} and given.store == "sqlite") or ("crew" in missing and given.workers == 1):
        sys.stderr.write("these faults need --store postgres, or --workers 2 or more\n")
        return 2
    wrong = _of_nodes(given.nodes, names, given.broker)
    if wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    broker = None
    if given.broker:
        bus_url, _, agent_url = given.broker.partition(",")
        broker = bus_url, agent_url or bus_url
        if not all(each.startswith(("amqp://", "amqps://")) for each in broker):
            sys.stderr.write(
                f"`{given.broker}` is no broker; write amqp://USER:PASSWORD@HOST, for the bus and the agents\n"
            )
            return 2
    minutes = max(MINUTES, given.kills * KILL_S / 60) if given.minutes is None else given.minutes
    options = Options(
        seed=given.seed, kills=given.kills, minutes=minutes, faults=names, rate=given.rate,
        store=given.store, workers=given.workers, keep=given.keep, broker=broker,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        cluster = None
        if given.nodes > 1:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentbus-cluster-"))
            cluster = stack.enter_context(Cluster(Path(home), given.nodes))
        report = run(options, cluster)
    show(report, given.output)
    return 0 if report.good else 1


def _of_nodes(nodes: int, names: Sequence[str], broker: str | None) -> str:
    """Say what does not go together with the number of nodes; "" when all does."""
    if nodes == 1:
        return "" if "node-kill" not in names else "node-kill needs a cluster; write --nodes 3"
    if nodes < 3:
        return "with one node of two gone there is no majority; write --nodes 3"
    if broker:
        return "a cluster starts its own nodes; write --nodes 3 without --broker"
    strange = set(names) - set(CLUSTER)
    return f"a cluster has no {', '.join(sorted(strange))}; write some of {', '.join(CLUSTER)}" if strange else ""


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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"`{text}` is no number from 1 on")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0.0 < amount < math.inf:
        raise argparse.ArgumentTypeError(f"`{text}` is no number above 0")
    return amount


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Drive the bus through faults, then judge."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=_count, default=20, help="end the faults after so many kills")
    parser.add_argument(
        "--minutes",
        type=_amount,
        help="end the faults after so long in any case (default: 5, or 20 s a kill if that is more)",
    )
    parser.add_argument("--faults", default="all", help=f"comma-separated, or all: {', '.join(FAULTS)}")
    parser.add_argument("--rate", type=_amount, default=150.0, help="inputs a second")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--workers", type=_count, default=1)
    parser.add_argument("--nodes", type=_count, default=1, help="broker nodes; 3 are a cluster, whose nodes are killed")
    parser.add_argument("--keep", type=Path, help="folder for the evidence, kept in any case")
    parser.add_argument("--broker", help="BUS_URL,AGENT_URL of a node that is not to be killed")
    parser.add_argument("--output", choices=("json", "text"), default="text")
    return parser


if __name__ == "__main__":
    sys.exit(main())
