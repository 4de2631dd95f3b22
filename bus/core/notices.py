"""Notices: what the bus does without being sent a message stands in the log, too, as if it had sent itself one.

All of them belong to one conversation, so `bus trace bus.control` shows what was changed, by whom and when.
"""

from __future__ import annotations

from typing import NamedTuple

from bus.core.actions import Decision, Delivery
from bus.core.codec import encode
from bus.core.facts import Facts
from bus.core.message import CONVERSATION, ID, SOURCE, SPECVERSION, TIME, TYPE, Attribute, Json, Message
from bus.core.outputs import BUS, STRUCTURED, derived_id

CONTROL_CONVERSATION = "bus.control"
"""The conversation of everything that is done to a running bus."""


class Notice(NamedTuple):
    """Args:
    type: what kind of thing happened, `bus.config.applied` for one.
    data: what happened.
    reason: one sentence for a person.
    """

    type: str
    data: dict[str, Json]
    reason: str


def noticed(notice: Notice, number: int, partition: int, facts: Facts) -> tuple[Delivery, Decision]:
    """The entry that tells of it.

    Args:
        number, partition: where it will stand in the log, which makes it one of its kind.
    """
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: derived_id(notice.type, facts.now, f"{partition}", number),
        SOURCE: BUS,
        TYPE: notice.type,
        TIME: facts.now,
        CONVERSATION: CONTROL_CONVERSATION,
    }
    message = Message(attributes, notice.data)
    body = encode(attributes, notice.data)
    delivery = Delivery(
        body, STRUCTURED, {}, facts.bus_user, message.id, notice.type, CONTROL_CONVERSATION, "", 0, None
    )
    return delivery, Decision("filtered", message, why="notice", reason=notice.reason)
