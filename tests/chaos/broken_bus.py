"""The bus with one rule of the delivery protocol broken: `python -m tests.chaos.broken_bus RULE run ...`.

For tests of the harness only: one that stays green on these would be of no use. The rules are broken from outside,
by replacing methods of the worker and the judge before the command begins.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bus.cli import main as bus_main
from bus.core.actions import Decision, Delivery
from bus.core.facts import Facts
from bus.core.pipeline import understand
from bus.ports import Commit, InboxKey
from bus.shell.inbox import inbox_key
from bus.shell.judge import Judge
from bus.shell.outflow import Job
from bus.shell.sqlite_store import SqliteStore
from bus.shell.worker import Worker, _Pending, _Read

SLOW_COMMIT_S = 0.02  # wide enough for a kill to fall between an early publish and its commit

Judgement = tuple[Decision, InboxKey | None, int | None]


def ack_before_confirm() -> None:
    """An input counts as finished once its outputs are written to the socket."""
    go = Worker._go

    def broken(self: Worker, job: Job, now: float) -> None:
        go(self, job, now)
        self._settle(job)

    _replace(Worker, "_go", broken)


def skip_the_inbox() -> None:
    """Duplicates are not looked for."""

    def broken(self: Judge, delivery: Delivery, content: bytes, partition: int, facts: Facts) -> Judgement:
        understood = understand(delivery, self.table, facts)
        if isinstance(understood, Decision):
            return understood, None, None
        return self._decide(delivery, understood, facts), None, None

    _replace(Judge, "_ingress", broken)


def re_evaluate() -> None:
    """After a crash what is pending is decided anew when the broker delivers it again, not replayed from the log."""
    forgotten: set[bytes] = set()
    claim, ingress = Worker._claim, Judge._ingress

    def broken_claim(self: Worker) -> _Read:
        read = claim(self)
        forgotten.update(each.inbox.key for c in read.claims for each in c.pending if each.inbox is not None)
        return _without_pending(read)

    def broken_ingress(self: Judge, delivery: Delivery, content: bytes, partition: int, facts: Facts) -> Judgement:
        understood = understand(delivery, self.table, facts)
        if not isinstance(understood, Decision):
            key = inbox_key(understood, self.table.answered(understood.type) is not None, content)
            if key.key in forgotten:
                forgotten.discard(key.key)
                return self._decide(delivery, understood, facts), None, None
        return ingress(self, delivery, content, partition, facts)

    _replace(Worker, "_claim", broken_claim)
    _replace(Judge, "_ingress", broken_ingress)


def _without_pending(read: _Read) -> _Read:
    return replace(read, claims=[replace(each, pending=(), done=each.next_seq - 1) for each in read.claims])


def publish_before_commit() -> None:
    """Outputs leave first, and are recorded a moment later."""
    commit, write = Worker._commit, SqliteStore.commit

    def broken_commit(self: Worker, pending: _Pending) -> None:
        for opened in pending.judged.opens:
            self._ledger.add(opened)
            for index, output in enumerate(opened.entry.outputs):
                self._go(Job(opened.partition, opened.entry.seq, index, output, opened), 0.0)
        pending.judged.opens = []
        self._outflow.flush()
        commit(self, pending)

    def slow(self: SqliteStore, batch: Commit) -> None:
        time.sleep(SLOW_COMMIT_S)
        write(self, batch)

    _replace(Worker, "_commit", broken_commit)
    _replace(SqliteStore, "commit", slow)


def overtake_the_held() -> None:
    """What waits as a row does not hold back later ones of its key."""
    _replace(Worker, "_go", lambda self, job, now: self._outflow.add(job))


def _replace(owner: type, name: str, method: Callable[..., Any]) -> None:
    setattr(owner, name, method)


RULES: Mapping[str, Callable[[], None]] = {
    "ack-before-confirm": ack_before_confirm,
    "skip-the-inbox": skip_the_inbox,
    "re-evaluate": re_evaluate,
    "publish-before-commit": publish_before_commit,
    "overtake-the-held": overtake_the_held,
}


if __name__ == "__main__":
    RULES[sys.argv[1]]()
    sys.argv = ["bus", *sys.argv[2:]]
    bus_main()
