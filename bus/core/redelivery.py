"""What the broker gave up on: messages that come back through NS.bounced, recorded and set aside with the reason.

Every dead-letter exchange setting leads to NS.bounced, so nothing leaves the log's sight. The message was made by the
bus (a request or event in an inbox) or waits in an ingress queue; whoever asked is told.
"""

from __future__ import annotations

from bus.core.actions import Decision, Delivery, End, Failure, Output
from bus.core.address import ReturnAddress, unseal
from bus.core.codec import decode
from bus.core.errors import FailureClass, Refused
from bus.core.facts import Facts, of_the_bus
from bus.core.identity import check_sender
from bus.core.leases import came_back
from bus.core.message import FENCE, REPLYTO, Message
from bus.core.outputs import NOBODY, set_aside
from bus.core.pipeline import rejected
from bus.core.replies import asker
from bus.core.table import RouteTable
from bus.core.telling import tell

_REASONS: dict[str, tuple[FailureClass, str, str]] = {
    "expired": ("expired", "expired", "its deadline passed while it waited in {queue}"),
    "delivery_limit": ("unavailable", "delivery_limit", "{queue} gave it back too often without an answer"),
    "rejected": ("refusal", "rejected", "a consumer of {queue} rejected it"),
    "maxlen": ("unavailable", "queue_full", "{queue} is full"),
}


def bounced(delivery: Delivery, facts: Facts) -> Decision:
    """Decide a message that the broker dead-lettered: to the Dead Letter Channel, and the asker is told."""
    why, queue = _death(delivery)
    failure_class, code, text = _REASONS.get(
        why, ("unavailable", "bounced", "the broker dead-lettered it from {queue}")
    )
    failure = Failure(failure_class, code, text.format(queue=queue))
    end: End = "expired" if why == "expired" else "dead_letter"
    message = _decoded(delivery, facts)
    if message is not None and (leased := came_back(message, facts, failure.reason, queue)) is not None:
        return leased
    outputs: list[Output] = [set_aside(delivery, message, facts, end, failure, f"bounced from {queue}")]
    if message is not None:
        outputs += _told(message, facts, failure)
    return Decision(end, message, None, None, f"bounced from {queue}", failure.reason, failure, (), tuple(outputs))


def _death(delivery: Delivery) -> tuple[str, str]:
    first = delivery.headers.get("x-first-death-reason")
    queue = delivery.headers.get("x-first-death-queue")
    return str(first or "unknown"), str(queue or "an inbox")


def returned(output: Output, reason: str, facts: Facts) -> tuple[Delivery, Decision]:
    """Decide what follows when an output had nowhere to go: a dead letter with its body, and word to who waits for it.

    Args:
        output: what the broker returned.
        reason: the broker's word, e.g. `NO_ROUTE`.
    """
    text = f"the broker has no queue for {output.target} ({reason}); is it declared? run `bus topology apply`"
    failure = Failure("unavailable", "returned", text)
    delivery = Delivery(
        output.body,
        output.content_type,
        output.headers,
        facts.bus_user,
        output.id,
        output.type,
        output.conversation,
        "",
    )
    message = _decoded(delivery, facts)
    why = f"returned from {output.target}"
    outputs = [set_aside(delivery, message, facts, "dead_letter", failure, why)]
    if message is not None:
        outputs += _told(message, facts, failure)
    return delivery, Decision("dead_letter", message, None, None, why, text, failure, (), tuple(outputs))


def repeated(
    delivery: Delivery, message: Message, table: RouteTable, facts: Facts, seq: int, *, same: bool, answers: bool
) -> Decision:
    """Decide an input whose identity the log holds already, under number `seq`.

    Args:
        same: its content is the same, too.
        answers: it is an agent's answer to a request.
    """
    if same:
        return Decision("duplicate", message, why="duplicate", reason=f"recorded before, as number {seq}")
    if answers:
        reason = f"another answer to this request was recorded first, or its lease ran out: see number {seq}"
        told = _told_late(delivery, message, table, facts, reason)
        return Decision("superseded", message, why="superseded", reason=reason, outputs=tuple(told))
    reason = f"its id was used before with other content, in number {seq}; give every message its own id"
    failure = Failure("contract", "id-reused", reason, agent=message.source)
    return rejected(delivery, message, facts, table, "invalid", failure, None)


def _told_late(delivery: Delivery, message: Message, table: RouteTable, facts: Facts, reason: str) -> list[Output]:
    """Tell an agent that its answer goes nowhere, once it is sure that the answer is this agent's."""
    found = table.find(message.type, message.source)
    try:
        check_sender(message, delivery, table, facts, found)
        asker(message, found.answers or "", facts)
    except Refused:
        return []
    failure = Failure("refusal", "superseded", reason, agent=message.source)
    return tell(message, facts, failure, ReturnAddress(f"agent:{message.source}", message.id))


def _decoded(delivery: Delivery, facts: Facts) -> Message | None:
    try:
        return decode(delivery, of_the_bus(facts.limits))
    except Refused:
        return None


def _told(message: Message, facts: Facts, failure: Failure) -> list[Output]:
    given = message.attributes
    back = unseal(facts.seal, given.get(REPLYTO), message.id, message.type, message.conversation, given.get(FENCE, 0))
    if back is None or back == NOBODY:
        return []
    return tell(message, facts, failure, back)
