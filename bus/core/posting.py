"""From what a route wants sent to messages: return addresses, and word to whoever waits when it fails."""

from __future__ import annotations

from bus.core.actions import Failure, Output
from bus.core.address import ReturnAddress
from bus.core.facts import Facts
from bus.core.identity import CLIENT
from bus.core.message import FAILED, REPLYTO, Message
from bus.core.outputs import BUS, NOBODY, Outbox
from bus.core.table import RouteTable
from bus.core.telling import place, tell
from bus.core.work import Dispatch


def put(dispatched: Dispatch, outbox: Outbox, back: ReturnAddress | None) -> None:
    """Turn a dispatch into an output: requests carry the return address or prove that nobody waits."""
    target, labels = dispatched.target, dispatched.labels
    kept = back if dispatched.answerable else None
    if target.kind == "capability" or target.kind == "agent":
        outbox.send(target.kind, target.name, target.type, dispatched.data, back=kept or NOBODY,
                    lease_s=target.lease_s, labels=labels)  # fmt: skip
    elif target.kind == "event":
        if target.to_route:
            outbox.send("ingress", target.name, target.type, dispatched.data, back=kept, labels=labels)
        elif target.to_subscribers:
            outbox.send("event", target.name, target.type, dispatched.data, labels=labels)
    elif kept is not None:
        kind, name = place(kept.address)
        type_ = FAILED if target.name == "error" else f"{outbox.message.type}.replied"
        outbox.send(kind, name, type_, dispatched.data, correlation=kept.asked, labels=labels)


def tell_asker(
    message: Message, facts: Facts, failure: Failure, back: ReturnAddress | None, table: RouteTable
) -> list[Output]:
    """`bus.failed` to the asker, or to the sender when nobody asked (R5). Nothing is told about `bus.failed`."""
    if back is None and message.source in table.catalog.agents:
        back = ReturnAddress(f"agent:{message.source}", message.id)
    if back is None:
        back = _claimed_client(message)
    return [] if back is None else tell(message, facts, failure, back)


def _claimed_client(message: Message) -> ReturnAddress | None:
    """A refused message of a client: its private inbox is where to say so."""
    text = message.attributes.get(REPLYTO)
    if message.source not in (CLIENT, BUS) or not isinstance(text, str) or not text.startswith("client:"):
        return None
    return None if "!" in text else ReturnAddress(text, message.id)
