"""The schedules of a namespace, as the worker that owns partition 0 keeps them: one row each in the store.

Used on the store's thread, between deciding a batch and committing it, like the leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from bus.core.actions import Output
from bus.core.route import Schedule
from bus.core.schedules import PLAN, SENT, following, latest, plan_of
from bus.ports import Held

HOME = 0
"""The partition whose owner sends: every namespace has it, and exactly one worker owns it."""

_NEVER_S = 4e9  # in 2096: of what is never due again


class _Kept(NamedTuple):
    row: Held
    plan: str
    sent_s: float


class Schedules:
    """Args:
    declared: what there is to send.
    """

    def __init__(self, declared: Sequence[Schedule] = ()) -> None:
        self._declared = {each.name: each for each in declared}
        self._kept: dict[str, _Kept] = {}
        self._ours = False
        self._next_s = 0.0
        self._hold: list[Held] = []
        self._release: list[Held] = []

    def reconfigure(self, declared: Sequence[Schedule]) -> None:
        """There are others to send from now on; the rows of those that are gone go, too."""
        self._declared = {each.name: each for each in declared}
        self._release += [self._kept.pop(name).row for name in self._kept.keys() - self._declared.keys()]
        self._next_s = 0.0

    def begin(self) -> None:
        """This worker owns partition 0 now, and the rows in it."""
        self._ours = True

    def load(self, row: Held, output: Output) -> None:
        """Take in a row that the store already holds; that of a schedule which is not declared any more goes."""
        if output.name in self._declared:
            self._kept[output.name] = _kept(row, output)
        else:
            self._release.append(row)

    def due(self, now_s: float) -> bool:
        """Whether anything is to be done."""
        return self._ours and (now_s >= self._next_s or bool(self._release))

    def take(self, now_s: float) -> list[tuple[Schedule, float | None]]:
        """What is to be sent now, with the time it was planned for; None for a schedule that begins."""
        found: list[tuple[Schedule, float | None]] = []
        for name, schedule in self._declared.items():
            kept = self._kept.get(name)
            if kept is None or kept.plan != plan_of(schedule):
                found.append((schedule, None))
            elif (planned_s := latest(schedule, kept.sent_s, now_s)) is not None:
                found.append((schedule, planned_s))
        coming = [following(each, now_s) for each in self._declared.values()]
        self._next_s = min((each for each in coming if each is not None), default=_NEVER_S)
        return found

    def sent(self, partition: int, seq: int, index: int, output: Output) -> None:
        """It stands in the log: its row takes the place of the one before."""
        schedule = self._declared[output.name]
        before = self._kept.get(output.name)
        if before is not None:
            self._release.append(before.row)
        up_to = str(output.headers[SENT])
        due_s = following(schedule, _epoch_s(up_to)) or _NEVER_S
        key = f"{output.conversation}\0{output.target}"
        row = Held(partition, seq, index, key, due_s, 0, f"sent up to {up_to}")
        self._kept[output.name] = _kept(row, output)
        self._hold.append(row)

    def changes(self) -> tuple[Iterable[Held], Iterable[Held]]:
        """What the next commit must write and remove because of what has happened since the last call."""
        hold, self._hold = self._hold, []
        release, self._release = self._release, []
        return hold, release


def _kept(row: Held, output: Output) -> _Kept:
    return _Kept(row, str(output.headers[PLAN]), _epoch_s(str(output.headers[SENT])))


def _epoch_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
