"""What waits is a row, not a message in flight: held outputs by key, and when to try them again.

While a key has a held row, later outputs of that key queue behind it as rows too, so order is kept. A wake-up token in
a delay queue of the broker, and a sweep, bring back what is due; a lost token costs time, never a message.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from bus.core import naming
from bus.core.actions import Output
from bus.ports import Held, Outgoing
from bus.shell.outflow import Job, Key

WAKE = "application/x-agentbus-wake"
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 300.0  # doubling from a second to five minutes, then every five minutes


def backoff_s(attempts: int) -> float:
    """Seconds until the next try after `attempts` tries."""
    return float(min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** max(0, attempts - 1)))


@dataclass(slots=True)
class Waiting:
    """Args:
    rows: held outputs by key, oldest first.
    hold: rows that the next commit must write, with their jobs.
    release: rows that the next commit may remove.
    """

    rows: dict[Key, deque[Job]] = field(default_factory=dict)
    hold: list[Job] = field(default_factory=list)
    release: list[Held] = field(default_factory=list)
    trying: set[Key] = field(default_factory=set)

    def add(self, job: Job, now_s: float, reason: str) -> None:
        """Hold an output: the next commit writes its row."""
        attempts = 0 if job.held is None else job.held.attempts
        behind = self.rows.setdefault(job.key, deque())
        if job.held is None or job not in behind:
            attempts += 1 if not behind else 0
            behind.append(job)
        else:
            attempts += 1
        due = now_s + backoff_s(attempts)
        job.held = Held(job.partition, job.seq, job.index, text_of(job.key), due, attempts, reason)
        self.trying.discard(job.key)
        self.hold.append(job)

    @property
    def partitions(self) -> set[int]:
        """Where anything waits, or its row is still to be written or removed."""
        rows = [job for jobs in self.rows.values() for job in jobs]
        return {each.partition for each in [*rows, *self.hold]} | {row.partition for row in self.release}

    def load(self, job: Job) -> None:
        """Take in a row that the store already holds."""
        self.rows.setdefault(job.key, deque()).append(job)

    def due(self, now_s: float, paused: frozenset[str] = frozenset()) -> list[Job]:
        """The first output of every key whose time has come, to be tried now, but for targets that are paused."""
        ready = [
            jobs[0]
            for key, jobs in self.rows.items()
            if key not in self.trying
            and jobs[0].held is not None
            and jobs[0].held.due_s <= now_s
            and jobs[0].output.target not in paused
        ]
        self.trying.update(job.key for job in ready)
        return ready

    def confirmed(self, job: Job) -> Job | None:
        """The first of its key got through: its row may go, and the next of the key is returned to be tried."""
        jobs = self.rows[job.key]
        jobs.popleft()
        if job.held is not None:
            self.release.append(job.held)
        if jobs:
            return jobs[0]
        del self.rows[job.key]
        self.trying.discard(job.key)
        return None


def text_of(key: Key) -> str:
    """An ordering key as the store writes it."""
    conversation, kind, name = key
    return f"{conversation}\0{kind}:{name}"


def wake_token(namespace: str, job: Job, now_s: float, handle: int) -> Outgoing:
    """A token that comes back to the partition's ingress queue when the row may be due."""
    wait = 0.0 if job.held is None else job.held.due_s - now_s
    step = 1 + max((i for i, ttl in enumerate(naming.WAKE_STEPS_S) if ttl <= wait), default=0)
    queue = naming.ingress_queue(namespace, job.partition)
    token = Output("ingress", "", f"wake-{job.partition}-{job.seq}-{job.index}", "bus.wake", queue, b"{}", WAKE, {})
    return Outgoing(handle, naming.retry_queue(namespace, step), queue, token)
