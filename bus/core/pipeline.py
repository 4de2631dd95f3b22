"""Deciding: one delivery in, one Decision out, never an exception for what an agent sent.

    understand   bytes -> Message, or the decision that it is invalid
    decide       sender, time and hops; an answer goes to its asker (bus.core.replies); the rest to its owner,
                 observers and subscribers; the route's steps run; failures become decisions

The shell looks for duplicates between the two, because only a decoded message has an identity.
"""

from __future__ import annotations

from typing import cast

from bus.core import running
from bus.core.actions import Change, Decision, Delivery, End, Failure, Output
from bus.core.address import ReturnAddress
from bus.core.claims import claimed
from bus.core.codec import decode, expiry_s
from bus.core.control import controlled
from bus.core.errors import ExpressionFailed, Refused, StepFailed
from bus.core.facts import Facts, of_the_bus
from bus.core.flow import RouteFailed, run_flow
from bus.core.identity import CLIENT, check_sender, return_address
from bus.core.instance import failed
from bus.core.labelled import barred, labelled_again
from bus.core.labels import names_of
from bus.core.message import (
    CONTROL,
    CONVERSATION,
    EXPIRY,
    FLOW_MOVE,
    FLOW_TOLD,
    HOME,
    HOPS,
    ID,
    LABELS,
    REDRIVE,
    REPLYTO,
    REQUESTED,
    TASK_CLAIM,
    TASK_LAPSE,
    TASK_MOVE,
    Json,
    Message,
)
from bus.core.normalizer import normalized
from bus.core.outputs import BUS, NOBODY, STRUCTURED, Outbox, carried_headers, hops_left, set_aside
from bus.core.parking import early, parked
from bus.core.posting import put, tell_asker
from bus.core.redriven import asked_again
from bus.core.replies import Answered, answer, asker, checked
from bus.core.route import Capability, Route
from bus.core.table import Found, RouteTable
from bus.core.telling import FLOW, tell
from bus.core.undecodable import undecodable
from bus.core.work import Work

_ABOUT_TASKS = frozenset((TASK_CLAIM, TASK_LAPSE, TASK_MOVE, FLOW_TOLD, FLOW_MOVE))
_FAILED = ".failed"  # word of a failure may come late: who waited must know
REKEYED = "re-keyed"
"""`why` of the hop that gives a message the routing key of its conversation; it is not the message's one decision."""
RETIRED = "\0retired"
"""Stands for the routing key of what comes out of a retired partition: no conversation has it, so it takes that hop."""


def understand(delivery: Delivery, table: RouteTable, facts: Facts) -> Message | Decision:
    """Decode a delivery; what cannot be understood is a decision already."""
    try:
        return decode(delivery, of_the_bus(facts.limits) if delivery.user_id == facts.bus_user else facts.limits)
    except Refused as refused:
        return undecodable(delivery, table, facts, refused)


def decide(delivery: Delivery, table: RouteTable, facts: Facts, message: Message | None = None) -> Decision:
    """Decide what becomes of a delivery.

    Args:
        delivery: as it came.
        table: the compiled configuration.
        facts: time, limits and identities.
        message: the result of `understand`, when the caller has it already.

    Returns:
        The decision; every failure that a sender, an agent or a route author can cause is one too.
    """
    if message is None:
        understood = understand(delivery, table, facts)
        if isinstance(understood, Decision):
            return understood
        message = understood
    attributes = message.attributes
    source, type_ = message.source, message.type
    found = table.find(type_, source)
    back: ReturnAddress | None = None
    version = ""
    try:
        check_sender(message, delivery, table, facts, found)
        if type_ in _ABOUT_TASKS:
            return _about_task(delivery, message, table, facts)
        answers = None if source == BUS else found.answers
        if REPLYTO in attributes or answers:
            back = who_waits(message, delivery, answers, table, facts)
            message = labelled_again(message)
            attributes = message.attributes
        if (late := _too_late(message, facts, back if answers else None)) is not None:
            return _came_late(delivery, message, facts, table, late, back, answers is not None)
        if delivery.routing_key != (attributes.get(HOME) or attributes.get(CONVERSATION) or attributes[ID]):
            return _rekeyed(delivery, message)
        capability = table.capability(answers) if answers else None
        if capability is not None:
            return _answers(found, delivery, message, facts, table, back, capability)
        if (own := _for_the_bus(message, delivery, table, facts, back)) is not None:
            return own
        if found.contract is not None:
            message, version = normalized(message, found.contract, found.older)
    except Refused as refused:
        failure = Failure("contract", refused.code, refused.reason, agent=message.source, findings=refused.findings)
        return rejected(delivery, message, facts, table, "invalid", failure, back)
    decision = _matched(found, delivery, message, facts, table, back, None)
    return decision._replace(steps=(f"upcast from {version}", *decision.steps)) if version else decision


def _for_the_bus(
    message: Message, delivery: Delivery, table: RouteTable, facts: Facts, back: ReturnAddress | None
) -> Decision | None:
    """What an operator says to the bus itself, or has it ask once more; None for all else."""
    if message.source == CLIENT and message.type.startswith(CONTROL):
        return controlled(message, facts, table, back, delivery.queue)
    if message.source == BUS and REDRIVE in message.attributes and message.type.endswith(REQUESTED):
        return asked_again(message, facts, table, back)
    return None


def who_waits(
    message: Message, delivery: Delivery, answers: str | None, table: RouteTable, facts: Facts
) -> ReturnAddress | None:
    """Whom the message's return address names: the asker that it answers, or the one who asks; None for nobody.

    Args:
        answers: the capability that it answers for, or None.

    Raises:
        Refused: the address is not one that this sender may use.
    """
    back = asker(message, answers, facts) if answers else return_address(message, delivery, table, facts)
    return None if back == NOBODY else back


def _about_task(delivery: Delivery, message: Message, table: RouteTable, facts: Facts) -> Decision:
    """A claim, or word of the bus itself, is decided where the answer to its task is recorded."""
    if delivery.routing_key != (message.attributes.get(HOME) or message.conversation):
        return _rekeyed(delivery, message)
    if message.type == FLOW_TOLD and message.source == BUS:
        return running.word_came(message, facts, table)
    if message.type == TASK_CLAIM:
        return claimed(message, table, facts)
    if message.source == BUS:
        return Decision("filtered", message, why="lease", reason="word of a lease; what follows is up to the lease")
    raise Refused("not-published", f"only the bus says `{message.type}`; leave it out")


def _answers(
    found: Found,
    delivery: Delivery,
    message: Message,
    facts: Facts,
    table: RouteTable,
    back: ReturnAddress | None,
    capability: Capability,
) -> Decision:
    """An agent's answer: to a run, to an asker, or to nobody, which makes it an event."""
    if back is not None and back.address.startswith(FLOW):
        return _to_run(message, capability, back, facts, table)
    refused = barred(message, () if back is None else (back.address.removeprefix("agent:"),), table.catalog)
    if refused is not None:
        return rejected(delivery, message, facts, table, "dead_letter", refused, back)
    answered = answer(message, delivery, capability, back or NOBODY, facts)
    if isinstance(answered, Decision):
        return answered
    return _matched(found, delivery, message, facts, table, None, answered)


def _to_run(message: Message, capability: Capability, back: ReturnAddress, facts: Facts, table: RouteTable) -> Decision:
    """An agent's answer to a request of a run, which knows the capability as it was when the run began."""
    capability = running.known_to(back, capability, facts, table)
    findings, failure = checked(message, capability)
    if failure is None:
        good: dict[str, Json] = {"ok": message.data, "at": facts.now_s, "labels": message.text(LABELS) or ""}
        return running.answered(back, message, facts, table, good)
    others: list[Output] = []
    result = failed(failure, facts.now_s)
    if findings:
        others += tell(message, facts, failure, ReturnAddress(f"agent:{message.source}", message.id))
        result["said"] = message.data
    return running.answered(back, message, facts, table, result, others)


def _rekeyed(delivery: Delivery, message: Message) -> Decision:
    """Order is kept per conversation, so a message under another routing key takes one recorded hop to its own."""
    headers = carried_headers(delivery)
    key = str(message.attributes.get(HOME) or message.conversation)
    again = Output("ingress", message.type, message.id, message.type, key, delivery.body,
                   delivery.content_type or STRUCTURED, headers)  # fmt: skip
    came = "from a retired partition" if delivery.routing_key == RETIRED else "under another routing key"
    reason = f"it came {came}, not to the partition of its conversation"
    return Decision("routed", message, why=REKEYED, reason=reason, outputs=(again,))


def _too_late(message: Message, facts: Facts, asked: ReturnAddress | None) -> Failure | None:
    given = message.attributes
    expiry = expiry_s(message) if EXPIRY in given else None
    if expiry is not None and expiry <= facts.now_s:
        return Failure("expired", "expired", f"its deadline {message.text('expirytime')} passed before it was decided")
    until = None if asked is None or REDRIVE in given else asked.until_ms
    if until is not None and until <= facts.now_s * 1000 and not message.type.endswith(_FAILED):
        reason = f"the answer came {facts.now_s - until / 1000:.1f} s after the deadline of the request"
        return Failure("expired", "expired", reason, agent=message.source)
    if HOPS in given and hops_left(message, facts) <= 0:
        return Failure("internal", "hops", "it has taken all its hops: agents or routes send it round in a loop")
    return None


def _matched(
    found: Found,
    delivery: Delivery,
    message: Message,
    facts: Facts,
    table: RouteTable,
    back: ReturnAddress | None,
    answered: Answered | None,
) -> Decision:
    """Give the message to whoever wants it, where and when that may be."""
    names = _names(message)
    notes: list[str] = []
    if found.serial:
        home = _home(found, message, names, notes)
        if home is not None and message.attributes.get(HOME) != home:
            return running.rehomed(message, home)
    if facts.paused or facts.arriving:
        owner = _owner(found, message, names, [])
        if owner is not None and f"route:{owner[0].name}" in facts.paused:
            return parked(message, owner[0])
        wanted = (*(() if owner is None else (owner,)), *found.observers)
        if facts.arriving and any(route.memory for route, _ in wanted):
            return early(message, "" if owner is None else owner[0].name)
    return _handed_on(found, delivery, message, names, notes, facts, table, back, answered)


def _handed_on(
    found: Found,
    delivery: Delivery,
    message: Message,
    names: dict[str, Json],
    notes: list[str],
    facts: Facts,
    table: RouteTable,
    back: ReturnAddress | None,
    answered: Answered | None,
) -> Decision:
    """To its observers, its subscribers and its owner."""
    outputs: list[Output] = []
    changes: list[Change] = []
    if found.observers:
        _observe(found, delivery, message, names, facts, table, outputs, notes, changes)
    if found.subscribers:
        failure = barred(message, found.subscribers, table.catalog)
        if failure is not None:
            return rejected(delivery, message, facts, table, "dead_letter", failure, back)
        passed = Outbox(message, facts, "subscribe")
        passed.send("event", message.type, message.type, message.data, source=message.source)
        outputs += passed.outputs
        notes.append("subscribers " + ", ".join(found.subscribers))
    owner = _owner(found, message, names, notes)
    if owner is not None:
        if owner[0].memory:
            return _with(running.begin(owner, delivery, message, names, facts, table, back), outputs, notes, changes)
        names["config"] = cast("dict[str, Json]", owner[0].config)
        asker = back.address if back is not None else ""
        work = _work(message, names, owner[0], facts, notes, asker)
        if changes:
            return _with(_routed(owner, delivery, work, facts, table, back, outputs), [], [], changes)
        return _routed(owner, delivery, work, facts, table, back, outputs)
    if found.subscribers:
        subscribed = Decision("routed", message, why="subscribed", steps=tuple(notes), outputs=tuple(outputs))
        return subscribed._replace(changes=tuple(changes)) if changes else subscribed
    declared = table.catalog.types.get(message.type)
    if declared is not None and declared.unrouted:
        reason = f"nobody wants `{message.type}`, which its `unrouted: ok` allows"
        unwanted = Decision("filtered", message, why="unrouted: ok", reason=reason, steps=tuple(notes))
        return _with(unwanted, outputs, [], changes)
    if answered is not None:
        reason = f"nobody waits for `{message.type}`, and no route or agent wants it"
    else:
        reason = f"no route owns `{message.type}` and no agent subscribes to it"
    failure = Failure("unavailable", "no_route", f"{reason}; write a route with `match: {{type: {message.type}}}`")
    decision = rejected(delivery, message, facts, table, "dead_letter", failure, back, tuple(notes))
    return _with(decision, outputs, [], changes)


def _names(message: Message) -> dict[str, Json]:
    """What expressions read. Steps replace values in it and never change one, so routes may share them."""
    attributes = cast("dict[str, Json]", message.attributes)
    if CONVERSATION not in attributes:
        attributes = {**attributes, CONVERSATION: message.conversation}
    return {"data": message.data, "request": message.data, "msg": attributes, "vars": {}}


def _work(
    message: Message, names: dict[str, Json], route: Route, facts: Facts, notes: list[str], asker: str = ""
) -> Work:
    return Work(
        message, names, route.on_error, [], notes, asker=asker, secret=facts.seal, controls=facts.controls,
        recall=facts.recall, stores_blobs=facts.stores_blobs,
    )  # fmt: skip


def _with_config(names: dict[str, Json], route: Route) -> dict[str, Json]:
    return {**names, "config": cast("dict[str, Json]", route.config)}


def _owner(found: Found, message: Message, names: dict[str, Json], notes: list[str]) -> tuple[Route, str] | None:
    for owner in found.owners:
        match = owner[0].match
        if (match.when is None and not match.labels) or _wanted(owner[0], message, names, notes):
            return owner
    return None


def _wanted(route: Route, message: Message, names: dict[str, Json], notes: list[str]) -> bool:
    if route.match.labels:
        labels = names_of(message.text(LABELS) or "")
        if not all(label in labels for label in route.match.labels):
            return False
    if route.match.when is None:
        return True
    try:
        if route.match.when(_with_config(names, route)) is True:
            return True
        notes.append(f"{route.name}: when {route.match.when.text} is false")
    except ExpressionFailed as error:
        notes.append(f"{route.name}: when failed: {error}")
    return False


def _home(found: Found, message: Message, names: dict[str, Json], notes: list[str]) -> str | None:
    """The key of the partition in which the owner serves the message, or None."""
    owner = _owner(found, message, names, [])
    try:
        return None if owner is None else running.home_of(owner[0], names)
    except StepFailed as error:
        notes.append(str(error))  # the run itself fails by it
        return None


def _observe(
    found: Found,
    delivery: Delivery,
    message: Message,
    names: dict[str, Json],
    facts: Facts,
    table: RouteTable,
    outputs: list[Output],
    notes: list[str],
    changes: list[Change],
) -> None:
    """Observing routes get a copy; whatever goes wrong there is noted and touches nobody."""
    for route, why in found.observers:
        if not _wanted(route, message, names, notes):
            continue
        if route.memory:
            seen = running.begin((route, why), delivery, message, dict(names), facts, table, None)
            outputs += seen.outputs
            changes += seen.changes
            notes += [*seen.steps, f"observed by {route.name}"]
            continue
        work = _work(message, _with_config(names, route), route, facts, [])
        try:
            run_flow(route.flow, work)
            changes += work.changes
            outbox = Outbox(message, facts, route.name, _deadline(route, facts))
            for dispatched in work.sent:
                put(dispatched, outbox, None)
            outputs += outbox.outputs
            notes.append(f"observed by {route.name}")
        except RouteFailed as failed:
            notes.append(f"observer {route.name} failed: {failed.failure.reason}")


def _routed(
    owner: tuple[Route, str],
    delivery: Delivery,
    work: Work,
    facts: Facts,
    table: RouteTable,
    back: ReturnAddress | None,
    outputs: list[Output],
) -> Decision:
    route, why = owner
    message = work.message
    try:
        ended = run_flow(route.flow, work)
    except RouteFailed as failed:
        return _route_failed(failed, route, why, delivery, message, facts, table, back, outputs, work)
    if work.sent:
        deadline_s = None if route.deadline_s is None else facts.now_s + route.deadline_s
        outbox = Outbox(message, facts, route.name, deadline_s)
        for dispatched in work.sent:
            put(dispatched, outbox, back)
        outputs += outbox.outputs
    reason = ended.reason if ended is not None else ""
    if outputs:
        end: End = "routed"
    else:
        end, reason = "filtered", reason or f"{route.name} sent it nowhere"
    notes = tuple(work.notes)
    # Half the time of the constructor's, and every message needs one.
    changed = tuple(work.changes)
    return tuple.__new__(
        Decision, (end, message, route.name, route.where, why, reason, None, notes, tuple(outputs), changed, "")
    )


def _route_failed(
    failed: RouteFailed,
    route: Route,
    why: str,
    delivery: Delivery,
    message: Message,
    facts: Facts,
    table: RouteTable,
    back: ReturnAddress | None,
    outputs: list[Output],
    work: Work,
) -> Decision:
    failure = failed.failure
    if failed.then == "reply":
        told = tuple(tell_asker(message, facts, failure, back, table))
        reason = f"{failure.reason} (told to the asker)" if told else failure.reason
        return Decision("routed" if told else "filtered", message, route.name, route.where, why, reason, failure,
                        tuple(work.notes), (*outputs, *told), tuple(work.changes))  # fmt: skip
    end: End = "invalid" if failed.then == "invalid" else "dead_letter"
    aside = set_aside(delivery, message, facts, end, failure, route.name)
    told = tuple(tell_asker(message, facts, failure, back, table))
    return Decision(end, message, route.name, route.where, why, failure.reason, failure, tuple(work.notes),
                    (*outputs, aside, *told), tuple(work.changes))  # fmt: skip


def _deadline(route: Route, facts: Facts) -> float | None:
    return None if route.deadline_s is None else facts.now_s + route.deadline_s


def _came_late(
    delivery: Delivery,
    message: Message,
    facts: Facts,
    table: RouteTable,
    late: Failure,
    back: ReturnAddress | None,
    answers: bool,
) -> Decision:
    """Set it aside; when it is an answer, the agent that gave it must know, too."""
    end: End = "expired" if late.code == "expired" else "dead_letter"
    decision = rejected(delivery, message, facts, table, end, late, back)
    agent = ReturnAddress(f"agent:{message.source}", message.id)
    if not answers or back is None or back.address == agent.address:
        return decision
    return decision._replace(outputs=(*decision.outputs, *tell(message, facts, late, agent)))


def rejected(
    delivery: Delivery,
    message: Message,
    facts: Facts,
    table: RouteTable,
    end: End,
    failure: Failure,
    back: ReturnAddress | None,
    notes: tuple[str, ...] = (),
) -> Decision:
    """Set the message aside with its failure, and tell who waits for it or who sent it."""
    aside = set_aside(delivery, message, facts, end, failure, "")
    told = tell_asker(message, facts, failure, back, table)
    return Decision(end, message, None, None, failure.code, failure.reason, failure, notes, (aside, *told))


def _with(decision: Decision, outputs: list[Output], notes: list[str], changes: list[Change]) -> Decision:
    """The decision, and what others have decided about the same message before."""
    if not (outputs or notes or changes):
        return decision
    return decision._replace(
        steps=(*notes, *decision.steps),
        outputs=(*outputs, *decision.outputs),
        changes=(*changes, *decision.changes),
    )
