"""What the turns of a run cost: `python -m tests.bench.turns [--output json]`, without a broker.

The messages, routes and contracts are those of `bus bench scatter`: an order begins a run, which asks three, keeps two
answers and goes on with the third. Each turn is done for a batch of 512 runs as the worker does it, and timed by the
thread's own CPU clock; the least of many rounds counts. Figures are microseconds a turn. Indented lines are parts of
the one above them, done once more alone. The last line is a message of `bus bench relay` by the same judge and store.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bus import bootstrap
from bus.core import naming
from bus.core.actions import Delivery, Output
from bus.core.facts import Facts
from bus.core.instance import read
from bus.core.outputs import STRUCTURED
from bus.core.pipeline import decide, understand
from bus.core.table import RouteTable
from bus.core.times import rfc3339
from bus.ports import Commit, Received, Tag
from bus.shell.bench.echo import answer
from bus.shell.bench.load import ORDER, conversation, order
from bus.shell.bench.scatter_scene import ASKED, QUOTE, write_scatter_scene
from bus.shell.calm import calm_process
from bus.shell.judge import Judge
from bus.shell.judged import Judged
from bus.shell.sqlite_store import SqliteStore

BATCH = 512
ROUNDS = 30
NAMESPACE = "turns"
INGRESS = naming.ingress_queue(NAMESPACE, 0)
TURNS = ("begin: three requests leave", "an answer is kept", "another one", "the last: the outcome leaves")

T = TypeVar("T")


class Turns:
    """One worker's judge and store of one partition, and the least that each part took, in microseconds a turn."""

    def __init__(self, folder: Path) -> None:
        catalog = bootstrap.load([write_scatter_scene(folder)]).catalog
        assert catalog is not None
        self._table = RouteTable(catalog)
        self._store = SqliteStore(folder / "bus.db")
        now = time.time()
        self._facts = Facts(now, rfc3339(now), self._store.secret)
        claims = self._store.claim(1)
        self._judge = Judge(self._store, self._table, self._facts, NAMESPACE, 1_000_000, time.time)
        self._judge.claimed(claims, [])
        self._done = claims[0].done
        self._tag = 0
        self.least: dict[str, float] = defaultdict(lambda: float("inf"))

    def _timed(self, part: str, work: Callable[[], T]) -> T:
        began = time.thread_time()
        result = work()
        self.least[part] = min(self.least[part], (time.thread_time() - began) / BATCH * 1e6)
        return result

    def round(self, number: int) -> None:
        """Take one batch of runs from the order to the outcome, and as many orders of the relay."""
        outputs = self._turn(TURNS[0], [_order(f"r{number}", each, QUOTE) for each in range(BATCH)])
        asked = {name: [each for each in outputs if each.name == name] for name in ASKED}
        for turn, name in zip(TURNS[1:], ASKED, strict=True):
            outputs = self._turn(turn, [_answer(each) for each in asked[name]])
        assert len(outputs) == BATCH
        assert not len(self._judge.remembered)
        self._turn("a message of the relay", [_order(f"o{number}", each, ORDER) for each in range(BATCH)])

    def _turn(self, turn: str, deliveries: Sequence[Delivery]) -> list[Output]:
        self._parts(turn, deliveries)
        now = time.time()
        batch = []
        for delivery in deliveries:
            self._tag += 1
            batch.append(Received(Tag(1, self._tag), delivery, now))
        judged: Judged = self._timed(f"{turn}: judge", lambda: self._judge.judge(batch))
        states = self._judge.remembered.changes()
        commit = Commit(judged.entries, {}, states=states)
        self._timed(f"{turn}: commit", lambda: self._store.commit(commit))
        self._judge.committed(judged.keys)
        if states and states[0].body is not None:
            bodies = [each.body for each in states if each.body is not None]
            instances = self._timed(f"{turn}:   read what is remembered", lambda: [read(each) for each in bodies])
            self._timed(f"{turn}:   write it", lambda: [each.write() for each in instances])
            self.least[f"{turn}:   its bytes"] = sum(map(len, bodies)) / len(bodies)
        return [output for decision in judged.decisions for output in decision.outputs]

    def _parts(self, turn: str, deliveries: Sequence[Delivery]) -> None:
        facts = replace(self._facts, recall=partial(self._judge.remembered.recall, 0))
        messages = self._timed(
            f"{turn}:   decode and check", lambda: [understand(each, self._table, facts) for each in deliveries]
        )
        pairs = list(zip(deliveries, messages, strict=True))
        self._timed(f"{turn}:   decide", lambda: [
            decide(delivery, self._table, facts, message) for delivery, message in pairs])  # type: ignore[arg-type]  # fmt: skip

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


def _order(run: str, number: int, kind: str) -> Delivery:
    return Delivery(
        order(run, number, kind), STRUCTURED, {}, "bus", f"{run}-{number}", kind, conversation(number), INGRESS
    )


def _answer(request: Output) -> Delivery:
    made = answer(request.body)
    return Delivery(made.body, STRUCTURED, {}, "bus", made.id, made.type, made.conversation, INGRESS)


def main() -> None:
    """Run, and print what each turn took."""
    folder = Path(tempfile.mkdtemp(prefix="agentbus-turns-"))
    turns = Turns(folder)
    try:
        calm_process()
        for number in range(ROUNDS):
            turns.round(number)
    finally:
        turns.close()
        shutil.rmtree(folder)
    found: dict[str, Any] = {name: round(us, 1) for name, us in turns.least.items()}
    if sys.argv[1:] == ["--output", "json"]:
        print(json.dumps(found))
        return
    for name, us in found.items():
        print(f"{name:60} {us:8.1f}")


if __name__ == "__main__":
    main()
