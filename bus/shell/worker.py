"""The worker: owner of the partitions, and the delivery protocol that keeps the promise.

    claim       take the partitions, read what is pending and held, rebuild the duplicates filter
    replay      publish every pending output again, under the same ids, and wait for the confirms
    run         batch in -> judge (pure) -> ONE commit -> publish, confirmed -> ack
    drain       take nothing more, finish what is committed, leave by closing the socket

A batch is whatever has arrived while the last commit ran, so a quiet bus commits at once and a busy one in hundreds.
Nothing is published before its commit (I1), nothing acked before its outputs are confirmed, held or excepted (I2), one
publish per (conversation, target) is in flight (I3), tags live and die with their connection (I4). When a connection
is lost everything in memory is void: the store is claimed and read again, and a recorded decision is never made anew.
A store that cannot commit stops the worker; whoever runs it starts it again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from bus.core import naming
from bus.core.actions import Decision
from bus.core.facts import Facts
from bus.core.table import RouteTable
from bus.ports import Claim, Commit, Entry, Excepted, Held, Meter, Outcome, Received, Store, Transport
from bus.shell.committer import CommitQueue, Committer
from bus.shell.failpoints import Reach, nothing
from bus.shell.judge import Judge, Judged
from bus.shell.ledger import Ledger, Open
from bus.shell.outflow import Addresses, Job, Outflow
from bus.shell.waiting import WAKE, Waiting, wake_token

_log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 512  # inputs per commit at most: past it a batch adds latency and saves no more system calls
IDLE_FLUSH_S = 0.2  # how long a risen watermark may wait for a commit to ride on
SWEEP_S = 1.0  # how often held rows are looked at when no token wakes them
DRAIN_S = 10.0  # how long a drain may take; what is left is replayed at the next start

State = Literal["down", "claiming", "replaying", "running", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker works on.

    Args:
        namespace, partitions: whose ingress it owns.
        prefetch: unacked deliveries at most.
        window: identities remembered per partition.
    """

    namespace: str
    partitions: int
    prefetch: int = 2000
    window: int = 250_000


@dataclass(slots=True)
class _Pending:
    """A commit on its way to the store, and what to do when it is durable."""

    judged: Judged
    held: list[Job]
    excepted: list[tuple[Job, Excepted]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Read:
    """What a claim read from the store: `held` pairs each held row with the entry it lies in."""

    claims: Sequence[Claim]
    keys: Sequence[tuple[int, int, bytes]]
    held: Sequence[tuple[Held, Entry]]


class Worker:
    """Args:
    transport, store, meter: the ports; the worker owns their lives while it runs.
    table: the compiled configuration.
    facts: limits and identities.
    plan: which partitions, and bounds.
    clock: epoch seconds.
    on_state: told of every change of state, on the loop thread.
    on_finished: told of every finished input and the time, on the loop thread; for spans.
    committer: makes what runs the store's work; a thread, unless a test wants it inline.
    reach: told of each failpoint that is passed.
    """

    def __init__(
        self,
        transport: Transport,
        store: Store,
        meter: Meter,
        table: RouteTable,
        facts: Facts,
        plan: Plan,
        *,
        clock: Callable[[], float] = time.time,
        on_state: Callable[[State], None] = lambda state: None,
        on_finished: Callable[[Open, float], None] | None = None,
        committer: Callable[[Callable[[Callable[[], None]], None]], CommitQueue] = Committer,
        reach: Reach = nothing,
    ) -> None:
        self._transport = transport
        self._store = store
        self._meter = meter
        self._plan = plan
        self._reach = reach
        self._clock = clock
        self._on_state = on_state
        self._on_finished = on_finished
        self._judge = Judge(store, table, facts, plan.namespace, plan.window, clock)
        self._ledger = Ledger()
        self._outflow = Outflow(Addresses(plan.namespace), transport.publish)
        self._waiting = Waiting()
        self._committer = committer(transport.call_threadsafe)
        self._arrived: deque[Received] = deque()
        self._came_back: list[tuple[Job, Outcome]] = []
        self._committing = False
        self._life = 0
        self._tokens = 0
        self._idle_timer = False
        self._unpruned = 0
        self._error: Exception | None = None
        self.state: State = "down"

    # --- life -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `drain` is done.

        Raises:
            StoreFailed: the store could not be claimed or written; nothing of the last batch was published.
            Unreachable: the broker cannot be reached at the start.
        """
        try:
            self._transport.run(self)
        finally:
            self._committer.close()
            self._set("stopped")
        if self._error is not None:
            raise self._error

    def drain(self) -> None:
        """Take nothing more, finish what is committed, then stop. Thread-safe, may be called twice."""
        self._transport.call_threadsafe(self._drain)

    def _drain(self) -> None:
        if self.state in ("draining", "stopped"):
            return
        running = self.state in ("running", "replaying")
        self._set("draining")
        self._arrived.clear()
        if not running:
            self._transport.stop()
            return
        self._transport.call_later(DRAIN_S, self._transport.stop)
        self._turn()

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            _log.info("worker %s", state)
            self._on_state(state)

    def _fail(self, error: Exception) -> None:
        _log.error("worker stops: %s", error)
        self._error = error
        self._transport.stop()

    def _submit(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run on the store's thread; the result is dropped when the connection it was for is gone."""
        life = self._life

        def arrived(result: T | Exception) -> None:
            if isinstance(result, Exception):
                self._fail(result)
            elif life == self._life:
                done(result)

        self._committer.submit(work, arrived)

    # --- events of the transport ----------------------------------------------------------------------------------

    def on_connected(self) -> None:
        if self.state == "draining":
            self._transport.stop()
            return
        self._meter.connected(True)
        self._set("claiming")
        self._submit(self._claim, self._claimed)

    def on_lost(self, reason: str) -> None:
        _log.warning("connection lost: %s", reason)
        self._life += 1
        self._meter.connected(False)
        self._arrived.clear()
        self._came_back.clear()
        self._outflow.clear()
        self._waiting.clear()
        self._ledger = Ledger()
        self._committing = False
        self._meter.in_flight(0, 0)
        if self.state == "draining":
            self._transport.stop()
        else:
            self._set("down")

    def on_blocked(self, blocked: bool, reason: str) -> None:
        _log.warning("the broker %s publishing: %s", "blocks" if blocked else "no longer blocks", reason or "-")
        self._meter.blocked(blocked)

    def on_batch(self, batch: Sequence[Received]) -> None:
        if self.state != "running":
            return  # draining: what is not acked goes back when the socket closes
        self._arrived.extend(batch)
        self._turn()

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        now = self._clock()
        confirmed = 0
        oldest = now
        self._reach("during-replay" if self.state == "replaying" else "after-publish")
        for outcome in outcomes:
            job = self._outflow.outcome(outcome)
            if job is None:
                continue
            if outcome.how == "confirmed":
                confirmed += 1
                if job.owner is not None and job.owner.committed_s < oldest:
                    oldest = job.owner.committed_s
                self._confirmed(job)
            elif outcome.how == "returned" and job.output.kind not in ("dead", "invalid"):
                self._came_back.append((job, outcome))
            else:
                self._hold(job, now, outcome.reason or "the queue is full")
        self._reach("after-confirm")
        if confirmed:
            self._meter.confirmed(confirmed, now - oldest)
        self._turn()

    # --- claiming and replaying -----------------------------------------------------------------------------------

    def _claim(self) -> _Read:
        claims = self._store.claim(self._plan.partitions)
        self._reach("during-claim")
        keys = list(self._store.keys(self._plan.window))
        held = [(row, self._store.entry(row.partition, row.seq)) for claim in claims for row in claim.held]
        return _Read(claims, keys, held)

    def _claimed(self, read: _Read) -> None:
        self._judge.claimed(read.claims, read.keys)
        waiting: set[tuple[int, int, int]] = set()
        for row, entry in read.held:
            waiting.add((row.partition, row.seq, row.index))
            self._waiting.load(Job(row.partition, row.seq, row.index, entry.outputs[row.index], None, row))
        for claim in read.claims:
            self._ledger.start(claim.partition, claim.done)
            for entry in claim.pending:
                self._replay(claim, entry, waiting)
        counts = len(read.claims), len(self._ledger.open), len(read.held)
        _log.info("claimed %d partitions, %d inputs to replay, %d outputs held", *counts)
        self._set("replaying")
        self._turn()

    def _replay(self, claim: Claim, entry: Entry, waiting: set[tuple[int, int, int]]) -> None:
        left = [
            index
            for index in range(len(entry.outputs))
            if (entry.seq, index) not in claim.settled and (claim.partition, entry.seq, index) not in waiting
        ]
        opened = Open(claim.partition, entry, len(left), [], self._clock())
        opened.committed_s = opened.received_s
        self._ledger.add(opened)
        for index in left:
            self._go(Job(claim.partition, entry.seq, index, entry.outputs[index], opened), opened.committed_s)

    def _go(self, job: Job, now: float) -> None:
        """Publish, or wait as a row behind an earlier one of its key that waits, after a restart as before."""
        if job.key in self._waiting.rows:
            self._waiting.add(job, now, "behind an earlier one that waits")
        else:
            self._outflow.add(job)

    def _start_consuming(self) -> None:
        self._set("running")
        ns = self._plan.namespace
        queues = [naming.ingress_queue(ns, partition) for partition in range(self._plan.partitions)]
        self._transport.consume([*queues, naming.bounced(ns)], self._plan.prefetch)
        self._transport.call_later(SWEEP_S, self._sweep)

    # --- the turn: what can be done now, is ------------------------------------------------------------------------

    def _turn(self) -> None:
        if not self._committing:
            if self._arrived or self._came_back or self._waiting.hold:
                self._take()
            elif self._ledger.risen or self._waiting.release:
                self._flush_later()
        self._outflow.flush()
        tag = self._ledger.ackable()
        if tag is not None:
            self._reach("before-ack")
            self._transport.ack(tag)
        self._report()
        if not self._ledger.open and not self._committing and not self._came_back and not self._waiting.hold:
            if self.state == "replaying":
                self._start_consuming()
            elif self.state == "draining":
                self._finish_drain()

    def _report(self) -> None:
        finished = self._ledger.finished
        if finished:
            now = self._clock()
            for each in finished:
                if each.decision is not None:
                    self._meter.finished(each.decision, now - each.received_s)
                    if self._on_finished is not None:
                        self._on_finished(each, now)
            finished.clear()
        self._meter.in_flight(len(self._ledger.open), len(self._outflow))

    def _take(self) -> None:
        batch: list[Received] = []
        while self._arrived and len(batch) < BATCH:
            received = self._arrived.popleft()
            if received.delivery.content_type == WAKE:
                self._ledger.free(received.tag)
                self._wake()
            else:
                batch.append(received)
        began = time.perf_counter()
        judged = self._judge.judge(batch)
        excepted = [self._returned(job, outcome, judged) for job, outcome in self._came_back]
        self._came_back.clear()
        for decision in judged.decisions:
            if decision.failure is not None:
                _log_failure(decision)
        if judged.decisions:
            self._meter.decided(judged.decisions, time.perf_counter() - began)
        held, self._waiting.hold = self._waiting.hold, []
        self._commit(_Pending(judged, held, excepted))

    def _commit(self, pending: _Pending) -> None:
        release, self._waiting.release = self._waiting.release, []
        commit = Commit(
            entries=pending.judged.entries,
            done=self._ledger.marks(),
            hold=[job.held for job in pending.held if job.held is not None],
            release=release,
            exceptions=[row for _, row in pending.excepted],
        )
        if not (commit.entries or commit.done or commit.hold or commit.release or commit.exceptions):
            return
        self._committing = True
        began = time.perf_counter()

        def done(_: None) -> None:
            self._meter.committed(len(pending.judged.opens), time.perf_counter() - began)
            self._committed(pending)

        self._reach("before-commit")
        self._submit(lambda: self._store.commit(commit), done)

    def _committed(self, pending: _Pending) -> None:
        self._reach("after-commit")
        self._committing = False
        now = self._clock()
        self._prune(len(pending.judged.opens))
        self._judge.committed(pending.judged.keys)
        for opened in pending.judged.opens:
            opened.committed_s = now
            self._ledger.add(opened)
            for index, output in enumerate(opened.entry.outputs):
                job = Job(opened.partition, opened.entry.seq, index, output, opened)
                self._go(job, now)
        for job in pending.held:
            self._settle(job)
            self._token(job, now)
        for job, _ in pending.excepted:
            self._settle(job)
        self._turn()

    def _prune(self, inputs: int) -> None:
        """Forget old identities in steady state, a quarter of the window at a time; never right after a claim."""
        self._unpruned += inputs
        if self._unpruned > self._plan.window // 4:
            self._unpruned = 0
            self._submit(lambda: self._store.prune(self._plan.window), lambda dropped: None)

    def _flush_later(self) -> None:
        """A watermark with nothing to ride on: write it when the bus stays idle, at once when draining."""
        if self.state == "draining":
            self._commit(_Pending(Judged(), []))
        elif not self._idle_timer:
            self._idle_timer = True
            self._transport.call_later(IDLE_FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._idle_timer = False
        self._reach("after-ack")
        if not self._committing and self.state in ("running", "replaying"):
            self._commit(_Pending(Judged(), []))

    def _finish_drain(self) -> None:
        if self._ledger.risen or self._waiting.release:
            return  # the flush that _turn has begun comes back here
        self._transport.stop()

    # --- outcomes of publishes -------------------------------------------------------------------------------------

    def _settle(self, job: Job) -> None:
        if job.owner is not None:
            owner, job.owner = job.owner, None
            self._ledger.settle(owner)

    def _confirmed(self, job: Job) -> None:
        if job.held is None:
            self._settle(job)
            self._outflow.next(job.key)
            return
        self._outflow.stop(job.key)
        following = self._waiting.confirmed(job)
        if following is not None:
            self._outflow.add(following)

    def _hold(self, job: Job, now: float, reason: str) -> None:
        """Refused: it waits as a row, and what was behind it in memory waits behind it as rows."""
        behind = self._outflow.stop(job.key)
        self._waiting.add(job, now, reason)
        for later in behind:
            self._waiting.add(later, now, "behind an earlier one that waits")

    def _returned(self, job: Job, outcome: Outcome, judged: Judged) -> tuple[Job, Excepted]:
        if job.output.kind != "client":
            self._judge.came_back(job.partition, job.output, outcome.reason, judged)
        reason = "the asker is gone" if job.output.kind == "client" else outcome.reason
        if job.held is not None:
            following = self._waiting.confirmed(job)
            self._outflow.stop(job.key)
            if following is not None:
                self._outflow.add(following)
        else:
            self._outflow.next(job.key)
        self._meter.excepted("returned", "returned", 1)
        return job, Excepted(job.partition, job.seq, job.index, "returned", self._clock(), reason)

    # --- what waits ------------------------------------------------------------------------------------------------

    def _token(self, job: Job, now: float) -> None:
        self._tokens -= 1
        self._transport.publish([wake_token(self._plan.namespace, job, now, self._tokens)])

    def _wake(self) -> None:
        for job in self._waiting.due(self._clock()):
            self._meter.retried(job.output.target)
            self._outflow.add(job)

    def _sweep(self) -> None:
        if self.state != "running":
            return
        self._transport.call_later(SWEEP_S, self._sweep)
        if self._waiting.rows:
            self._wake()
            self._turn()


def _log_failure(decision: Decision) -> None:
    message, failure = decision.message, decision.failure
    assert failure is not None
    extra = {
        "end": decision.end,
        "code": failure.code,
        "route": decision.route,
        "message_id": message.id if message is not None else None,
        "conversation_id": message.conversation if message is not None else None,
    }
    _log.warning("%s: %s", decision.end, failure.reason, extra=extra)
