"""What the core decides: frozen values that only the shell performs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bus.core.errors import FailureClass, Finding
from bus.core.message import Attribute, Message

TargetKind = Literal["agent", "capability", "event", "ingress", "client", "dead", "invalid", "lease", "schedule"]

ROWS = ("lease", "schedule")
"""Kinds that are not published but kept, as a row of the store that says when something is due."""

End = Literal[
    "routed",  # delivered to at least one target
    "filtered",  # understood, and wanted by nobody on purpose
    "invalid",  # cannot be understood, or breaks its contract: the Invalid Message Channel
    "dead_letter",  # understood, but cannot be delivered: the Dead Letter Channel
    "expired",  # its deadline passed before it could be delivered
    "duplicate",  # seen before; nothing is done again
    "superseded",  # a late or second answer; recorded, not delivered
    "woken",  # a wake-up token of the bus itself
    "waiting",  # a route with memory keeps it, and goes on when something comes or a time is reached
    "consumed",  # taken up by a join of messages; what becomes of them is told by another entry
]


class Delivery(NamedTuple):
    """One message as it came from the wire, before anything is believed about it.

    Args:
        body: the payload bytes.
        content_type: AMQP content type, or None.
        headers: AMQP headers table; decoded when first read.
        user_id: the broker-verified user, or None.
        message_id: AMQP message id, or None.
        type: AMQP type property, or None.
        routing_key: the key it was published with; the conversation, on ingress.
        queue: the queue it was consumed from.
        redelivered: how often the broker has delivered it before (`x-delivery-count`).
        reply_to: AMQP reply_to, an address as in bus.core.naming.address_queue; tells whom to tell when the body can't.
    """

    body: bytes
    content_type: str | None
    headers: Mapping[str, object]
    user_id: str | None
    message_id: str | None
    type: str | None
    routing_key: str
    queue: str
    redelivered: int = 0
    reply_to: str | None = None


class Output(NamedTuple):
    """One message that the bus will publish: persistent, mandatory, confirmed.

    Args:
        kind, name: where to; the shell knows the exchange and routing key of each kind. `event` goes to NS.events,
            `ingress` back into the bus under the conversation's partition. `lease` and `schedule` are not published but
            kept, as rows: one watches over a request, the other says what was sent by the clock.
        id: message id; a hash of (sender, conversation, in-id, route, target, index), so that a redelivery repeats it.
        type: the message's type, for AMQP's `type` property.
        conversation: the ordering key, together with the target.
        body: the encoded message, content type `content_type`.
        headers: AMQP headers; empty for structured CloudEvents.
        expires_ms: time to live in the target's queue, or None.
    """

    kind: TargetKind
    name: str
    id: str
    type: str
    conversation: str
    body: bytes
    content_type: str
    headers: Mapping[str, Attribute]
    expires_ms: int | None = None

    @property
    def target(self) -> str:
        """The target as people and logs write it: `capability:sentiment`, `dead`."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message did not reach a target, as data: what `bus.failed`, the log and `error` in routes show."""

    failure: FailureClass
    code: str
    reason: str
    step: str | None = None
    agent: str | None = None
    findings: tuple[Finding, ...] = ()


class Change(NamedTuple):
    """What the bus remembers from now on under a key, in the partition where the decision is recorded.

    Args:
        key: which memory: see bus.core.instance. A blob (bus.core.blobs) is remembered for all, and before the commit.
        body: JSON, or None to forget it.
        due_s: epoch seconds when it wants to go on by itself, or None.
        version: of the configuration that it needs to go on, or None.
    """

    key: str
    body: bytes | None
    due_s: float | None = None
    version: str | None = None


class Decision(NamedTuple):
    """What becomes of one delivery.

    Args:
        end: how the input ends (per target, the log tells more).
        message: the decoded message, or None when it could not be decoded.
        route: `integration/route` that owns it, or None.
        where: `file:line` of that route, or None.
        why: why this route, e.g. `exact type`, `glob order.**`, `reply to frontdesk`.
        reason: one sentence for a person when `end` is not `routed`; else "".
        failure: the failure, when there is one.
        steps: what each step did, in order, short strings for the trace.
        outputs: what to publish, in order.
        changes: what is remembered and forgotten in the same commit, each key once.
        config: version of the configuration that decided, when it is not the one in force: a run stays with its own.
    """

    end: End
    message: Message | None
    route: str | None = None
    where: str | None = None
    why: str = ""
    reason: str = ""
    failure: Failure | None = None
    steps: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    changes: tuple[Change, ...] = ()
    config: str = ""
