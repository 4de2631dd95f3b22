"""Runs of routes with memory: how one begins, goes on and ends. What a run is: bus.core.instance.

    begin       a message of the route's: its first turn
    answered    the answer to a request of it has come, or word that none will
    due         a time that it waits for is reached, or another run has told it something
    turn        run the flow; send what is new; remember the run if it waits, forget it if not

Answers come to the partition of their conversation. A run that lives elsewhere (`serial_by`) gets them from there, as
`bus.flow.told`: so the answer to a request stands in the inbox where claims look for it, in any case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, cast

from bus.core.actions import Change, Decision, Delivery, End, Failure, Output, TargetKind
from bus.core.address import ReturnAddress
from bus.core.codec import encode, expiry_s
from bus.core.errors import ExpressionFailed, StepFailed
from bus.core.facts import Facts
from bus.core.flow import RouteFailed, run_flow
from bus.core.instance import Instance, event_of, failed, instance_id, memory_key, read
from bus.core.memory import CELL, Asked, RunMemory, stored
from bus.core.message import (
    CAUSATION,
    CONVERSATION,
    EXPIRY,
    HOME,
    ID,
    REDRIVE,
    SOURCE,
    SPECVERSION,
    TIME,
    TYPE,
    Attribute,
    Json,
    Message,
)
from bus.core.outputs import BUS, STRUCTURED, Outbox, derived_id, set_aside
from bus.core.parking import early
from bus.core.posting import put, tell_asker
from bus.core.route import Capability, Match, Route
from bus.core.table import RouteTable
from bus.core.telling import FLOW, tell, tell_flow
from bus.core.turns import TURN, give, take
from bus.core.work import Ended, Flow, Suspended, Work

REHOMED = "re-homed"
"""`why` of the hop that takes a message to the partition in which its route serves it."""
FLOW_DUE = "bus.flow.due"
"""Type of what the log calls a time that was reached; it is never sent."""

_UNTIL = "#deadline"  # of a join: not what is awaited, but how long
_PART = re.compile(r"(#[a-z]+[0-9]*|/)$")  # of a step's path: what of it waits
_MOST_NOTES = 400  # of one run, kept so that no turn tells the trace again what an earlier one has told
_NOTE_LETTERS = 300


@dataclass(slots=True)
class _Turn:
    """One turn of a run, while it is decided.

    Args:
        cause: the message that the log names as the input.
        why: why it came to this run.
        first: nothing is remembered of the run yet.
        blobs: what its flow leaves in the blob store.
    """

    instance: Instance
    memory: RunMemory
    route: Route
    table: RouteTable
    facts: Facts
    cause: Message
    why: str
    first: bool
    blobs: list[Change] = field(default_factory=list)


# --- begin --------------------------------------------------------------------------------------------------------


def home_of(route: Route, names: dict[str, Json]) -> str | None:
    """The key of the partition that serves the route's `serial_by` key, 32 hex digits; None for the conversation's.

    A route of which all runs live in one partition has one such key.

    Raises:
        StepFailed: the key has no value.
    """
    if route.serial_by is None:
        return _home(route, "") if route.homed else None
    try:
        key = route.serial_by({**names, "config": cast("Json", route.config)})
    except ExpressionFailed as error:
        raise StepFailed("internal", f"serial_by: {error}") from error
    if key is None or isinstance(key, (dict, list)):
        raise StepFailed("internal", f"serial_by gives {'nothing' if key is None else 'no plain value'}")
    return _home(route, str(key))


def _home(route: Route, key: str) -> str:
    text = f"{route.name}\0{key}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def rehomed(message: Message, home: str) -> Decision:
    """Take a message to the partition of its key, by one recorded hop."""
    body = encode({**message.attributes, HOME: home}, message.data)
    again = Output("ingress", message.type, message.id, message.type, home, body, STRUCTURED, {})
    reason = "its route has it decided in the partition of its `serial_by` key, or in one for all"
    return Decision("routed", message, why=REHOMED, reason=reason, outputs=(again,))


def begin(
    owner: tuple[Route, str],
    delivery: Delivery,
    message: Message,
    names: dict[str, Json],
    facts: Facts,
    table: RouteTable,
    back: ReturnAddress | None,
) -> Decision:
    """Begin a run of a route on a message."""
    route, why = owner
    times = [
        each for each in (_deadline(route, facts), expiry_s(message) if EXPIRY in message.attributes else None) if each
    ]
    instance = Instance(
        instance_id(message, route.name),
        route.name,
        table.catalog.version,
        str(message.attributes.get(HOME, "")),
        event_of(message),
        back,
        facts.now_s,
        min(times, default=None),
        owner=not route.observe,
        user=delivery.user_id,
    )
    turn = _Turn(instance, RunMemory(instance, facts), route, table, facts, message, why, first=True)
    if route.serial_by is not None and not instance.home:
        try:
            home_of(route, names)
        except StepFailed as error:
            return _failed(turn, RouteFailed(Failure(error.failure, error.code, error.reason), "dead_letter"), [], [])
    if route.serial_by is not None and not take(instance, turn.memory):
        return _waits(turn, (), ["serial_by: behind an earlier message of its key"])
    return _run(turn, names)


def _deadline(route: Route, facts: Facts) -> float | None:
    return None if route.deadline_s is None else facts.now_s + route.deadline_s


# --- go on --------------------------------------------------------------------------------------------------------


def answered(
    back: ReturnAddress, message: Message, facts: Facts, table: RouteTable, result: Json, others: Sequence[Output] = ()
) -> Decision:
    """Give a run the answer to a request of it, or the failure that stands in the place of one.

    Args:
        back: the request's return address, which names the run.
        message: what the answer came in.
        result: `{"ok": data, "at": s}`, or what `bus.core.instance.failed` makes.
        others: what is to be sent in any case.
    """
    path, _, home = back.asked.rpartition("!")
    if home and message.attributes.get(HOME) != home:
        outputs = tell_flow(message, facts, result, back)
        return Decision("routed", message, why=f"answer for {back.address}", outputs=(*others, *outputs))
    return _go_on(back.address.removeprefix(FLOW), path, message, facts, table, result, others)


def known_to(back: ReturnAddress, capability: Capability, facts: Facts, table: RouteTable) -> Capability:
    """The capability as the configuration has it that a run lives under, where that is known."""
    if not table.elders:
        return capability
    body = facts.recall(memory_key(back.address.removeprefix(FLOW)))
    own = None if body is None else table.of(read(body).config)
    return capability if own is None else own.capability(capability.name) or capability


def word_came(message: Message, facts: Facts, table: RouteTable) -> Decision:
    """Take a `bus.flow.told` in, which only the bus sends."""
    data = cast("dict[str, Any]", message.data)
    return _go_on(str(data["flow"]), str(data["path"]), message, facts, table, data["result"], ())


def _go_on(
    run: str, path: str, message: Message, facts: Facts, table: RouteTable, result: Json, others: Sequence[Output]
) -> Decision:
    body = facts.recall(memory_key(run))
    instance = None if body is None else read(body)
    if instance is None and facts.arriving:
        return early(message)
    if instance is None or not instance.settle(path, result):
        reason = "the run that asked waits for it no more" if instance else "the run that asked is over"
        failure = Failure("refusal", "superseded", reason, agent=message.source)
        agent = ReturnAddress(f"agent:{message.source}", message.id)
        word = tell(message, facts, failure, agent) if message.source in table.catalog.agents else []
        return Decision("superseded", message, why="superseded", reason=reason, outputs=(*others, *word))
    decision = _resumed(instance, message, f"answer to {path.rstrip('/')}", facts, table)
    return decision._replace(outputs=(*others, *decision.outputs)) if others else decision


def due(key: str, facts: Facts, table: RouteTable) -> tuple[Delivery, Decision] | None:
    """Decide what follows when the time of a run has come.

    Args:
        key: under which it is remembered.

    Returns:
        None when there is nothing to do: it is remembered no more, or not due yet, or it is a cell, whose time says
        when it is to be forgotten.
    """
    came = _came(key, facts)
    if came is None:
        return None
    instance, late, message = came
    why = "due: " + (", ".join(_PART.sub("", path) for path in late) or "told")
    return occasion(message, facts), _resumed(instance, message, why, facts, table)


def is_due(key: str, facts: Facts) -> bool:
    """Whether the time of a run has come."""
    return _came(key, facts) is not None


def occasion(message: Message, facts: Facts) -> Delivery:
    """The input that the log names when the time of a run has come; it never was in a queue."""
    body = encode(message.attributes, message.data)
    return Delivery(body, STRUCTURED, {}, facts.bus_user, message.id, FLOW_DUE, message.conversation, "", 0, None)


def given_up(
    key: str, failure: Failure, facts: Facts, table: RouteTable, cause: Message | None = None
) -> Decision | None:
    """End a run of which a turn has failed the bus itself: none of its flow is run.

    Args:
        key: under which it is remembered.
        failure: what to say of it.
        cause: the message that the turn was for; None: its time has come.

    Returns:
        A dead letter of the message that it began with; None when it is remembered no more, or not due yet.
    """
    if cause is None:
        came = _came(key, facts)
        if came is None:
            return None
        instance, _, cause = came
    else:
        body = facts.recall(key)
        if body is None:
            return None
        instance = read(body)
    own = table.of(instance.config)
    route = (own and own.route(instance.route)) or _lost_route(instance)
    turn = _Turn(instance, RunMemory(instance, facts), route, own or table, facts, cause, failure.code, first=False)
    return _failed(turn, RouteFailed(failure, "dead_letter"), [], list(instance.notes))


def _came(key: str, facts: Facts) -> tuple[Instance, list[str], Message] | None:
    """A run whose time has come, having been told so; at which of its paths; and what the log has as the cause."""
    body = facts.recall(key)
    instance = None if body is None or key.startswith(CELL) else read(body)
    if instance is None or instance.due_s is None or instance.due_s > facts.now_s:
        return None
    late = [path for path, each in instance.open.items() if each["due"] is not None and each["due"] <= facts.now_s]
    for path in late:
        instance.settle(path, _overdue(instance.open[path], instance, facts))
    instance.wake_s = None
    return instance, late, _time_came(instance, facts, late)


def _overdue(awaited: dict[str, Any], instance: Instance, facts: Facts) -> Json:
    if "call" not in awaited:
        return {"ok": None, "at": facts.now_s}
    whole = instance.deadline_s is not None and awaited["due"] == instance.deadline_s
    what = "before the deadline" if whole else "in time"
    return failed(Failure("timeout", "timeout", f"`{awaited['call']}` did not answer {what}"), facts.now_s)


def _time_came(instance: Instance, facts: Facts, paths: list[str]) -> Message:
    cause = instance.message
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: derived_id(cause.id, instance.id, f"due {facts.now_s}", len(instance.memo)),
        SOURCE: BUS,
        TYPE: FLOW_DUE,
        TIME: facts.now,
        CONVERSATION: cause.conversation,
        CAUSATION: cause.id,
    }
    return Message(attributes, {"paths": cast("Json", paths)})


def _resumed(instance: Instance, cause: Message, why: str, facts: Facts, table: RouteTable) -> Decision:
    own = table.of(instance.config)
    route = None if own is None else own.route(instance.route)
    memory = RunMemory(instance, facts)
    if own is None or route is None:
        turn = _Turn(instance, memory, _lost_route(instance), table, facts, cause, why, first=False)
        what = f"configuration {instance.config}, under which it began, is not known here"
        return _failed(turn, RouteFailed(Failure("internal", "configuration", what), "dead_letter"), [], [])
    turn = _Turn(instance, memory, route, own, facts, cause, why, first=False)
    late = cast("dict[str, Any] | None", instance.memo.get(TURN))
    if late is not None and late["ok"] is None:
        failure = Failure("timeout", "timeout", "its turn did not come before its deadline")
        return _failed(turn, RouteFailed(failure, "dead_letter"), [], [])
    if TURN in instance.open or (route.serial_by is not None and not take(instance, memory)):
        return _waits(turn, (), [])
    message = instance.message
    msg: dict[str, Json] = {**cast("dict[str, Json]", message.attributes), CONVERSATION: message.conversation}
    return _run(turn, {"data": message.data, "request": message.data, "msg": msg, "vars": {}})


def _lost_route(instance: Instance) -> Route:
    return Route(instance.route, "", Match(()), Flow())


# --- turn ---------------------------------------------------------------------------------------------------------


def _run(turn: _Turn, names: dict[str, Json]) -> Decision:
    instance, route = turn.instance, turn.route
    names = {**names, "config": cast("Json", route.config)}
    work = Work(
        instance.message, names, route.on_error, memory=turn.memory, run=instance.id,
        asker=instance.back.address if instance.back is not None else "",
        secret=turn.facts.seal, controls=turn.facts.controls,
        recall=turn.facts.recall, stores_blobs=turn.facts.stores_blobs, changes=turn.blobs,
    )  # fmt: skip
    try:
        ended = run_flow(route.flow, work)
    except Suspended:
        if turn.memory.rests and route.serial_by is not None:
            give(instance, turn.memory)
        try:
            return _waits(turn, _outputs(turn, work), work.notes)
        except StepFailed as error:
            late = Failure(error.failure, error.code, error.reason)
            return _failed(turn, RouteFailed(late, "dead_letter"), [], work.notes)
    except RouteFailed as error:
        return _failed(turn, error, _outputs(turn, work), work.notes)
    return _ends(turn, ended, _outputs(turn, work), work.notes)


def _outputs(turn: _Turn, work: Work) -> list[Output]:
    """What is new: what the flow has sent, and what it has begun to ask."""
    instance, facts = turn.instance, turn.facts
    made: list[Output] = []
    for dispatched in work.sent:
        outbox = Outbox(work.message, facts, f"{instance.route}#{dispatched.path}", instance.deadline_s)
        put(dispatched, outbox, instance.back)
        made += outbox.outputs
    for asked in turn.memory.asked:
        made += _request(asked, instance, work.message, facts)
    return made


def _request(asked: Asked, instance: Instance, message: Message, facts: Facts) -> list[Output]:
    """A request of the run.

    That of a redriven message has another id: under its old one an agent that has answered, or failed, would give what
    it has recorded, and the bus would drop that as a duplicate.
    """
    target = asked.dispatch.target
    again = f"~{instance.event[REDRIVE]!s}" if REDRIVE in instance.event else ""
    outbox = Outbox(message, facts, f"{instance.route}#{asked.path}{again}", asked.until_s)
    back = ReturnAddress(f"{FLOW}{instance.id}", f"{asked.path}!{instance.home}")
    kind: TargetKind = "agent" if target.kind == "agent" else "capability"
    outbox.send(
        kind, target.name, target.type, asked.dispatch.data, back=back, lease_s=target.lease_s,
        extra=asked.attributes, labels=asked.dispatch.labels,
    )  # fmt: skip
    return outbox.outputs


def _news(turn: _Turn, notes: list[str]) -> tuple[str, ...]:
    """What the trace has not been told yet."""
    clipped = [each[:_NOTE_LETTERS] for each in notes]
    told = turn.instance.notes
    turn.instance.notes = clipped[-_MOST_NOTES:]
    if clipped[: len(told)] == told:  # as nearly always; the rest gives the same, and takes longer
        return tuple(clipped[len(told) :])
    left = Counter(told)
    news = []
    for note in clipped:
        if left[note]:
            left[note] -= 1
        else:
            news.append(note)
    return tuple(news)


def _decision(
    turn: _Turn,
    end: End,
    outputs: Sequence[Output],
    notes: tuple[str, ...],
    changes: Sequence[Change],
    reason: str = "",
    failure: Failure | None = None,
) -> Decision:
    route = turn.route
    return Decision(
        end,
        turn.cause,
        route.name,
        route.where,
        turn.why,
        reason,
        failure,
        notes,
        tuple(outputs),
        (*turn.blobs, *changes),
        "" if turn.first else turn.instance.config,
    )


def _waits(turn: _Turn, outputs: Sequence[Output], notes: list[str]) -> Decision:
    news = _news(turn, notes)
    changes = [stored(turn.instance), *turn.memory.changes()]
    if outputs:
        return _decision(turn, "routed", outputs, news, changes)
    waiting = ", ".join(_awaited(path, each) for path, each in turn.instance.open.items() if not path.endswith(_UNTIL))
    return _decision(turn, "waiting", outputs, news, changes, f"waits for {waiting}"[:_NOTE_LETTERS])


def _awaited(path: str, each: dict[str, Any]) -> str:
    if path == TURN:
        return "its turn"
    return f"`{each['call']}`" if "call" in each else _PART.sub("", path)


def _over(turn: _Turn) -> list[Change]:
    """What is remembered of a run that is over: nothing, and that it is the next one's turn."""
    instance = turn.instance
    if instance.home:
        give(instance, turn.memory)
    own = [] if turn.first else [Change(memory_key(instance.id), None)]
    return own + turn.memory.changes()


def _ends(turn: _Turn, ended: Ended | None, outputs: list[Output], notes: list[str]) -> Decision:
    news = _news(turn, notes)
    reason = "" if ended is None else ended.reason
    if ended is not None and ended.how == "consumed":
        end: End = "consumed"
    elif outputs:
        end = "routed"
    else:
        end, reason = "filtered", reason or f"{turn.route.name} sent it nowhere"
    return _decision(turn, end, outputs, news, _over(turn), reason)


def _failed(turn: _Turn, error: RouteFailed, outputs: list[Output], notes: list[str]) -> Decision:
    """Set the message that the run began with aside, and tell who waits; an observing run's failure is only told."""
    instance, failure, facts = turn.instance, error.failure, turn.facts
    news = _news(turn, notes)
    turn.memory.unclaim()
    if not instance.owner:
        what = f"observer {turn.route.name} failed: {failure.reason}"
        return _decision(turn, "routed" if outputs else "filtered", outputs, (*news, what), _over(turn), what)
    message = instance.message
    word = tell_asker(message, facts, failure, instance.back, turn.table)
    if error.then == "reply":
        reason = f"{failure.reason} (told to the asker)" if word else failure.reason
        end: End = "routed" if word or outputs else "filtered"
        return _decision(turn, end, [*outputs, *word], news, _over(turn), reason, failure)
    end = "invalid" if error.then == "invalid" else "dead_letter"
    body = encode(message.attributes, message.data)
    original = Delivery(
        body, STRUCTURED, {}, instance.user, message.id, message.type, message.conversation, "", 0, None
    )
    aside = set_aside(original, message, facts, end, failure, turn.route.name)
    return _decision(turn, end, [*outputs, aside, *word], news, _over(turn), failure.reason, failure)
