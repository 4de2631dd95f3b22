"""Answers of agents: to the asker when somebody waits, else an event.

R2: the last agent answers the asker, whose sealed address came along with the request. R3, R4: an answer to somebody
never enters `match`; without an asker it becomes the event `<capability>.replied`. R5: one final answer, which the
shell's inbox enforces by the request's id (`identity_of`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

from bus.core.actions import Decision, Delivery, Failure
from bus.core.address import ReturnAddress, brought_back, unseal
from bus.core.errors import FailureClass, Finding, Refused
from bus.core.facts import Facts
from bus.core.message import (
    ATTEMPT,
    CONVERSATION,
    CORRELATION,
    FENCE,
    HOME,
    ID,
    REDRIVE,
    REPLYTO,
    REQUESTED,
    SOURCE,
    Attribute,
    Message,
)
from bus.core.outputs import BUS, NOBODY, Outbox, set_aside
from bus.core.route import Capability
from bus.core.telling import place, tell


@dataclass(frozen=True, slots=True)
class Answered:
    """A good answer that nobody waits for: it goes on as an event."""

    capability: str


def asker(message: Message, capability: str, facts: Facts) -> ReturnAddress:
    """Whom the answer to a request for `capability` is for; NOBODY when nobody waits.

    Args:
        message: an agent's answer, or another message that brings the request's return address back.

    Raises:
        Refused: `unsolicited-reply`: this bus did not send the request that it names.
    """
    request = message.text(CORRELATION) or ""
    given, type_ = message.attributes, capability + REQUESTED
    back = unseal(facts.seal, given.get(REPLYTO), request, type_, message.conversation, given.get(FENCE, 0))
    if back is None:
        raise Refused(
            "unsolicited-reply",
            f"`{message.type}` answers no request of this bus; copy `replyto` and `conversationid` from the request, "
            "and put the request's id into `correlationid`",
        )
    return back


def checked(message: Message, capability: Capability) -> tuple[tuple[Finding, ...], Failure | None]:
    """What is wrong with an agent's `<capability>.replied` or `.failed`: findings of a broken contract, the failure."""
    if message.type.endswith(".failed"):
        return (), _agents_failure(message)
    findings = capability.reply.check(message.data)
    if not findings:
        return (), None
    first = findings[0]
    reason = (
        f"the reply of {message.source} breaks {capability.reply.name}: {first.pointer or '/'} "
        f"expected {first.expected}, got {first.got}"
    )
    return findings, Failure("contract", "contract", reason, agent=message.source, findings=findings)


def answer(
    message: Message, delivery: Delivery, capability: Capability, back: ReturnAddress, facts: Facts
) -> Decision | Answered:
    """Decide an agent's `<capability>.replied` or `.failed`, which is for `back`."""
    findings, failure = checked(message, capability)
    if findings and failure is not None:
        outputs = [set_aside(delivery, message, facts, "invalid", failure, "")]
        outputs += tell(message, facts, failure, ReturnAddress(f"agent:{message.source}", message.id))
        if back != NOBODY:
            outputs += tell(message, facts, failure, back)
        return Decision("invalid", message, None, None, "contract", failure.reason, failure, (), tuple(outputs))
    if back == NOBODY:
        return Answered(capability.name)
    if failure is not None:
        return Decision("routed", message, None, None, f"reply to {back.address}", failure.reason, failure, (),
                        tuple(tell(message, facts, failure, back)))  # fmt: skip
    outbox = Outbox(message, facts, "reply")
    kind, name = place(back.address)
    outbox.send(kind, name, message.type, message.data, source=message.source, correlation=back.asked)
    return Decision("routed", message, None, None, f"reply to {back.address}", outputs=tuple(outbox.outputs))


def _agents_failure(message: Message) -> Failure:
    data = message.data if isinstance(message.data, dict) else {}
    said = data.get("class")
    failure = cast(FailureClass, said) if said in get_args(FailureClass) else "tool_error"
    return Failure(failure, failure, str(data.get("reason") or "the agent gave no reason")[:1000], agent=message.source)


def answer_identity(task: str, fence: Attribute) -> str:
    """Identity of the one answer that is recorded for a try of a task; a lease that runs out takes its place."""
    return f"\0reply\0{task}\0{fence!s}"


def identity_of(message: Message, answers: bool) -> str:
    """What makes two deliveries one input: (source, conversation, id, attempt, redrive), or the request it answers.

    The conversation belongs to it because each partition has an inbox of its own: without it, whether an id is known
    in another conversation would hang on a hash.

    The first recorded answer to a request wins, whoever sends the second and under whichever id.
    """
    given = message.attributes
    if answers:
        return answer_identity(str(given.get(CORRELATION)), given.get(FENCE, 0))
    identity = given[ID]
    tries = f"{given.get(ATTEMPT, 0)!s}\0{given.get(REDRIVE, 0)!s}"
    if REPLYTO in given and brought_back(message) and given[SOURCE] != BUS:
        # Whichever agent publishes it: another one that is given the task again would publish it once more.
        return f"\0sent\0{given[CORRELATION]!s}\0{given.get(FENCE, 0)!s}\0{identity!s}\0{tries}"
    conversation = given.get(CONVERSATION) or identity
    if HOME in given:  # the second hop of a message, which may end in the partition where the first one is known
        return f"\0home\0{given[HOME]!s}\0{given[SOURCE]!s}\0{conversation!s}\0{identity!s}\0{tries}"
    return f"{given[SOURCE]!s}\0{conversation!s}\0{identity!s}\0{tries}"
