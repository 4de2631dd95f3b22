"""The stage: one table of routes, a clock, what is due, and `decide`, the same as on the bus.

A message that is sent is decided at once, and so is all that follows from it at the same instant. The clock moves only
by `advance`, and by `rest`, which jumps from one due event to the next until nothing is due any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import orjson

from bus.core.actions import Decision, Delivery, Output
from bus.core.codec import encode
from bus.core.facts import Facts
from bus.core.flow import as_data
from bus.core.identity import CLIENT
from bus.core.instance import Instance, memory_key, read
from bus.core.memory import CELL
from bus.core.message import (
    CONVERSATION,
    CORRELATION,
    FAILED,
    FLOW_TOLD,
    ID,
    LABELS,
    REPLYTO,
    REQUESTED,
    SOURCE,
    SPECVERSION,
    TIME,
    TYPE,
    Attribute,
    Json,
    Message,
)
from bus.core.outputs import BUS, STRUCTURED
from bus.core.pipeline import decide
from bus.core.route import Schedule
from bus.core.running import REHOMED, due
from bus.core.schedules import following, sent
from bus.core.table import RouteTable
from bus.core.times import rfc3339
from bus.rehearsal.script import Advance, Do, SeenKind, Send
from bus.rehearsal.stand_ins import StandIns

MOST_DECISIONS = 10_000
"""Decisions of one rehearsal; whatever needs more goes round in a loop."""

NOT_SENT = ("lease", "schedule")
"""Kinds of outputs that are rows of the bus's own, not messages."""

_NEVER_S = float("inf")
_SEAL = b"a rehearsal has nothing to hide."
_QUEUE = "rehearsal"


class NoRest(Exception):
    """The route author's fault: deciding never ends."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One message that was decided.

    Args:
        at_s: seconds since the start.
        delivery: as it came.
        decision: what became of it.
        aside: what else was noted down while it was decided; see `Stage`.
    """

    number: int
    at_s: float
    delivery: Delivery
    decision: Decision
    aside: tuple[Any, ...] = ()

    @property
    def message(self) -> Message | None:
        """What was decided on; None when it could not be decoded."""
        return self.decision.message


@dataclass(frozen=True, slots=True)
class Seen:
    """What an expectation may look at.

    Args:
        kind, name: as in `script.Expected`; a channel has its name.
        type: type of the message.
        hop: number of the decision that it comes from.
        error: why it failed, as routes read `error`; None when it did not.
    """

    kind: SeenKind
    name: str
    type: str
    data: Json
    at_s: float
    hop: int
    reason: str = ""
    error: Json = None

    @property
    def target(self) -> str:
        return f"{self.kind}:{self.name}"

    def is_(self, kind: SeenKind, name: str) -> bool:
        """Whether it is what an expectation names; a request to one agent is also one for its capability."""
        if kind == "capability" and self.kind == "agent":
            return self.type == name + REQUESTED
        return (self.kind, self.name) == (kind, name)


@dataclass(slots=True)
class Stage:
    """Args:
    table: the routes.
    facts: limits and identity; the stage sets the time, and a seal of its own.
    start_s: epoch seconds at which the clock starts.
    schedules: those that send while time passes by `advance`; they would never let it rest.
    aside: takes what watched expressions have noted down since it was last called.

    Attributes:
        hops, seen: all that was decided, and what of it an expectation may look at.
        memory: what routes with memory have left behind, by key, with the time at which it is due.
    """

    table: RouteTable
    facts: Facts
    stand_ins: StandIns
    start_s: float
    hops: list[Hop] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    memory: dict[str, tuple[bytes, float | None]] = field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    most_decisions: int = MOST_DECISIONS
    aside: Callable[[], tuple[Any, ...]] = tuple
    now_s: float = field(init=False)
    _due: list[tuple[float, int, Delivery]] = field(default_factory=list)
    _times: list[tuple[float, str]] = field(default_factory=list)
    _outlived: list[tuple[float, str]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)
    _sent: set[str] = field(default_factory=set)
    _round: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.now_s = self.start_s
        self.facts = replace(self.facts, seal=_SEAL)

    def play(self, script: tuple[Do, ...]) -> None:
        """Do all of a script, then rest.

        Raises:
            NoRest: deciding never ends.
        """
        for each in script:
            if isinstance(each, Advance):
                self.advance(each.seconds)
            else:
                self.send(each)
        self.rest()

    def send(self, send: Send) -> None:
        """Have a message come in, and decide all that follows at this instant."""
        identity = f"sent-{len(self._sent) + 1}"
        attributes: dict[str, Attribute] = {
            SPECVERSION: "1.0",
            ID: identity,
            SOURCE: send.source,
            TYPE: send.type,
            TIME: rfc3339(self.now_s),
            CONVERSATION: send.conversation or identity,
        }
        if send.wait and send.source != BUS:
            attributes[REPLYTO] = "client:rehearsal" if send.source == CLIENT else f"agent:{send.source}"
        if send.labels:
            attributes[LABELS] = ",".join(send.labels)
        self.bring(Message(attributes, send.data))

    def bring(self, message: Message) -> None:
        """Have a message come in as it is, and decide all that follows at this instant."""
        self._sent.add(message.id)
        user = self.facts.bus_user if message.source == BUS else message.source
        self._arrive(0.0, encode(message.attributes, message.data), user, message, message.conversation)
        self._run(self.now_s)

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now_s + seconds
        for planned_s, schedule in self._planned(until):
            self._run(planned_s)
            self.now_s = planned_s
            self._perform(*sent(schedule, planned_s, self._facts()))
        self._run(until)
        self.now_s = until

    def _planned(self, until_s: float) -> list[tuple[float, Schedule]]:
        """What schedules send until then, in order."""
        found: list[tuple[float, Schedule]] = []
        for schedule in self.schedules:
            planned_s = following(schedule, self.now_s)
            while planned_s is not None and planned_s <= until_s:
                found.append((planned_s, schedule))
                self._bounded(len(found))
                planned_s = following(schedule, planned_s)
        return sorted(found, key=lambda each: each[0])

    def rest(self) -> None:
        """Go on until nothing is due any more."""
        while (due_s := min(self._next_arrival_s(), self._next_time()[0])) < _NEVER_S:
            self._run(due_s)

    @property
    def waiting(self) -> list[Instance]:
        """Runs of routes that are not over."""
        return [read(body) for key, (body, _) in self.memory.items() if key.startswith(memory_key(""))]

    def _run(self, until_s: float) -> None:
        while True:
            arrival_s, (time_s, key) = self._next_arrival_s(), self._next_time()
            if min(arrival_s, time_s) > until_s:
                return
            self._bounded(len(self.hops))
            self.now_s = max(self.now_s, min(arrival_s, time_s))
            self._forget()
            if arrival_s <= time_s:
                delivery = heapq.heappop(self._due)[2]
                self._perform(delivery, decide(delivery, self.table, self._facts()))
            else:
                self._time_came(key)

    def _forget(self) -> None:
        """Forget the cells whose time is over; nothing happens by that, so the clock does not go there by itself."""
        while self._outlived and self._outlived[0][0] <= self.now_s:
            due_s, key = heapq.heappop(self._outlived)
            if self.memory.get(key, (b"", None))[1] == due_s:
                del self.memory[key]

    def _bounded(self, decisions: int) -> None:
        if decisions >= self.most_decisions:
            what = f"it does not come to rest: {self.most_decisions} messages were decided; look for a loop of routes"
            raise NoRest(what)

    def _next_arrival_s(self) -> float:
        return self._due[0][0] if self._due else _NEVER_S

    def _next_time(self) -> tuple[float, str]:
        """When a run goes on by itself, and its key; of several the one that comes first by name."""
        while self._times and self.memory.get(self._times[0][1], (b"", None))[1] != self._times[0][0]:
            heapq.heappop(self._times)  # it was forgotten, or has another time by now
        return self._times[0] if self._times else (_NEVER_S, "")

    def _arrive(self, after_s: float, body: bytes, user: str, message: Message, key: str) -> None:
        delivery = Delivery(body, STRUCTURED, {}, user, message.id, message.type, key, _QUEUE)
        heapq.heappush(self._due, (self.now_s + after_s, next(self._order), delivery))

    # --- deciding -------------------------------------------------------------------------------------------------

    def _facts(self) -> Facts:
        return replace(self.facts, now_s=self.now_s, now=rfc3339(self.now_s), recall=self._recall)

    def _recall(self, key: str) -> bytes | None:
        found = self.memory.get(key)
        return None if found is None else found[0]

    def _time_came(self, key: str) -> None:
        found = due(key, self._facts(), self.table)
        if found is None:
            self.memory[key] = (self.memory[key][0], None)
            return
        self._perform(*found)

    def _perform(self, delivery: Delivery, decision: Decision) -> None:
        hop = Hop(len(self.hops), self.now_s - self.start_s, delivery, decision, self.aside())
        self.hops.append(hop)
        for change in decision.changes:
            if change.body is None:
                self.memory.pop(change.key, None)
            else:
                self.memory[change.key] = (change.body, change.due_s)
                if change.due_s is not None:
                    times = self._outlived if change.key.startswith(CELL) else self._times
                    heapq.heappush(times, (change.due_s, change.key))
        if decision.end in ("filtered", "consumed"):
            self._see(hop, "channel", decision.end, decision.message)
        for output in decision.outputs:
            if output.kind in ("dead", "invalid"):
                self._see(hop, "channel", output.kind, decision.message)
            elif output.kind not in NOT_SENT:
                self._deliver(hop, output)

    def _deliver(self, hop: Hop, output: Output) -> None:
        message = decoded(output)
        if output.kind == "ingress":
            if (
                output.type != FLOW_TOLD and hop.decision.why != REHOMED
            ):  # these two are no events but ways within the bus
                self._see(hop, "event", output.type, message)
                self._round.add(output.id)
            self._arrive(0.0, output.body, self.facts.bus_user, message, output.conversation)
        elif output.kind == "event":
            # What came round as an event of a route and is passed on to subscribers now is one event, not two.
            if hop.message is None or hop.message.type != output.type or hop.message.id not in self._round:
                self._see(hop, "event", output.type, message)
        elif output.kind in ("capability", "agent") and output.type.endswith(REQUESTED):
            self._ask(hop, output, message)
        elif message.text(CORRELATION) in self._sent:
            self._see(hop, "reply", "error" if output.type == FAILED else "ok", message)

    def _ask(self, hop: Hop, output: Output, request: Message) -> None:
        kind: SeenKind = "agent" if output.kind == "agent" else "capability"
        self._see(hop, kind, output.name, request)
        call, answer = self.stand_ins.ask(request, output.name if kind == "agent" else None, hop.at_s)
        if answer is not None and call.stub is not None:
            body = encode(answer.attributes, answer.data)
            self._arrive(call.stub.after_s, body, call.agent, answer, answer.conversation)

    def _see(self, hop: Hop, kind: SeenKind, name: str, message: Message | None) -> None:
        decision = hop.decision
        data = None if message is None else message.data
        error: Json = None if decision.failure is None else as_data(decision.failure)
        if kind == "reply":
            error = data if name == "error" else None
        type_ = "" if message is None else message.type
        self.seen.append(Seen(kind, name, type_, data, hop.at_s, hop.number, decision.reason, error))


def decoded(output: Output) -> Message:
    """What a receiver decodes from an output of the bus."""
    event: dict[str, Any] = orjson.loads(output.body)
    data: Json = event.pop("data", None)
    return Message(event, data)
