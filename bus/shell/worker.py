"""The worker: owner of the partitions, and the delivery protocol that keeps the promise.

    claim       lease partitions, read what is pending and held, rebuild the duplicates filter (bus.shell.tenancy)
    replay      publish every pending output again, under the same ids, and wait for the confirms
    run         batch in -> judge (pure) -> ONE commit -> publish, confirmed -> ack
    enter       lead `NS.in` to the newest generation of partitions (bus.shell.entry)
    yield       the share of partitions has changed, or they grow: take nothing more, finish what is committed, connect
                anew, claim
    drain       the same, then leave by closing the socket

A batch is whatever has arrived while the last commit ran, so a quiet bus commits at once and a busy one in hundreds.
Nothing is published before its commit (I1), nothing acked before its outputs are confirmed, held or excepted (I2), one
publish per (conversation, target) is in flight (I3), tags live and die with their connection (I4). When a connection
is lost everything in memory is void: the store is claimed and read again, and a recorded decision is never made anew.
The same when the store is down or another worker has claimed: the connection is let go, so that no delivery is held
while nothing can be written, and the claim is tried until it succeeds. A store that is of no more use ends the worker;
whoever runs it starts it again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from bus.core.errors import BusError, Fenced, StoreDown, StoreFailed
from bus.core.facts import Facts
from bus.core.ingress import Ingress
from bus.core.notices import Notice
from bus.core.table import RouteTable
from bus.ports import Blobs, Meter, Outcome, Received, Store, Transport
from bus.shell.committer import CommitQueue, Committer
from bus.shell.controls import Standing
from bus.shell.entry import way_of
from bus.shell.failpoints import Reach, nothing
from bus.shell.judge import Judge
from bus.shell.kit import Kit
from bus.shell.ledger import Open
from bus.shell.refusals import Refusals
from bus.shell.tenancy import RENEW_S, STANDBY_S, Layout, Taken, Tenancy
from bus.shell.tenure import Tenure
from bus.shell.trial.apart import Apart
from bus.shell.versions import Compiler, Configuration, Versions, cannot
from bus.shell.watchdog import BEAT_S, Vitals

_log = logging.getLogger(__name__)

T = TypeVar("T")

DRAIN_S = 10.0  # how long a drain may take; what is left is replayed at the next start
STORE_RETRY_S = (0.5, 5.0)  # between attempts to claim from a store that is down: doubles from the first to the last

_MOST_NOTICES = 100  # that wait for a worker which owns no partition, or reaches no store; the older ones are dropped

State = Literal["down", "claiming", "standby", "replaying", "running", "yielding", "draining", "stopped"]
YIELDING = "the share of partitions changes"
GROWING = "the namespace grows, and the broker does not know it yet"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker works on.

    Args:
        namespace: whose ingress it owns, or shares with other workers.
        partitions: how many a namespace gets that has none yet; otherwise the store says.
        prefetch: unacked deliveries at most.
        window: identities remembered per partition.
        worker: name of the worker, which no other has or had.
    """

    namespace: str
    partitions: int
    prefetch: int = 2000
    window: int = 250_000
    worker: str = "worker"


class Worker:
    """Args:
    transport, store, meter: the ports; the worker owns their lives while it runs.
    table: the compiled configuration to begin with; see `reconfigure`.
    facts: limits and identities.
    plan: which partitions, and bounds.
    clock: epoch seconds.
    on_state: told of every change of state, on the loop thread.
    on_finished: told of every finished input and the time, on the loop thread; for spans.
    monotonic: seconds that leases are counted by.
    committer: makes what runs the store's work; a thread, unless a test wants it inline.
    reach: told of each failpoint that is passed.
    apart: where suspects are decided; None decides them like all others.
    blobs: where large values wait for their claim check; None is nowhere.
    layout: shared with whoever declares the topology at each connect, and takes from it what partitions there are.
    refusals: when a connection is made anew because a target goes on refusing.
    vitals: its pulses, for a watchdog.
    on_told: told what operators have said, when it is news, and at the start; on the loop thread.
    bundle: what the configuration can be compiled from again.
    compiler: compiles configurations that runs began under.
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
        monotonic: Callable[[], float] = time.monotonic,
        on_state: Callable[[State], None] = lambda state: None,
        on_finished: Callable[[Open, float], None] | None = None,
        committer: Callable[[Callable[[Callable[[], None]], None]], CommitQueue] = Committer,
        reach: Reach = nothing,
        apart: Apart | None = None,
        blobs: Blobs | None = None,
        layout: Layout | None = None,
        refusals: Refusals | None = None,
        vitals: Vitals | None = None,
        on_told: Callable[[Standing], None] = lambda standing: None,
        bundle: bytes = b"",
        compiler: Compiler = cannot,
    ) -> None:
        self._transport = transport
        self._store = store
        self._meter = meter
        self._plan = plan
        self._reach = reach
        self._clock = clock
        self._on_state = on_state
        self._on_finished = on_finished
        self._layout = layout or Layout()
        self._refusals = Refusals() if refusals is None else refusals
        self._vitals = vitals or Vitals()
        alive = self._vitals.store.beat
        self._tenancy = Tenancy(store, plan.worker, plan.partitions, plan.window, monotonic, self._layout, alive)
        self._judge = Judge(
            store, table, facts, plan.namespace, plan.window, clock, apart, blobs,
            Versions(store, Configuration(table, bundle), compiler),
        )  # fmt: skip
        if apart is not None:
            apart.meanwhile = self._tenancy.keep
            apart.bundle = self._judge.versions.bundle
        self._committer = committer(transport.call_threadsafe)
        self._tenure: Tenure | None = None
        self._notices: deque[Notice] = deque(maxlen=_MOST_NOTICES)
        self._on_told = on_told
        self._heeded: Standing | None = None
        self._leading = False
        self._claims = 0  # how often it has claimed or given up what it had; only the last one begins anything
        self._life = 0  # number of the connection; what was begun on an earlier one is dropped
        self._store_tries = 0
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
            self._beat()
            self._transport.run(self)
        finally:
            self._vitals.loop.rest()
            self._committer.close()
            self._set("stopped")
        if self._error is not None:
            raise self._error

    def reconfigure(self, after: Configuration, done: Callable[[BusError | None], None]) -> None:
        """Decide by another configuration from the next batch on; see bus.shell.reload. Thread-safe."""

        def changed(result: None | Exception) -> None:
            if isinstance(result, Exception):
                done(result if isinstance(result, BusError) else BusError(repr(result)))
                return
            self._layout.catalog = after.table.catalog
            self._meter.configured(after.table.catalog)
            if self._tenure is not None:
                self._tenure.reconfigured()
            done(None)

        work = self._watched(lambda: self._judge.reconfigure(after))
        self._transport.call_threadsafe(lambda: self._committer.submit(work, changed))

    def notice(self, notice: Notice) -> None:
        """Have something stand in the audit log as soon as this worker writes one. Thread-safe."""

        def add() -> None:
            self._notices.append(notice)
            if self._tenure is not None:
                self._tenure.turn()

        self._transport.call_threadsafe(add)

    def drain(self) -> None:
        """Take nothing more, finish what is committed, then stop. Thread-safe, may be called twice."""
        self._transport.call_threadsafe(self._drain)

    def _drain(self) -> None:
        if self.state in ("draining", "stopped"):
            return
        self._set("draining")
        if self._tenure is None:
            self._leave()
            return
        self._transport.call_later(DRAIN_S, self._leave)
        self._tenure.leave()

    def _leave(self) -> None:
        """Give the leases back, then stop."""
        self._committer.submit(self._watched(self._tenancy.leave), lambda _: self._transport.stop())

    def _beat(self) -> None:
        """Say that the loop lives, connected or not."""
        self._vitals.loop.beat()
        self._transport.call_later(BEAT_S, self._beat)

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
            if not isinstance(result, Exception):
                if life == self._life:
                    done(result)
            elif isinstance(result, (StoreDown, Fenced)):
                if life == self._life:
                    self._interrupted(result)
            else:
                self._fail(result)

        self._committer.submit(self._watched(work), arrived)

    def _watched(self, work: Callable[[], T]) -> Callable[[], T]:
        """The same, with the pulse of the thread that it runs on."""

        def watched() -> T:
            self._vitals.store.beat()
            try:
                return work()
            finally:
                self._vitals.store.rest()

        return watched

    @property
    def table(self) -> RouteTable:
        """The configuration in force."""
        return self._judge.table

    @property
    def layout(self) -> Layout:
        """What partitions there are, as far as it knows."""
        return self._layout

    @property
    def owned(self) -> frozenset[int]:
        """The slots that it has: see bus.core.ingress."""
        return self._tenancy.owned

    @property
    def lease_expired(self) -> bool:
        """Whether somebody else may own them by now."""
        return self._tenancy.expired

    # --- events of the transport ----------------------------------------------------------------------------------

    def on_connected(self) -> None:
        if self.state == "draining":
            self._leave()
            return
        self._meter.connected(True)
        self._refusals.connected()
        self._take_over()

    def on_lost(self, reason: str) -> None:
        _log.warning("connection lost: %s", reason)
        self._life += 1
        self._tenure = None
        self._leading = False
        self._meter.connected(False)
        self._meter.in_flight(0, 0)
        if self.state == "draining":
            self._leave()
        else:
            self._set("down")

    def on_blocked(self, blocked: bool, reason: str) -> None:
        _log.warning("the broker %s publishing: %s", "blocks" if blocked else "no longer blocks", reason or "-")
        self._meter.blocked(blocked)

    def on_batch(self, batch: Sequence[Received]) -> None:
        if self._tenure is not None:
            self._tenure.batch(batch)

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        if self._tenure is not None and not self._void():
            self._tenure.outcomes(outcomes)

    # --- claiming and replaying -----------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Claim what this worker should own, on a connection that consumes nothing yet."""
        if self.state != "standby":
            self._set("claiming")
        self._claims += 1
        self._submit(self._take, self._claimed)

    def _take(self) -> Taken:
        taken = self._tenancy.take(self._reach, self._judge.claimed)
        if not taken.claims:  # who stands by hears operators, too
            self._judge.controls.read()
        return taken

    def _claimed(self, taken: Taken) -> None:
        self._store_tries = 0
        self._meter.store_up(True)
        self._meter.owns(len(self._tenancy.owned))
        self._heed()
        if self.state == "draining":
            self._leave()
            return
        if not taken.claims:
            self._set("standby")
            self._in_this_life(STANDBY_S, self._take_over)
            return
        if self._layout.declared not in ((), taken.ingress.sizes):
            self._anew(GROWING)
            return
        if self._tenancy.broken or self._tenancy.expired:  # who has no lease must lead nowhere: see bus.shell.entry
            self._anew("its leases have run out, or the ingress has changed, since it claimed")
            return
        self._in_this_life(RENEW_S, self._renew)
        claim = self._claims
        self._lead(taken.ingress, lambda: self._entered(taken) if claim == self._claims else None)

    def _lead(self, ingress: Ingress, then: Callable[[], None]) -> None:
        life = self._life

        def led() -> None:
            if life == self._life:
                self._leading = False
                then()

        self._leading = True
        self._transport.lead(way_of(self._plan.namespace, ingress), led)

    def _lead_again(self) -> None:
        if not self._leading and not self._void():
            self._lead(self._layout.known, lambda: None)

    def _entered(self, taken: Taken) -> None:
        if self.state == "draining":
            return
        self._tenure = Tenure(self._kit(taken), taken)
        self._set("replaying")
        self._tenure.turn()

    def _kit(self, taken: Taken) -> Kit:
        plan = self._plan
        # The same for each queue, and as long as the namespace lives, however many partitions a worker owns: see
        # `Transport.consume`. One more than the first partitions is for what the broker gives up on.
        share = max(1, plan.prefetch // (taken.ingress.sizes[0] + 1))
        return Kit(
            self._transport, self._store, self._meter, self._judge, plan.namespace, share, plan.window,
            self._clock, self._submit, self._in_this_life, self._settled, self._lead_again,
            self._tenancy.drained, self._reach, self._refusals, self._anew, self._notices, self._heed,
            self._on_finished,
        )  # fmt: skip

    def _settled(self) -> None:
        """Nothing is open: what was recorded is replayed, or what was committed is finished."""
        if self.state == "replaying" and self._tenure is not None:
            self._set("running")
            self._tenure.consume()
        elif self.state == "draining":
            self._leave()
        elif self.state == "yielding":
            self._anew(YIELDING)

    def _anew(self, reason: str) -> None:
        """Let go of the connection and begin again. Nothing of this life is done any more, not even until it is lost:
        a publish between the two would find no connection."""
        self._life += 1
        self._tenure = None
        self._leading = False
        self._transport.restart(reason)

    def _renew(self) -> None:
        def renew() -> bool:
            unchanged = self._tenancy.renew()
            self._judge.controls.read()
            return unchanged

        self._submit(renew, self._renewed)

    def _heed(self) -> None:
        """Do what an operator has said since the last time."""
        standing = self._judge.controls.standing
        if standing is not self._heeded:
            self._heeded = standing
            self._on_told(standing)
            if self._tenure is not None:
                self._tenure.turn()

    def _renewed(self, unchanged: bool) -> None:
        self._heed()
        self._in_this_life(RENEW_S, self._renew)
        if not unchanged and self._tenure is not None and self.state in ("running", "replaying"):
            _log.info(YIELDING)
            self._set("yielding")
            self._in_this_life(DRAIN_S, lambda: self._anew(YIELDING))
            self._tenure.leave()

    def _interrupted(self, error: StoreFailed) -> None:
        """The store is down, or what we own is claimed by another: nothing in memory counts any more."""
        _log.warning("nothing more is taken: %s", error)
        if isinstance(error, StoreDown):
            self._meter.store_up(False)
        if self._tenure is None:  # no delivery is held: the connection may stay
            self._claims += 1
            self._store_tries += 1
            pause = min(STORE_RETRY_S[1], STORE_RETRY_S[0] * 2 ** (self._store_tries - 1))
            self._set("claiming")
            self._in_this_life(pause, self._take_over)
        else:
            self._anew(str(error))

    def _void(self) -> bool:
        """Whether the leases have run out, as after a long pause of this process: then it begins anew."""
        if self._tenancy.expired:
            self._anew("its leases have run out")
            return True
        return False

    def _in_this_life(self, seconds: float, call: Callable[[], None]) -> None:
        """Call later, unless the connection has been lost by then."""
        life = self._life
        self._transport.call_later(seconds, lambda: call() if life == self._life else None)
