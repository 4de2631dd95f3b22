"""The leases of what a worker owns: one row for each request that may take long, until it is answered.

The row is a held row of the store: the request is in the log, the row says how long its holder may still be silent. It
is written in the commit that sends the request, accepts or renews it, and removed in the one that records the answer.
Used on the store's thread, between deciding a batch and committing it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from bus.core.actions import Decision, Output
from bus.core.claims import accepts, holder_of
from bus.core.facts import Facts, Leased
from bus.core.leases import Lease, deadline_s, is_away, lease_of
from bus.core.message import TASK_CLAIM, TASK_LAPSE, Attribute, Message, task_of
from bus.ports import Held

_UNACCEPTED = "nobody has accepted it yet"
_ACCEPTED = "accepted by "
_AFTER_S = 1.0  # how long after its deadline a request is looked for that nobody has answered
_LOOK_AGAIN_S = 86_400.0  # a request that nobody has accepted waits in its queue, for as long as it takes


@dataclass(slots=True)
class _Watched:
    lease: Lease
    row: Held
    deadline_s: float | None  # past it nobody can renew: who asked must hear of it, whatever the holder says

    @property
    def holder(self) -> str:
        """Who has accepted it, or ""."""
        reason = self.row.reason
        return reason.removeprefix(_ACCEPTED) if reason.startswith(_ACCEPTED) else ""


class Due(NamedTuple):
    """A lease whose time has come.

    Args:
        row: where it stands in the log.
        ran: it was accepted, or its request came back; if not, the request still waits in its queue.
        reason: one sentence for a person.
    """

    row: Held
    lease: Lease
    ran: bool
    reason: str


class Leases:
    """What is watched over, whichever configuration it was sent under.

    A run goes on as the configuration says under which it began, so leases come where that in force has none.
    """

    def __init__(self) -> None:
        self.away: list[str] = []  # tasks whose leases are to go to another partition, once they stand in the log
        self._tasks: dict[str, _Watched] = {}
        self._hold: dict[tuple[int, int, int], Held] = {}
        self._release: dict[tuple[int, int, int], Held] = {}
        self._arriving: dict[str, tuple[float, int, str]] = {}
        self._lost: dict[tuple[int, str, Attribute], str] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def load(self, row: Held, output: Output) -> None:
        """Take in a row that the store already holds."""
        lease = lease_of(output)
        self._tasks[lease.task] = _Watched(lease, row, deadline_s(output))
        self._leaves(lease, output)

    def begin(self, partition: int, seq: int, index: int, output: Output, now_s: float) -> None:
        """A request was decided, and this watches over it."""
        lease = lease_of(output)
        due = now_s + (_LOOK_AGAIN_S if output.expires_ms is None else output.expires_ms / 1000 + _AFTER_S)
        due, attempts, reason = self._arriving.pop(lease.task, (due, 0, _UNACCEPTED))
        row = Held(partition, seq, index, f"{output.conversation}\0{output.target}", due, attempts, reason)
        self._tasks[lease.task] = _Watched(lease, row, deadline_s(output))
        self._write(row)
        self._leaves(lease, output)

    def _leaves(self, lease: Lease, output: Output) -> None:
        if is_away(output):
            self.away.append(lease.task)

    def leaving(self) -> list[str]:
        """Take the tasks of those that are to go to another partition; they stand in the log."""
        tasks, self.away = self.away, []
        return tasks

    def rows(self, tasks: Iterable[str]) -> list[Held]:
        """The rows of these as they are now, without those that are over."""
        return [self._tasks[task].row for task in tasks if task in self._tasks]

    def find(self, partition: int, task: str, fence: Attribute) -> Leased | None:
        """The lease of a try of a task, or None."""
        watched = self._find(partition, task, fence)
        return None if watched is None else Leased(watched.lease.seconds, watched.holder)

    def accept(self, partition: int, task: str, fence: Attribute, holder: str, now_s: float) -> None:
        """The holder has accepted, or is heard of again."""
        watched = self._find(partition, task, fence)
        if watched is not None:
            row, due = watched.row, now_s + watched.lease.seconds
            if watched.deadline_s is not None:
                due = min(due, watched.deadline_s + _AFTER_S)
            self._write_to(watched, replace(row, due_s=due, attempts=row.attempts + 1, reason=_ACCEPTED + holder))

    def lose(self, partition: int, task: str, fence: Attribute, reason: str) -> None:
        """The request came back from its queue: the lease runs out now."""
        watched = self._find(partition, task, fence)
        if watched is not None:
            row = watched.row
            self._write_to(watched, replace(row, due_s=0.0, attempts=row.attempts + 1, reason=reason))

        else:  # it may be on its way from another partition
            self._lost[partition, task, fence] = reason

    def note(self, message: Message, decision: Decision, partition: int, facts: Facts, answers: bool) -> None:
        """Keep what a message means for the lease of its task. What was refused at the door means nothing.

        Args:
            answers: it is of a type that answers.
        """
        task, fence = task_of(message)
        if answers:
            self.end(partition, task, fence)
        elif message.type == TASK_CLAIM and decision.end == "routed" and accepts(message, facts):
            self.accept(partition, task, fence, holder_of(message), facts.now_s)
        elif message.type == TASK_LAPSE and isinstance(message.data, dict):
            lost, reason = message.data.get("fence"), message.data.get("reason")
            self.lose(partition, task, lost if isinstance(lost, int) else 0, str(reason))

    def within(self, partitions: Collection[int]) -> list[Held]:
        """The rows of the leases that these partitions have."""
        return [each.row for each in self._tasks.values() if each.row.partition in partitions]

    def arrive(self, partition: int, lease: Lease, due_s: float, attempts: int, reason: str) -> None:
        """The lease that begins next for this task comes from another partition, with its state there."""
        lost = self._lost.pop((partition, lease.task, lease.fence), None)
        self._arriving[lease.task] = (due_s, attempts, reason) if lost is None else (0.0, attempts + 1, lost)

    def end(self, partition: int, task: str, fence: Attribute | None = None) -> None:
        """The try is answered, or over; None means whichever try it is."""
        watched = self._find(partition, task, fence)
        if watched is not None:
            del self._tasks[task]
            row = watched.row
            place = row.partition, row.seq, row.index
            self._hold.pop(place, None)
            self._release[place] = row

    def due(self, now_s: float) -> list[Due]:
        """The leases whose time has come."""
        found = []
        for watched in self._tasks.values():
            row, holder = watched.row, watched.holder
            if row.due_s <= now_s:
                silent = f"{holder} has not been heard of for {watched.lease.seconds} s"
                found.append(Due(row, watched.lease, row.attempts > 0, silent if holder else row.reason))
        return found

    def wait_on(self, due: Due, now_s: float) -> None:
        """Nobody has accepted it yet: look again later."""
        self._write_to(self._tasks[due.lease.task], replace(due.row, due_s=now_s + _LOOK_AGAIN_S))

    def changes(self) -> tuple[Iterable[Held], Iterable[Held]]:
        """What the next commit must write and remove because of what has happened since the last call."""
        hold, self._hold = self._hold, {}
        release, self._release = self._release, {}
        return hold.values(), release.values()

    def _find(self, partition: int, task: str, fence: Attribute | None) -> _Watched | None:
        watched = self._tasks.get(task)
        if watched is None or watched.row.partition != partition or fence not in (None, watched.lease.fence):
            return None
        return watched

    def _write_to(self, watched: _Watched, row: Held) -> None:
        watched.row = row
        self._write(row)

    def _write(self, row: Held) -> None:
        self._hold[row.partition, row.seq, row.index] = row
