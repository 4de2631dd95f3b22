"""From a delivery to what the next commit records of it: identity, duplicates, decision, number, record.

The impure half of deciding, without any I/O of its own but the inbox's exact look-ups: it gives out the numbers of
the partitions' logs and knows the clock. The worker feeds it batches and commits what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter

from bus.audit.record import content_hash
from bus.audit.record import encode as encode_record
from bus.core import naming
from bus.core.actions import ROWS, Change, Decision, Delivery, Output
from bus.core.address import brought_back
from bus.core.facts import Facts, of_the_bus
from bus.core.identity import AT_THE_DOOR
from bus.core.leases import lapsed
from bus.core.memory import CELL
from bus.core.message import (
    FLOW_MOVE,
    REDRIVE,
    REPLYTO,
    TASK_CLAIM,
    TASK_LAPSE,
    TASK_MOVE,
    Message,
    task_of,
)
from bus.core.moving import ARRIVED
from bus.core.notices import Notice, noticed
from bus.core.outputs import BUS
from bus.core.parking import PARKED as KEYS
from bus.core.parking import WHY as PARKED
from bus.core.parking import released, remembered
from bus.core.pipeline import REKEYED, RETIRED, understand
from bus.core.redelivery import repeated, returned
from bus.core.schedules import begun, sent
from bus.core.table import RouteTable
from bus.core.times import rfc3339
from bus.ports import SHARED, Blobs, Claim, Entry, Held, InboxKey, Received, Store
from bus.shell.blobs.folder import NoBlobs
from bus.shell.blobs.luggage import Luggage
from bus.shell.controls import Controls, shared
from bus.shell.express import Quick, express_lane
from bus.shell.inbox import Elders, Inbox, answer_key, inbox_key, raw_key
from bus.shell.judged import Case, Judged
from bus.shell.leases import Leases
from bus.shell.ledger import Open
from bus.shell.newcomers import take_lease, take_state
from bus.shell.parked import Parked
from bus.shell.remembered import Remembered
from bus.shell.schedules import HOME, Schedules
from bus.shell.trial.place import SUSPECT, Here, Place
from bus.shell.versions import Configuration, Versions


class Judge:
    """Args:
    store: for exact look-ups of identities, and the requests behind leases that have run out.
    table: the compiled configuration.
    facts: limits and identities; the time in it is set per batch.
    namespace: whose queues these are.
    window: identities remembered per partition.
    clock: epoch seconds.
    apart: where suspects are decided; None decides them like all others.
    versions: keeps the configuration, and knows those before it.
    blobs: where large values wait; None is nowhere.
    """

    def __init__(
        self,
        store: Store,
        table: RouteTable,
        facts: Facts,
        namespace: str,
        window: int,
        clock: Callable[[], float],
        apart: Place | None = None,
        blobs: Blobs | None = None,
        versions: Versions | None = None,
    ) -> None:
        self._store = store
        self.table = table
        self.versions = versions or Versions(store, Configuration(table))
        self._facts = facts
        self._ns = namespace
        self._window = window
        self._clock = clock
        self._here = Here(table)
        self._apart: Place = apart or self._here
        self._luggage = Luggage(blobs or NoBlobs())
        self.leases = Leases()
        self.schedules = Schedules()
        self.remembered = Remembered(store)
        self._partitions: dict[str, int] = {}
        self.controls = Controls(store)
        self.parked = Parked()
        self.arriving: set[int] = set()  # partitions that something remembered may be on its way to
        self._told = False  # whether a control message is in what is to be committed
        self._retired: set[int] = set()
        self._claimed_s = 0.0
        self.passed_on = 0  # what came out of retired partitions, until somebody sets it back
        self._inboxes: dict[int, Inbox] = {}
        self._facts_of: dict[int, tuple[Facts, Facts]] = {}
        self._next: dict[int, int] = {}
        self._lane = express_lane(table, facts)

    @property
    def bus_user(self) -> str:
        """The broker user that only the bus has."""
        return self._facts.bus_user

    def claimed(
        self,
        claims: Iterable[Claim],
        keys: Iterable[tuple[int, int, bytes]],
        elders: Elders | None = None,
        retired: Collection[int] = (),
        grown: Collection[int] = (),
    ) -> None:
        """Begin anew from what the store holds; its keys, in order, are read as a stream and never all in memory.

        Args:
            claims: of all partitions that are worked on.
            keys: identities that they hold.
            elders: identities that earlier generations hold.
            retired: partitions in which nothing is decided any more.
            grown: partitions of a generation that has followed on another.
        """
        self.versions.begin()
        self._claimed_s = self._clock()
        self._retired = set(retired)
        self._partitions.clear()
        self._next.clear()
        self.leases = Leases()
        self.schedules = Schedules(self.table.catalog.schedules)
        self._inboxes.clear()
        self.remembered = Remembered(self._store)
        self.parked = Parked()
        self.controls.read()
        self.arriving = {*grown}
        for claim in claims:
            if claim.partition == HOME:
                self.schedules.begin()
            self.remembered.load(claim.partition)
            if self.remembered.recall(claim.partition, ARRIVED) is not None:
                self.arriving.discard(claim.partition)
            self.parked.load(claim.partition, self.remembered.keys(claim.partition, KEYS))
            self._partitions[naming.ingress_queue(self._ns, claim.partition)] = claim.partition
            self._next[claim.partition] = claim.next_seq
            young = claim.next_seq <= self._window and claim.partition not in self._retired
            inbox = Inbox(claim.partition, self._store, self._window, elders if young else None)
            self._inboxes[claim.partition] = inbox
        for (partition, bucket), rows in groupby(keys, itemgetter(0, 1)):
            self._inboxes[partition].remember(bucket, [key for _, _, key in rows])

    def reconfigure(self, after: Configuration) -> None:
        """Decide by another configuration from the next batch on; runs that are under way stay with theirs.

        Raises:
            StoreDown: the store cannot be written, and nothing has changed.
        """
        self.versions.change(after)
        self.table = after.table
        self._lane = express_lane(after.table, self._facts)
        for place in {self._here, self._apart}:
            place.reconfigure(after.table)
        self.schedules.reconfigure(after.table.catalog.schedules)

    def notice(self, notices: Iterable[Notice], judged: Judged) -> None:
        """Record what was done without a message, in the first partition that anything is recorded in."""
        facts = self.facts_now()
        for notice in notices:
            partition = min({*self._partitions.values()} - self._retired)
            delivery, decision = noticed(notice, self._next[partition], partition, facts)
            self.record(partition, delivery, decision, facts, judged)

    @property
    def decides(self) -> bool:
        """Whether there is a partition in which anything may still be decided."""
        return not self._retired.issuperset(self._partitions.values())

    def all_arrived(self, partitions: Collection[int]) -> None:
        """Nothing is on its way to these any more."""
        for partition in self.arriving.intersection(partitions):
            self.arriving.remove(partition)
            self.remembered.apply(partition, [Change(ARRIVED, b"{}")])

    def retire(self, partitions: Collection[int]) -> None:
        """From now on nothing is decided in these: what still comes goes on to the partition of its conversation."""
        self._retired.update(partitions)

    def judge(self, batch: Sequence[Received], release: int = 0) -> Judged:
        """Decide a batch, in order, after at most `release` messages that have waited for routes.

        It goes stage by stage over the whole batch and not message by message: the code and tables of one stage then
        stay in the processor's caches, which saves a fifth of the time.
        """
        facts = self.facts_now()
        judged = Judged()
        if release and self.releasable:
            self._release(facts, judged, release)
        table, partitions = self.table, self._partitions
        quick = self._quick(batch, facts)
        understood = [
            None
            if made is not None or delivery.queue not in partitions
            else understand(delivery, table, facts)
            if delivery.redelivered < SUSPECT
            else self._apart.understand(delivery, facts)
            for made, (_, delivery, _) in zip(quick, batch, strict=True)
        ]
        contents = [
            b"" if made is not None else content_hash(delivery.body)
            for made, (_, delivery, _) in zip(quick, batch, strict=True)
        ]
        cases: list[Case] = []
        for at, (_, delivery, _) in enumerate(batch):
            made = quick[at]
            if made is not None:
                partition = partitions[delivery.queue]
                if self._inboxes[partition].earlier(made.key) is None:
                    cases.append(self._numbered(partition, made.decision, made.key, None, facts.now_s))
                    continue
                quick[at] = None  # seen before: what that means is told in Python
                understood[at], contents[at] = understand(delivery, table, facts), content_hash(delivery.body)
            cases.append(self._case(delivery, understood[at], contents[at], facts))
        entries = iter(self._lane.entries(batch, cases, quick, facts.now_s, self._clock()))
        for received, case, content, made in zip(batch, cases, contents, quick, strict=True):
            entry = None if made is None else next(entries)
            self._record(case, received.delivery, content, received, facts, judged, entry)
        return judged

    def _quick(self, batch: Sequence[Received], facts: Facts) -> list[Quick | None]:
        """What the express lane makes of a batch; None for each message that it leaves to Python."""
        but = self._retired | self.arriving | ({*self._partitions.values()} if facts.paused else set())
        fine = {each for each, at in self._partitions.items() if at not in but and not self.parked.paused(at)}
        return self._lane.judge(batch, fine, facts.now)

    def _case(self, delivery: Delivery, understood: Message | Decision | None, content: bytes, facts: Facts) -> Case:
        """Decide one, and give it its number and its place among the identities, so that the next one sees it."""
        if understood is None:  # NS.bounced: whoever owns partition 0 records what the broker gave up on
            partition = 0
            decision, key, behind = self._raw(
                delivery, content, 0, lambda: self._place(delivery).bounced(delivery, facts)
            )
        else:
            partition = self._partitions[delivery.queue]
            if isinstance(understood, Message):
                self._lane.learn(understood)
            decision, key, behind = self._ingress(delivery, understood, content, partition, facts)
        if behind is not None or decision.why == REKEYED:
            key = None
        return self._waiting(self._numbered(partition, decision, key, behind, facts.now_s), delivery)

    def _numbered(
        self, partition: int, decision: Decision, key: InboxKey | None, behind: int | None, now_s: float
    ) -> Case:
        if decision.changes:
            told = shared(decision.changes)
            self._told = self._told or told
            self.remembered.apply(SHARED if told else partition, decision.changes)
        seq = self._next[partition]
        self._next[partition] = seq + 1
        if key is not None:
            self._inboxes[partition].add(key, seq)
        for index, output in enumerate(decision.outputs):
            if output.kind == "lease":  # now: what comes right behind it in this batch may be of it
                self.leases.begin(partition, seq, index, output, now_s)
        return tuple.__new__(Case, (partition, seq, decision, key, behind))

    def _ingress(
        self, delivery: Delivery, understood: Message | Decision, content: bytes, partition: int, facts: Facts
    ) -> tuple[Decision, InboxKey | None, int | None]:
        if isinstance(understood, Decision):
            return self._raw(delivery, content, partition, lambda: understood)
        source, type_ = understood.source, understood.type
        answers = self.table.find(type_, source).answers is not None and source != BUS
        key = inbox_key(understood, answers, content)
        earlier = self._inboxes[partition].earlier(key)
        sent = not answers and REPLYTO in understood.attributes and source != BUS and brought_back(understood)
        if earlier is None and sent and type_ != TASK_CLAIM and REDRIVE not in understood.attributes:
            # The answer that ended the task in the course of which this was published: it is not wanted any more.
            answer = self._inboxes[partition].answer_to(understood)
            earlier = None if answer is None else answer._replace(same=False)
        if earlier is None:
            came = delivery
            if partition in self._retired:
                came = delivery._replace(routing_key=RETIRED)
                self.passed_on += 1
            if type_ in (TASK_CLAIM, TASK_MOVE):
                facts = self._of_its_task(understood, partition, facts)
            facts = self._recalling(partition, facts)
            place = self._place(delivery)
            decision = place.decide(came, understood, facts)
            if decision.changes:
                decision = self._kept(decision, partial(place.decide, came, understood), facts)
            if decision.why in AT_THE_DOOR:
                return self._raw(delivery, content, partition, lambda: decision)
            if type_ == TASK_MOVE and decision.end == "filtered":
                decision = take_lease(self.leases, self._inboxes[partition], self._store, understood, decision)
            elif type_ == FLOW_MOVE and decision.end == "filtered":
                decision = take_state(self.remembered, self.versions, self._store, understood, decision, partition)
            if answers or type_ in (TASK_CLAIM, TASK_LAPSE):
                self.leases.note(understood, decision, partition, facts, answers)
            return decision, key, None
        same, once = earlier.same, answers or sent
        decision = repeated(delivery, understood, self.table, facts, earlier.seq, same=same, answers=once)
        if decision.end == "invalid":
            # An input of its own, known by its bytes: without an identity a redelivery would be refused once more.
            return self._raw(delivery, content, partition, lambda: decision)
        return decision, None, None if earlier.elder else earlier.seq

    def facts_now(self) -> Facts:
        """The facts for a batch."""
        now, standing = self._clock(), self.controls.standing
        return replace(
            self._facts, now_s=now, now=rfc3339(now), controls=standing.switches, paused=standing.paused
        )  # fmt: skip

    def _kept(self, decision: Decision, again: Callable[[Facts], Decision], facts: Facts) -> Decision:
        """Keep the large values that a decision leaves behind; if they cannot be kept, decide that they cannot."""
        kept = self._luggage.keep(decision)
        return again(replace(facts, stores_blobs=False)) if kept is None else kept

    def _recalling(self, partition: int, facts: Facts) -> Facts:
        """The facts for a decision in this partition."""
        made = self._facts_of.get(partition)
        if made is None or made[0] is not facts:
            recall = self._luggage.reading(partial(self.remembered.recall, partition))
            paused, arriving = facts.paused | self.parked.paused(partition), partition in self.arriving
            own = replace(facts, recall=recall, paused=paused, arriving=arriving)
            made = self._facts_of[partition] = (facts, own)
        return made[1]

    @property
    def releasable(self) -> bool:
        """Whether messages wait for routes that are not paused any more."""
        return self.parked.ready(self.controls.standing.paused, self.arriving)

    def _release(self, facts: Facts, judged: Judged, most: int) -> None:
        """Decide what has waited for routes that are paused no more, in order, before anything that comes later."""
        for partition, key, old in self.parked.take(facts.paused, most, self.arriving):
            body = self.remembered.recall(partition, key)
            if body is None:
                continue
            delivery = released(body)
            # It was accepted as it came; how it is remembered may be longer.
            own = replace(self._recalling(partition, facts), paused=facts.paused, limits=of_the_bus(facts.limits))
            place = self._apart if old else self._here
            understood = place.understand(delivery, own)
            decision = understood if isinstance(understood, Decision) else place.decide(delivery, understood, own)
            if decision.changes and isinstance(understood, Message):
                decision = self._kept(decision, partial(place.decide, delivery, understood), own)
            decision = decision._replace(changes=(*decision.changes, Change(key, None)))
            self.record(partition, delivery, decision, facts, judged)

    def _waiting(self, case: Case, delivery: Delivery) -> Case:
        """Remember a message that is to wait for its route, under the number that it has got."""
        if case.decision.why == PARKED:
            change = remembered(case.decision, delivery, case.seq)
            self.remembered.apply(case.partition, [change])
            self.parked.add(case.partition, change.key)
        return case

    def due(self, judged: Judged, most: int) -> None:
        """Record what follows where routes with memory have waited long enough, and forget cells that are outlived."""
        facts = self.facts_now()
        for (partition, key), since_s in self.remembered.due(facts.now_s, most).items():
            if key.startswith(CELL):
                self.remembered.apply(partition, [Change(key, None)])
                continue
            knowing = self._recalling(partition, facts)
            # What was due when this worker claimed may be what has ended the one before: no broker counts how often.
            place = self._apart if since_s <= self._claimed_s else self._here
            found = place.due(key, knowing)
            if found is not None:
                delivery, made = found
                decision = self._luggage.keep(made)
                if decision is None:
                    again = place.due(key, replace(knowing, stores_blobs=False))
                    decision = made if again is None else again[1]
                self.record(partition, delivery, decision, facts, judged)

    def _of_its_task(self, claim: Message, partition: int, facts: Facts) -> Facts:
        """Add what the store says of the task that a claim names."""
        answer = self._inboxes[partition].answer_to(claim)
        answered = None if answer is None else answer.seq
        return replace(facts, answered=answered, leased=self.leases.find(partition, *task_of(claim)))

    def lapse(self, judged: Judged, but: Collection[str] = ()) -> None:
        """Record what follows from leases that have run out. An answer would have ended them, in its own commit."""
        facts = self.facts_now()
        for lease in self.leases.due(facts.now_s):
            partition, (task, fence, _) = lease.row.partition, lease.lease
            fresh = judged.entries.get(partition)
            if task in but or (fresh and lease.row.seq >= fresh[0].seq):
                continue  # it leaves now, or has just come and stands in no log yet
            output = self._store.entry(partition, lease.row.seq).outputs[lease.row.index]
            key = answer_key(task, fence, content_hash(output.body))
            if not (lease.ran or output.expires_ms is not None):
                self.leases.wait_on(lease, facts.now_s)
                continue
            delivery, decision = lapsed(output, facts, lease.reason)
            self.leases.end(partition, task, fence)
            self.record(partition, delivery, decision, facts, judged, key)

    def send_scheduled(self, judged: Judged) -> None:
        """Record what is sent by the clock."""
        now = self._clock()
        if not self.schedules.due(now):
            return
        facts = self.facts_now()
        for schedule, planned_s in self.schedules.take(now):
            delivery, decision = begun(schedule, facts) if planned_s is None else sent(schedule, planned_s, facts)
            self.record(HOME, delivery, decision, facts, judged)

    def changes(self) -> tuple[list[Held], list[Held]]:
        """Rows of leases and schedules that the next commit must write, and those that it must remove."""
        leases, schedules = self.leases.changes(), self.schedules.changes()
        return [*leases[0], *schedules[0]], [*leases[1], *schedules[1]]

    def _raw(
        self, delivery: Delivery, content: bytes, partition: int, decision: Callable[[], Decision]
    ) -> tuple[Decision, InboxKey | None, int | None]:
        """Decide what is known only by its bytes; the same bytes under the same message id are the same input."""
        key = raw_key(delivery, content)
        earlier = self._inboxes[partition].earlier(key)
        if earlier is None:
            return decision(), key, None
        reason = f"recorded before, as number {earlier.seq}"
        behind = None if earlier.elder else earlier.seq
        return Decision("duplicate", None, why="duplicate", reason=reason), None, behind

    def _place(self, delivery: Delivery) -> Place:
        return self._here if delivery.redelivered < SUSPECT else self._apart

    def came_back(self, partition: int, output: Output, reason: str, judged: Judged) -> None:
        """Record what follows from an output that the broker returned."""
        facts = self.facts_now()
        delivery, decision = returned(output, reason, facts)
        self.leases.end(partition, output.id)
        self.record(partition, delivery, decision, facts, judged)

    def record(
        self,
        partition: int,
        delivery: Delivery,
        decision: Decision,
        facts: Facts,
        judged: Judged,
        key: InboxKey | None = None,
    ) -> None:
        """Number and record what was decided without a delivery of the broker's."""
        case = self._waiting(self._numbered(partition, decision, key, None, facts.now_s), delivery)
        self._record(case, delivery, content_hash(delivery.body), None, facts, judged)

    def next_seq(self, partition: int) -> int:
        """The number that the next entry of a partition gets."""
        return self._next[partition]

    def _record(
        self,
        case: Case,
        delivery: Delivery,
        content: bytes,
        received: Received | None,
        facts: Facts,
        judged: Judged,
        entry: Entry | None = None,
    ) -> None:
        partition, seq, decision, key, behind = case
        if key is not None:
            judged.keys[partition].append((key[0], seq))
        arrived = facts.now_s if received is None or not received.arrived_s else received.arrived_s
        decided_s = self._clock()
        if entry is None:
            line = encode_record(
                decision,
                delivery,
                seq=seq,
                partition=partition,
                received_s=arrived,
                decided_s=decided_s,
                config=self.table.catalog.version,
                content=content,
            )
            entry = tuple.__new__(Entry, (seq, key, line, delivery.body, decision.outputs))
        judged.entries[partition].append(entry)
        tags = [] if received is None else [received.tag]
        outputs, left = decision.outputs, len(decision.outputs)
        for index, output in enumerate(outputs):
            if output.kind == "schedule":
                self.schedules.sent(partition, seq, index, output)
            left -= output.kind in ROWS
        judged.opens.append(
            Open(partition, seq, outputs, left, tags, arrived, decision, behind, delivery.queue, decided_s)
        )
        judged.decisions.append(decision)

    def committed(self, keys: Mapping[int, list[tuple[bytes, int]]]) -> None:
        """The commit of these identities is durable."""
        for partition, rows in keys.items():
            self._inboxes[partition].committed(rows)
        if self._told:
            self._told = False
            self.controls.read()
