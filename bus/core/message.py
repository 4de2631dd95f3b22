"""The message: a CloudEvent whose attributes keep their types.

A message is immutable. `attributes` holds every CloudEvents context attribute but `data`, under its
CloudEvents name; `data` is the JSON payload. The constants below are the wire contract: each names an
extension attribute and says what it means, and nothing else in the project spells these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias, Union

Json: TypeAlias = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
Attribute: TypeAlias = Union[bool, int, str, bytes]
"""CloudEvents Boolean, Integer, String (also URI and Timestamp, kept as written) and Binary."""

ID, SOURCE, TYPE, TIME, SPECVERSION = "id", "source", "type", "time", "specversion"
DATACONTENTTYPE, DATASCHEMA, SUBJECT = "datacontenttype", "dataschema", "subject"

CONVERSATION = "conversationid"  # the conversation and partition key; defaults to the id of its first message
CORRELATION = "correlationid"  # id of the request that this message answers
CAUSATION = "causationid"  # id of the message that caused this one
REPLYTO = "replyto"  # return address inside the bus: see bus.core.address
EXPIRY = "expirytime"  # deadline, RFC 3339; past it a message is expired, never delivered
HOPS = "hopsleft"  # counts down at every hop; 0 means stop
BUDGET_TOKENS, BUDGET_COST = "budgettokens", "budgetcost"  # what the conversation may still spend
ON_BEHALF_OF = "onbehalfof"  # the delegation chain; scopes only narrow
ATTEMPT, FENCE = "attempt", "fence"  # which try of a task; a superseded reply is recorded, not delivered
LEASE = "lease"  # of a task: seconds that an agent which has accepted it may be silent; only the bus sets it
LABELS = "labels"  # provenance and trust labels, comma-separated
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"  # W3C trace context
HOME = "homekey"  # key whose partition decides a message, when that is not its conversation; only the bus sets it
REPAIR = "repair"  # of a request: what was wrong with the answer before, JSON text; see bus.core.asking
REDRIVE = "redrive"  # how often an operator redrove this message, or what it was made of; only the bus sets it

CARRIED = (BUDGET_TOKENS, BUDGET_COST, ON_BEHALF_OF, LABELS, TRACESTATE, EXPIRY, REDRIVE)
"""Attributes that a message made by the bus inherits unchanged from the message that caused it."""

REQUESTED = ".requested"
"""What the type of a request for a capability ends with."""

FAILED = "bus.failed"
"""Type of the message by which the bus tells a sender or asker about a final failure."""

TASK_CLAIM, TASK_CLAIMED = "bus.task.claim", "bus.task.claimed"
"""Types of an agent's question whether a task is still its to do, and of the bus's answer: see bus.core.claims."""

TASK_LAPSE = "bus.task.lapse"
"""Type of the bus's own word that a leased task came back from its queue: see bus.core.leases."""
TASK_MOVE = "bus.task.move"
"""Type of the bus's own word that a lease goes to another partition: see bus.core.leases."""
CONTROL = "bus.control."
"""What the types of messages to the bus itself begin with: see bus.core.control."""
FLOW_MOVE = "bus.flow.move"
"""Type of the bus's own word that something remembered goes to another partition: see bus.core.moving."""
FLOW_TOLD = "bus.flow.told"
"""Type of the bus's own word to a flow that waits for an answer, that none will come: see bus.core.running."""


class Message(NamedTuple):
    """One CloudEvent.

    Args:
        attributes: context attributes by CloudEvents name; at least id, source, type, specversion.
        data: the JSON payload; None when absent.
    """

    attributes: Mapping[str, Attribute]
    data: Json

    @property
    def id(self) -> str:
        return str(self.attributes[ID])

    @property
    def source(self) -> str:
        return str(self.attributes[SOURCE])

    @property
    def type(self) -> str:
        return str(self.attributes[TYPE])

    @property
    def conversation(self) -> str:
        """The conversation; a message that names none starts one under its own id."""
        return str(self.attributes.get(CONVERSATION) or self.attributes[ID])

    def text(self, name: str) -> str | None:
        """Return the attribute `name` as a string, or None when it is absent."""
        value = self.attributes.get(name)
        return None if value is None else str(value)


def task_of(message: Message) -> tuple[str, Attribute]:
    """The task that a message is of, and its try; "" and 0 where it says none."""
    return message.text(CORRELATION) or "", message.attributes.get(FENCE, 0)
