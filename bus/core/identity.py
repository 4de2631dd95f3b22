"""Who says so: the broker-verified user against the source that the message claims, and what each may send."""

from __future__ import annotations

import re

from bus.core.actions import Delivery
from bus.core.address import ReturnAddress, brought_back, unseal
from bus.core.errors import Refused
from bus.core.facts import Facts
from bus.core.message import (
    ATTEMPT,
    CONTROL,
    CORRELATION,
    FENCE,
    HOME,
    REDRIVE,
    REPLYTO,
    REQUESTED,
    TASK_CLAIM,
    Message,
)
from bus.core.outputs import BUS, NOBODY
from bus.core.route import Agent
from bus.core.table import Found, RouteTable

_RESERVED = (REDRIVE, ATTEMPT, FENCE, HOME)

CLIENT = "cli"
"""Source of the `bus` command and of people: a client with a private inbox, not a declared agent."""

GATEWAY = "gateway"
"""Source of what HTTP clients ask through the Messaging Gateway: an agent of the bus's own, with an inbox for answers.
It may send the types of its entries. With verified users, its messages come from the bus's user or from one of its
name."""

AT_THE_DOOR = frozenset(
    {
        "unknown-agent",
        "not-you",
        "reserved-attribute",
        "not-published",
        "bad-return-address",
        "unsolicited-reply",
        "not-an-operator",
    }
)
"""Codes of refusals by who the sender is. Such a message takes nobody's identity: neither the id that it claims, nor
the place of the answer to the request that it names."""

CLIENT_ADDRESS = re.compile(r"client:[A-Za-z0-9_-]{1,64}")


def from_the_bus(delivery: Delivery, facts: Facts) -> bool:
    """Whether the bus itself published this: only it holds that broker user."""
    return delivery.user_id == facts.bus_user


def check_sender(message: Message, delivery: Delivery, table: RouteTable, facts: Facts, found: Found) -> None:
    """Refuse a message whose source is not who published it, or that sets what only the bus may set.

    What the bus publishes again for an agent (a redrive, another routing key) was checked for its user the first time,
    but not always found good; whether its source may say it is asked again.

    Args:
        found: what the table says of the message's type and source.

    Raises:
        Refused: `unknown-agent`, `not-you`, `reserved-attribute`, `not-published`, `not-an-operator`.
    """
    source = message.source
    vouched = facts.identity == "shared" or delivery.user_id == source
    if vouched and found.declared and message.attributes.keys().isdisjoint(_RESERVED):
        return
    trusted = from_the_bus(delivery, facts)
    if trusted and source == BUS:
        return
    if not trusted and facts.identity == "broker" and delivery.user_id != source:
        said = f"user `{delivery.user_id}`" if delivery.user_id else "no user-id"
        raise Refused("not-you", f"source `{source}` was published with {said}; publish as the broker user `{source}`")
    if source != CLIENT and table.agent(source) is None:
        raise Refused(
            "unknown-agent", f"no agent `{source}` is declared; write it under `agents:`, or correct the source"
        )
    for name in _RESERVED:
        if name == FENCE and (found.answers is not None or message.type == TASK_CLAIM or brought_back(message)):
            continue  # comes back as it went out: the seal of the return address proves it
        if not trusted and message.attributes.get(name):
            raise Refused("reserved-attribute", f"only the bus sets `{name}`; leave it out")
    type_ = message.type
    if source == CLIENT and type_.startswith(CONTROL) and (not trusted or REDRIVE in message.attributes):
        raise Refused("not-an-operator", f"only the bus's own broker user may send `{type_}`; write `bus control`")
    if source != CLIENT and not found.declared:
        raise Refused("not-published", _undeclared(type_, source, table.answered(type_)))


def _undeclared(type_: str, agent: str, capability: str | None) -> str:
    if capability is not None:
        return f"agent `{agent}` does not have the capability `{capability}`"
    return f"agent `{agent}` does not declare `{type_}`; write `publishes: [{type_}]` in its entry under `agents:`"


def _of_a_task(message: Message, agent: Agent, facts: Facts) -> bool:
    """Whether the agent was given the task in the course of which it says that it publishes this."""
    given, task = message.attributes, message.text(CORRELATION) or ""
    text, fence = given[REPLYTO], given.get(FENCE, 0)
    types = (capability + REQUESTED for capability in agent.capabilities)
    return any(unseal(facts.seal, text, task, type_, message.conversation, fence) is not None for type_ in types)


def return_address(message: Message, delivery: Delivery, table: RouteTable, facts: Facts) -> ReturnAddress | None:
    """Who asked, or None: sealed when the bus carried the message, plain from the asker itself.

    Raises:
        Refused: `bad-return-address`: an asker may name only its own inbox.
    """
    text = message.attributes.get(REPLYTO)
    if text is None:
        return None
    if from_the_bus(delivery, facts):
        fence = message.attributes.get(FENCE, 0)
        back = unseal(facts.seal, text, message.id, message.type, message.conversation, fence)
        # A redriven message keeps the asker's plain address: check it as if the asker had sent it.
        if back is not None or message.source == BUS:
            return None if back == NOBODY else back
    agent = table.agent(message.source)
    if agent is not None and brought_back(message) and _of_a_task(message, agent, facts):
        return None
    allowed = f"agent:{message.source}"
    if text == allowed or (message.source == CLIENT and CLIENT_ADDRESS.fullmatch(str(text))):
        return ReturnAddress(str(text), message.id)
    raise Refused("bad-return-address", f"replyto `{text!s}` is not this sender's inbox; write `{allowed}`")
