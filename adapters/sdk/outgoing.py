"""The messages that an agent makes on its own account; what answers a task is in bus.core.answering."""

from __future__ import annotations

import uuid

from bus.core.answering import of_task
from bus.core.message import (
    CAUSATION,
    CONVERSATION,
    DATACONTENTTYPE,
    EXPIRY,
    ID,
    REPLYTO,
    SOURCE,
    SPECVERSION,
    TASK_CLAIM,
    TIME,
    TYPE,
    Attribute,
    Json,
    Message,
)
from bus.core.times import rfc3339


def claim(agent: str, task: Message, capability: str, inbox: str, accept: bool) -> Message:
    """Ask the bus whether `task` is still to be done: see bus.core.claims. Every question has an id of its own.

    Args:
        inbox: return address for the verdict.
        accept: take the task's lease, or renew it.
    """
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: uuid.uuid4().hex,
        SOURCE: agent,
        TYPE: TASK_CLAIM,
        DATACONTENTTYPE: "application/json",
        CONVERSATION: task.conversation,
        CAUSATION: task.id,
        **of_task(task),
    }
    data: dict[str, Json] = {"capability": capability, "inbox": inbox}
    return Message(attributes, {**data, "lease": True} if accept else data)


def fresh(
    agent: str,
    type_: str,
    data: Json,
    now_s: float,
    conversation: str | None = None,
    replyto: str | None = None,
    expires_s: float | None = None,
    message_id: str | None = None,
) -> Message:
    """Make a message that nothing caused; without a conversation it starts one.

    Args:
        now_s: epoch seconds.
        expires_s: epoch seconds of its deadline, or None.
        message_id: its id, so that it can be made again and is the same; it has no time then. None gives it a new one.
    """
    identity = message_id or uuid.uuid4().hex
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: identity,
        SOURCE: agent,
        TYPE: type_,
        DATACONTENTTYPE: "application/json",
        CONVERSATION: conversation or identity,
    }
    if message_id is None:
        attributes[TIME] = rfc3339(now_s)
    if replyto is not None:
        attributes[REPLYTO] = replyto
    if expires_s is not None:
        attributes[EXPIRY] = rfc3339(expires_s)
    return Message(attributes, data)
