"""What an agent says about its task: its reply, and whatever else it publishes while it works on it.

What answers a task is repeatable: the same task gives the same ids and attributes. So nothing random and no clock goes
into it: an agent that crashed after its reply was confirmed but before it acked the task sends the same bytes again,
and the bus knows them for a duplicate. The SDK speaks so, and so do the stand-ins of `bus.rehearsal`.
"""

from __future__ import annotations

from hashlib import blake2b

from bus.core.message import (
    ATTEMPT,
    CARRIED,
    CAUSATION,
    CONVERSATION,
    CORRELATION,
    DATACONTENTTYPE,
    EXPIRY,
    FENCE,
    HOPS,
    ID,
    REDRIVE,
    REPLYTO,
    REQUESTED,
    SOURCE,
    SPECVERSION,
    TRACEPARENT,
    TYPE,
    Attribute,
    Json,
    Message,
)

REPLIED, FAILED_SUFFIX = ".replied", ".failed"

_TRACEPARENT_CHARS = 55  # W3C trace context, version 00


def task_key(task: Message) -> str:
    """Identity of a task: its id and fence. One recorded reply belongs to each."""
    return f"{task.id}\0{task.text(FENCE) or 0}"


def derived_id(task: Message, index: int) -> str:
    """Id of the message number `index` that a task causes; 0 is its reply."""
    return blake2b(f"{task_key(task)}\0{index}".encode(), digest_size=16).hexdigest()


def caused(agent: str, task: Message, index: int, type_: str, data: Json) -> Message:
    """Make a message that a handler publishes while it works on `task`."""
    given = task.attributes
    identity = derived_id(task, index)
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: identity,
        SOURCE: agent,
        TYPE: type_,
        DATACONTENTTYPE: "application/json",
        CONVERSATION: task.conversation,
        CAUSATION: task.id,
    }
    for name in (HOPS, *CARRIED):
        if name in given and name != REDRIVE:  # which only the bus sets: it refuses an answer with it
            attributes[name] = given[name]
    if index and task.type.endswith(REQUESTED):
        attributes.update(of_task(task))  # shows the bus in the course of which task it is published
    trace = given.get(TRACEPARENT)
    if isinstance(trace, str) and len(trace) == _TRACEPARENT_CHARS:
        attributes[TRACEPARENT] = f"{trace[:36]}{identity[:16]}{trace[52:]}"
    return Message(attributes, data)


def of_task(task: Message) -> dict[str, Attribute]:
    """What names a task to the bus, and proves that it was given to us."""
    given = task.attributes
    return {CORRELATION: task.id, **{name: given[name] for name in (REPLYTO, FENCE) if name in given}}


def reply(agent: str, request: Message, type_: str, data: Json) -> Message:
    """Make the answer to `request`: the return address goes back as it came, sealed by the bus."""
    message = caused(agent, request, 0, type_, data)
    attributes = dict(message.attributes)
    attributes[CORRELATION] = request.id
    for name in (REPLYTO, ATTEMPT, FENCE):
        if name in request.attributes:
            attributes[name] = request.attributes[name]
    if type_.endswith(FAILED_SUFFIX):
        # A failure may be late, even because of the deadline; it must not expire on its way.
        attributes.pop(EXPIRY, None)
    return Message(attributes, data)
