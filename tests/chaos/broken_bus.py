"""The bus with one rule of the delivery protocol broken: `python -m tests.chaos.broken_bus RULE run ...`.

For tests of the harness only: one that stays green on these would be of no use. The rules are broken from outside,
by replacing methods of the worker and the judge before the command begins.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from bus.cli import main as bus_main
from bus.core import running
from bus.core.actions import Decision, Delivery
from bus.core.facts import Facts
from bus.core.memory import RunMemory
from bus.core.message import Json, Message
from bus.ports import Commit, Excepted, InboxKey, Outcome, Received
from bus.shell.failpoints import Reach
from bus.shell.inbox import inbox_key
from bus.shell.judge import Judge
from bus.shell.outflow import Job
from bus.shell.remembered import Remembered
from bus.shell.sqlite_store import SqliteStore
from bus.shell.tenancy import Begin, Taken, Tenancy
from bus.shell.tenure import Tenure

SLOW_COMMIT_S = 0.02  # wide enough for a kill to fall between an early publish and its commit

Judgement = tuple[Decision, InboxKey | None, int | None]


def ack_before_confirm() -> None:
    """An input counts as finished once its outputs are written to the socket."""
    go = Tenure._go

    def broken(self: Tenure, job: Job, now: float) -> None:
        go(self, job, now)
        self._settle(job)

    _replace(Tenure, "_go", broken)


def skip_the_inbox() -> None:
    """Duplicates are not looked for."""

    def broken(
        self: Judge, delivery: Delivery, understood: Message | Decision, content: bytes, partition: int, facts: Facts
    ) -> Judgement:
        if isinstance(understood, Decision):
            return understood, None, None
        return self._place(delivery).decide(delivery, understood, facts), None, None

    _replace(Judge, "_ingress", broken)


def re_evaluate() -> None:
    """After a crash what is pending is decided anew when the broker delivers it again, not replayed from the log."""
    forgotten: set[bytes] = set()
    take, ingress = Tenancy.take, Judge._ingress

    def broken_take(self: Tenancy, reach: Reach, begin: Begin) -> Taken:
        taken = take(self, reach, begin)
        forgotten.update(each.inbox.key for c in taken.claims for each in c.pending if each.inbox is not None)
        return _without_pending(taken)

    def broken_ingress(
        self: Judge, delivery: Delivery, understood: Message | Decision, content: bytes, partition: int, facts: Facts
    ) -> Judgement:
        if not isinstance(understood, Decision):
            key = inbox_key(understood, self.table.answered(understood.type) is not None, content)
            if key.key in forgotten:
                forgotten.discard(key.key)
                return self._place(delivery).decide(delivery, understood, facts), None, None
        return ingress(self, delivery, understood, content, partition, facts)

    _replace(Tenancy, "take", broken_take)
    _replace(Judge, "_ingress", broken_ingress)


def _without_pending(taken: Taken) -> Taken:
    return replace(taken, claims=[replace(each, pending=(), done=each.next_seq - 1) for each in taken.claims])


def publish_before_commit() -> None:
    """Outputs leave first, and are recorded a moment later."""
    commit, write = Tenure._commit, SqliteStore.commit

    def broken_commit(
        self: Tenure,
        batch: Sequence[Received],
        back: Sequence[tuple[Job, Outcome]],
        excepted: Sequence[Excepted],
        held: Sequence[Job],
    ) -> None:
        judged = Judge.judge(self._judge, batch)
        for opened in judged.opens:
            self._ledger.add(opened)
            for index, output in enumerate(opened.outputs):
                self._go(Job(opened.partition, opened.seq, index, output, opened), 0.0)
        judged.opens.clear()
        self._outflow.flush()
        vars(self._judge)["judge"] = lambda _: judged  # what was decided already
        commit(self, batch, back, excepted, held)

    def slow(self: SqliteStore, batch: Commit) -> None:
        time.sleep(SLOW_COMMIT_S)
        write(self, batch)

    _replace(Tenure, "_commit", broken_commit)
    _replace(SqliteStore, "commit", slow)


def overtake_the_held() -> None:
    """What waits as a row does not hold back later ones of its key."""
    go = Tenure._go

    def broken(self: Tenure, job: Job, now: float) -> None:
        if job.key in self._waiting.rows:
            self._outflow._send(job)
        else:
            go(self, job, now)

    _replace(Tenure, "_go", broken)


def forget_the_runs() -> None:
    """What runs remember is kept in memory, and not written."""
    _replace(Remembered, "changes", lambda self: [])


def ask_again() -> None:
    """In each of its turns a run asks again what has not been answered."""
    ask = RunMemory.ask

    def broken(self: RunMemory, path: str, *more: Any) -> Json:
        self.instance.open.pop(path, None)
        return ask(self, path, *more)

    _replace(RunMemory, "ask", broken)


def ignore_the_turns() -> None:
    """Runs of one key do not wait for each other."""
    _replace(running, "take", lambda instance, memory: True)


def break_nothing() -> None:
    """The healthy bus: what it must pass for the others' failures to mean anything."""


def _replace(owner: type | ModuleType, name: str, method: Callable[..., Any]) -> None:
    setattr(owner, name, method)


NONE = "none"

RULES: Mapping[str, Callable[[], None]] = {
    NONE: break_nothing,
    "ack-before-confirm": ack_before_confirm,
    "skip-the-inbox": skip_the_inbox,
    "re-evaluate": re_evaluate,
    "publish-before-commit": publish_before_commit,
    "overtake-the-held": overtake_the_held,
    "forget-the-runs": forget_the_runs,
    "ask-again": ask_again,
    "ignore-the-turns": ignore_the_turns,
}


if __name__ == "__main__":
    RULES[sys.argv[1]]()
    sys.argv = ["bus", *sys.argv[2:]]
    bus_main()
