"""One tenure: what a worker does between a claim and the loss of the connection that it was made on.

All that is in memory belongs to the tenure and dies with it: open inputs, publishes in flight, held rows, what has
arrived. So nothing of an earlier claim can leak into a later one; callbacks that come late find nobody.

While the namespace grows, it also drains the partitions that it owns of the old generation (bus.shell.drainage).

    turn     what can be done now, is: decide and commit a batch, publish what is committed, ack what is finished
    phases   replaying (nothing is consumed), running, leaving (nothing more is taken)
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Literal

from bus.core import naming
from bus.core.actions import ROWS
from bus.core.notices import Notice
from bus.ports import Claim, Commit, Entry, Excepted, Outcome, Received
from bus.shell.drainage import MARK, Drainage
from bus.shell.failures import log_failure
from bus.shell.judged import Judged
from bus.shell.kit import Kit
from bus.shell.ledger import Ledger, Open
from bus.shell.mover import Arrivals, send, send_leases
from bus.shell.outflow import Addresses, Job, Outflow, replayed
from bus.shell.tenancy import Taken
from bus.shell.waiting import WAKE, Waiting, wake_token

_log = logging.getLogger(__name__)

BATCH = 512  # inputs per commit at most: past it a batch adds latency and saves no more system calls
OWN = (WAKE, MARK)  # what the bus says to itself; from anybody else it is a message like others, so that none vanishes
IDLE_FLUSH_S = 0.2  # how long a risen watermark may wait for a commit to ride on
PAUSED = "its target is paused"
SWEEP_S = 1.0  # how often held rows are looked at when no token wakes them
CONFIRM_S = (
    15.0  # a publish that the broker has not answered by then is parked as a held row, so that its partition goes on
)


class Tenure:
    """Args:
    kit: what it works with.
    taken: what the claim read.
    """

    def __init__(self, kit: Kit, taken: Taken) -> None:
        self._kit = kit
        self._transport, self._meter, self._judge = kit.transport, kit.meter, kit.judge
        self._bus_user = kit.judge.bus_user
        self._clock, self._reach, self._submit = kit.clock, kit.reach, kit.submit
        self._ledger = Ledger()
        self._addresses = self._new_addresses()
        self._outflow = Outflow(self._addresses, kit.transport.publish, kit.clock)
        self._refusals = kit.refusals
        self._waiting = Waiting()
        self._arrived: deque[Received] = deque()
        self._came_back: list[tuple[Job, Outcome]] = []
        self._committing = False
        self._tokens = 0
        self._rows_due = False  # of leases and schedules
        self._runs_due = False
        self._next_due_s: float | None = None  # when a run of a route with memory goes on by itself
        self._move: frozenset[int] = frozenset()  # partitions whose leases and states are to go
        self._whole: set[int] = set()  # partitions to which all has come that was on its way
        self._idle_timer = False
        self._unpruned = 0
        self.phase: Literal["replaying", "running", "leaving"] = "replaying"
        self._load(taken)

    def _load(self, taken: Taken) -> None:
        self._partitions = [each.partition for each in taken.claims]
        self._drainage = Drainage(self._kit.namespace, taken.to_drain, secrets.token_hex(16), self._clock)
        self._arrivals = Arrivals(self._kit.namespace, self._judge.arriving, secrets.token_hex(16), self._clock)
        waiting: set[tuple[int, int, int]] = set()
        for row, entry in taken.held:
            waiting.add((row.partition, row.seq, row.index))
            output = replayed(entry.outputs[row.index])
            if output.kind == "lease":
                self._judge.leases.load(row, output)
                continue
            if output.kind == "schedule":
                self._judge.schedules.load(row, output)
                continue
            self._waiting.load(Job(row.partition, row.seq, row.index, output, None, row))
        for claim in taken.claims:
            self._ledger.start(claim.partition, claim.done)
            for entry in claim.pending:
                self._replay(claim, entry, waiting)
        self._next_due_s = self._judge.remembered.next_s()
        counts = len(taken.claims), len(self._ledger.open), len(taken.held)
        _log.info("claimed %d partitions, %d inputs to replay, %d outputs held", *counts)
        self._kit.later(SWEEP_S, self._sweep)

    def _replay(self, claim: Claim, entry: Entry, waiting: set[tuple[int, int, int]]) -> None:
        left = [
            index
            for index, output in enumerate(entry.outputs)
            if output.kind not in ROWS  # a row, or no more
            and (entry.seq, index) not in claim.settled
            and (claim.partition, entry.seq, index) not in waiting
        ]
        opened = Open(claim.partition, entry.seq, entry.outputs, len(left), [], self._clock())
        opened.committed_s = opened.received_s
        self._ledger.add(opened)
        for index in left:
            output = replayed(entry.outputs[index])
            self._go(Job(claim.partition, entry.seq, index, output, opened), opened.committed_s)

    def _go(self, job: Job, now: float) -> None:
        """Publish, or wait as a row behind an earlier one of its key that waits, after a restart as before."""
        if job.key in self._waiting.rows:
            self._waiting.add(job, now, "behind an earlier one that waits")
        elif (paused := self._paused) and job.output.target in paused and not self._outflow.busy(job.key):
            self._waiting.add(job, now, PAUSED)
        else:
            self._outflow.add(job)

    def consume(self) -> None:
        """Everything recorded is settled: take what is new."""
        self.phase = "running"
        queues = [naming.ingress_queue(self._kit.namespace, partition) for partition in self._partitions]
        if 0 in self._partitions:  # what the broker gives up on is recorded in partition 0
            queues.append(naming.bounced(self._kit.namespace))
        self._expect()
        self._transport.consume(queues, self._kit.prefetch)
        self._look_at(self._next_due_s)

    def reconfigured(self) -> None:
        """The judge decides by another configuration: what it decides from now on goes where that one says."""
        before, self._addresses = self._addresses, self._new_addresses()
        self._outflow.reconfigure(self._addresses)
        for jobs in self._waiting.rows.values():
            for job in jobs:
                job.way = job.way or before

    def _new_addresses(self) -> Addresses:
        return Addresses(self._kit.namespace, self._kit.judge.table.catalog.subscriptions)

    def leave(self) -> None:
        """Take nothing more; `settled` is called when what is committed is finished and that is durable, too."""
        self.phase = "leaving"
        self._arrived.clear()
        self.turn()

    def batch(self, batch: Sequence[Received]) -> None:
        """Take what has arrived; when leaving, what is not acked goes back as the socket closes."""
        if self.phase == "running":
            self._arrived.extend(batch)
            if self._drainage:
                for each in batch:
                    if each.delivery.content_type not in OWN or each.delivery.user_id != self._bus_user:
                        self._drainage.arrived(each.delivery.queue)
            self.turn()

    def outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Take what the broker said of publishes."""
        now = self._clock()
        confirmed = 0
        oldest = now
        renew = ""
        self._reach("during-replay" if self.phase == "replaying" else "after-publish")
        for outcome in outcomes:
            job = self._outflow.outcome(outcome)
            if job is None:
                continue
            if outcome.how == "confirmed":
                confirmed += 1
                if job.owner is not None and job.owner.committed_s < oldest:
                    oldest = job.owner.committed_s
                if self._refusals.noted:
                    self._refusals.taken(self._addresses.of(job.output))
                self._confirmed(job)
            elif outcome.how == "returned" and job.output.kind not in ("dead", "invalid"):
                self._came_back.append((job, outcome))
            else:
                self._hold(job, now, outcome.reason or "the queue is full")
                renew = self._refusals.refused(self._addresses.of(job.output), now) or renew
        self._reach("after-confirm")
        if confirmed:
            self._meter.confirmed(confirmed, now - oldest)
        if renew and self.phase != "leaving":
            _log.warning("connecting anew: %s", renew)
            self._kit.anew(renew)  # what is not committed is void, so the refused rows are due as they were: at once
        else:
            self.turn()

    # --- the turn: what can be done now, is ------------------------------------------------------------------------

    def turn(self) -> None:
        if not self._committing:
            due = (
                self._rows_due
                or (self.phase == "running" and self._judge.leases.away)
                or self._runs_due
                or self._move
                or self._notices()
                or self._releasable()
            )
            if self._arrived or self._came_back or self._waiting.hold or due:
                self._take()
            elif self._ledger.risen or self._waiting.release:
                self._flush_later()
        self._outflow.flush()
        tag = self._ledger.ackable()
        if tag is not None:
            self._reach("before-ack")
            self._transport.ack(tag)
        self._report()
        if self.phase != "running" and self._is_settled():
            self._kit.settled()

    def _is_settled(self) -> bool:
        waits = self._ledger.open or self._committing or self._came_back or self._waiting.hold
        # What has risen is written before leaving, so that the next owner has nothing to replay.
        return not waits and (self.phase == "replaying" or not (self._ledger.risen or self._waiting.release))

    def _report(self) -> None:
        finished = self._ledger.finished
        if finished:
            now = self._clock()
            for each in finished:
                if each.decision is not None:
                    self._meter.finished(each.decision, now - each.received_s)
                    if self._kit.on_finished is not None:
                        self._kit.on_finished(each, now)
            finished.clear()
        self._meter.in_flight(len(self._ledger.open), len(self._outflow))

    def _take(self) -> None:
        batch: list[Received] = []
        woken = False
        while self._arrived and len(batch) < BATCH:
            received = self._arrived.popleft()
            delivery = received.delivery
            if delivery.content_type not in OWN or delivery.user_id != self._bus_user:
                batch.append(received)
                continue
            self._ledger.free(received.tag)
            if delivery.content_type == WAKE:
                woken = True
            else:
                self._drainage.marked(delivery.queue, delivery.body)
                partition = self._arrivals.marked(delivery.queue, delivery.body)
                self._whole.update(() if partition is None else (partition,))
        if woken:  # once for all tokens: it looks at every row that waits, and each of them has sent one
            self._wake()
        back, self._came_back = self._came_back, []
        held, self._waiting.hold = self._waiting.hold, []
        self._commit(batch, back, [self._returned(job, outcome) for job, outcome in back], held)

    def _commit(
        self,
        batch: Sequence[Received],
        back: Sequence[tuple[Job, Outcome]],
        excepted: Sequence[Excepted],
        held: Sequence[Job],
    ) -> None:
        """Decide and commit on the store's thread: an identity may have to be looked up, and the loop never waits."""
        release, self._waiting.release = self._waiting.release, []
        move, self._move = self._move, frozenset()
        # What this commit begins stands in no log yet, and could not be moved in it.
        lapse, self._rows_due = self._rows_due and not move, self._rows_due and bool(move)
        # Runs that have come go on when what has come for them before is decided.
        ready = self.phase == "running" and not self._judge.arriving and not self._judge.releasable
        runs, self._runs_due = self._runs_due and ready and not move, self._runs_due and bool(move)
        away = self._judge.leases.leaving() if self.phase == "running" else []
        whole, self._whole = self._whole, set()
        done, notices = self._ledger.marks(), self._notices()
        parked = BATCH if self._releasable() and not move else 0
        if not (
            batch or back or held or done or release or lapse or move or runs or notices or parked or whole or away
        ):
            return
        self._committing = True
        gone = {(each.partition, each.seq, each.index) for each in release}
        rows = [job.held for job in held if job.held is not None and (job.partition, job.seq, job.index) not in gone]
        decide_s = commit_s = 0.0

        def work() -> Judged:
            nonlocal decide_s, commit_s
            began = time.perf_counter()
            judged = self._judge.judge(batch, parked)
            self._take_back(back, judged)
            self._judge.all_arrived(whole)
            if lapse:
                self._judge.lapse(judged, away)
                self._judge.send_scheduled(judged)
            if runs:
                self._judge.due(judged, BATCH)
            self._judge.notice(notices, judged)
            send_leases(self._judge, self._kit.store, self._judge.leases.rows(away), judged)
            if move:
                self._judge.retire(move)
                send(self._judge, self._kit.store, move, judged, BATCH)
            hold, free = self._judge.changes()
            decide_s = time.perf_counter() - began
            self._reach("before-commit")
            began = time.perf_counter()
            states = self._judge.remembered.changes()
            commit = Commit(judged.entries, done, [*rows, *hold], [*release, *free], excepted, states)
            if judged.opens or done or commit.hold or commit.release or excepted or states:
                self._kit.store.commit(commit)
            judged.next_due_s = self._judge.remembered.next_s()
            commit_s = time.perf_counter() - began
            self._judge.committed(judged.keys)
            return judged

        def durable(judged: Judged) -> None:
            if judged.decisions:
                self._meter.decided(judged.decisions, decide_s)
            self._meter.committed(len(judged.opens), commit_s)
            for _ in notices:
                self._kit.notices.popleft()
            self._committed(judged, [job for job, _ in back], held)

        self._submit(work, durable)

    def _take_back(self, back: Sequence[tuple[Job, Outcome]], judged: Judged) -> None:
        for job, outcome in back:
            if job.output.kind != "client":
                self._judge.came_back(job.partition, job.output, outcome.reason, judged)

    def _committed(self, judged: Judged, back: Sequence[Job], held: Sequence[Job]) -> None:
        self._reach("after-commit")
        self._committing = False
        self._kit.heed()
        now = self._clock()
        self._prune(len(judged.opens))
        if judged.next_due_s != self._next_due_s or (judged.next_due_s or now + 1) <= now:
            self._look_at(judged.next_due_s)
        for decision in judged.decisions:
            if decision.failure is not None:
                log_failure(decision)
        for opened in judged.opens:
            opened.committed_s = now
            self._ledger.add(opened)
            for index, output in enumerate(opened.outputs):
                if output.kind in ROWS:
                    continue  # its row is written
                self._go(Job(opened.partition, opened.seq, index, output, opened), now)
        for job in held:
            self._settle(job)
            self._token(job, now)
        for job in back:
            self._settle(job)
        self.turn()

    def _releasable(self) -> bool:
        return self.phase == "running" and self._judge.releasable

    def _notices(self) -> list[Notice]:
        if not self._kit.notices or self.phase != "running" or not self._judge.decides:
            return []
        return list(self._kit.notices)

    def _look_at(self, due_s: float | None) -> None:
        """Have the runs looked at that are due then."""
        self._next_due_s = due_s
        if due_s is not None:
            self._kit.later(max(0.0, due_s - self._clock()), self._time_came)

    def _time_came(self) -> None:
        if self.phase == "running" and self._next_due_s is not None and self._next_due_s <= self._clock():
            self._runs_due = True
            self.turn()

    def _prune(self, inputs: int) -> None:
        """Forget old identities in steady state, a quarter of the window at a time; never right after a claim."""
        self._unpruned += inputs
        if self._unpruned > self._kit.window // 4:
            self._unpruned = 0
            self._submit(lambda: self._kit.store.prune(self._kit.window), lambda dropped: None)

    def _flush_later(self) -> None:
        """A watermark with nothing to ride on: write it when the bus stays idle, at once when draining."""
        if self.phase == "leaving":
            self._commit((), (), (), ())
        elif not self._idle_timer:
            self._idle_timer = True
            self._kit.later(IDLE_FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._idle_timer = False
        self._reach("after-ack")
        if not self._committing and self.phase != "leaving":
            self._commit((), (), (), ())

    # --- outcomes of publishes -------------------------------------------------------------------------------------

    def _settle(self, job: Job) -> None:
        if job.owner is not None:
            owner, job.owner = job.owner, None
            self._ledger.settle(owner)

    def _confirmed(self, job: Job) -> None:
        if job.held is None:
            self._settle(job)
            self._after(job)
            return
        self._outflow.stop(job.key)
        self._following(job)

    def _after(self, job: Job) -> None:
        """Send what is behind a published one of its key, or have it wait when the target is paused by now."""
        if (paused := self._paused) and job.output.target in paused:
            for later in self._outflow.stop(job.key):
                self._waiting.add(later, self._clock(), PAUSED)
        else:
            self._outflow.next(job.key)

    def _following(self, job: Job) -> None:
        """Try the row behind one that got through, or is gone; it waits on when the target is paused by now."""
        following = self._waiting.confirmed(job)
        if following is None:
            return
        if (paused := self._paused) and following.output.target in paused:
            self._waiting.trying.discard(following.key)
        else:
            self._outflow.add(following)

    @property
    def _paused(self) -> frozenset[str]:
        return self._judge.controls.standing.paused

    def _hold(self, job: Job, now: float, reason: str) -> None:
        """Refused: it waits as a row, and what was behind it in memory waits behind it as rows."""
        behind = self._outflow.stop(job.key)
        self._waiting.add(job, now, reason)
        for later in behind:
            self._waiting.add(later, now, "behind an earlier one that waits")

    def _returned(self, job: Job, outcome: Outcome) -> Excepted:
        """It had nowhere to go: what follows from that is decided with the next commit; the next of its key may go."""
        if job.held is not None:
            self._outflow.stop(job.key)
            self._following(job)
        else:
            self._after(job)
        self._meter.excepted("returned", "returned", 1)
        reason = "the asker is gone" if job.output.kind == "client" else outcome.reason
        return Excepted(job.partition, job.seq, job.index, "returned", self._clock(), reason)

    # --- what waits ------------------------------------------------------------------------------------------------

    def _token(self, job: Job, now: float) -> None:
        self._tokens -= 1
        self._transport.publish([wake_token(self._kit.namespace, job, now, self._tokens)])

    def _wake(self) -> None:
        for job in self._waiting.due(self._clock(), self._paused):
            self._meter.retried(job.output.target)
            self._outflow.add(job)

    def _sweep(self) -> None:
        self._kit.later(SWEEP_S, self._sweep)
        for job in self._outflow.overdue(self._clock() - CONFIRM_S):
            job.output = replayed(job.output)
            self._hold(job, self._clock(), f"the broker has not answered for {CONFIRM_S:g} s")
        if self.phase == "running":
            if self._drainage:
                self._drain()
            if self._arrivals:
                self._expect()
            self._rows_due = len(self._judge.leases) > 0 or self._judge.schedules.due(self._clock())
            self._runs_due = self._next_due_s is not None and self._next_due_s <= self._clock()
            if self._waiting.rows:
                self._wake()
        self.turn()
        if self._judge.passed_on and self.phase == "running":
            # A few are late. More, and for ever, if somebody has bound what was unbound: old definitions imported, say.
            _log.warning("%d messages came to retired partitions and were passed on", self._judge.passed_on)
            self._judge.passed_on = 0
            self._kit.lead()

    # --- growing: see bus.shell.drainage ---------------------------------------------------------------------------

    def _expect(self) -> None:
        marks = self._arrivals.due()
        if marks:
            self._transport.publish(marks)

    def _drain(self) -> None:
        marks = self._drainage.due()
        if marks:
            self._transport.publish(marks)
        if self._committing or self._arrived:
            return
        quiet = self._drainage.settled() - self._busy()
        self._move = self._judge.remembered.within(quiet)
        self._move |= frozenset(row.partition for row in self._judge.leases.within(quiet))
        done = quiet - self._move
        if done and not self._move:
            self._committing = True  # nothing is decided between the look and the note
            self._submit(lambda: self._note_drained(done), lambda _: self._drained(done))

    def _busy(self) -> set[int]:
        """Partitions with something unfinished, held, or not yet written down as finished."""
        return self._waiting.partitions | {partition for partition, _ in self._ledger.open} | self._ledger.risen

    def _note_drained(self, partitions: Collection[int]) -> None:
        self._judge.retire(partitions)
        self._kit.drained(partitions)

    def _drained(self, partitions: Collection[int]) -> None:
        _log.info("partitions %s are drained", ", ".join(map(str, sorted(partitions))))
        self._drainage.end(partitions)
        self._committing = False
        self.turn()
