"""What is remembered follows its key to another partition, when the one that it is in is to be retired.

A run lives in the partition of its conversation or its home key, a cell in that of the runs that share it. When a
namespace grows, those keys have another partition, where their messages come from then on. So each state is sent there,
by one recorded internal message; the state itself stands in the log, as the input of the entry that has sent it, and is
read from there, as it may be larger than a message. Cells that runs of several homes share, a circuit breaker's for
one, follow the run that made them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from bus.core.actions import Change, Decision, Delivery
from bus.core.facts import Facts
from bus.core.instance import memory_key
from bus.core.memory import CELL, HOME_OF_CELL
from bus.core.message import CONVERSATION, FLOW_MOVE, ID, SOURCE, SPECVERSION, TIME, TYPE, Attribute, Message
from bus.core.outputs import BUS, STRUCTURED, Outbox, derived_id

FLOW = memory_key("")
ARRIVED = "arrived"
"""Key that says of a partition that all has come to it that was on its way when its generation began to be served."""


class Remembered(NamedTuple):
    """One state as it is moved, as in `bus.core.actions.Change`."""

    key: str
    body: bytes
    due_s: float | None
    version: str | None = None


def moves(key: str) -> bool:
    """Whether what is remembered under a key follows its key; all else is of the partition itself."""
    return key.startswith((FLOW, CELL))


def moved(state: Remembered, partition: int, seq: int, facts: Facts) -> tuple[Delivery, Decision]:
    """Send a state to the partition that its key has now, and forget it in this one.

    Args:
        partition, seq: where the entry will stand in the log.
    """
    conversation, home = _place(state)
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: derived_id(state.key, FLOW_MOVE, f"{partition}", seq),
        SOURCE: BUS,
        TYPE: FLOW_MOVE,
        TIME: facts.now,
        CONVERSATION: conversation,
    }
    message = Message(attributes, None)
    outbox = Outbox(message, facts, "move")
    outbox.send("ingress", FLOW_MOVE, FLOW_MOVE, {"partition": partition, "seq": seq}, home=home)
    version = orjson.loads(state.body)["config"] if state.key.startswith(FLOW) else None
    body = orjson.dumps([state.key, state.body.decode(), state.due_s, version])
    delivery = Delivery(body, STRUCTURED, {}, facts.bus_user, message.id, FLOW_MOVE, conversation, "", 0, None)
    why = "its partition is retired: what is remembered follows its key"
    return delivery, Decision(
        "routed", message, why=why, outputs=tuple(outbox.outputs), changes=(Change(state.key, None),)
    )


def arrived(entry_input: bytes) -> Remembered:
    """Read the state that `moved` has put into the log.

    Raises:
        ValueError: it is none.
    """
    key, body, due_s, version = orjson.loads(entry_input)
    return Remembered(key, body.encode(), due_s, version)


def _place(state: Remembered) -> tuple[str, str]:
    """(conversation, home key) of a state; the second one is "" where the first one says where it lives."""
    said: dict[str, Any] = orjson.loads(state.body)
    if state.key.startswith(FLOW):
        event = said["event"]
        return str(event.get(CONVERSATION) or event[ID]), str(said["home"])
    home = str(said.get(HOME_OF_CELL, ""))
    return home or state.key, ""
