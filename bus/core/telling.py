"""Telling whoever waits that it will not come: `bus.failed`, with every finding (R5)."""

from __future__ import annotations

from bus.core.actions import Failure, Output, TargetKind
from bus.core.address import ReturnAddress
from bus.core.codec import encode
from bus.core.facts import Facts
from bus.core.flow import as_data
from bus.core.instance import failed
from bus.core.message import (
    CAUSATION,
    CONVERSATION,
    CORRELATION,
    EXPIRY,
    FAILED,
    FLOW_TOLD,
    HOPS,
    ID,
    SOURCE,
    SPECVERSION,
    TIME,
    TYPE,
    Attribute,
    Json,
    Message,
)
from bus.core.outputs import BUS, STRUCTURED, Outbox, derived_id

FLOW = "flow:"
"""Return addresses of runs of routes with memory begin with it: see bus.core.running."""


def place(address: str) -> tuple[TargetKind, str]:
    """Split a return address into a target: `agent:x` -> ("agent", "x"), `client:y` -> ("client", "y")."""
    kind, _, name = address.partition(":")
    return ("agent" if kind == "agent" else "client"), name


def tell(message: Message, facts: Facts, failure: Failure, back: ReturnAddress) -> list[Output]:
    """Make the `bus.failed` that tells `back` what became of `message`; nothing is told about `bus.failed` itself."""
    if message.type == FAILED:
        return []
    if back.address.startswith(FLOW):
        return tell_flow(message, facts, failed(failure, facts.now_s), back)
    kind, name = place(back.address)
    outbox = Outbox(message, facts, "bus.failed")
    data = _data(failure, message.id, message.type)
    outbox.send(kind, name, FAILED, data, correlation=back.asked)
    return outbox.outputs


def tell_flow(message: Message, facts: Facts, result: Json, back: ReturnAddress) -> list[Output]:
    """Word to a run of a route, wherever it lives, of the answer to a request of it, or of the failure in its place."""
    path, _, home = back.asked.rpartition("!")
    lasting = Message({name: value for name, value in message.attributes.items() if name != EXPIRY}, None)
    outbox = Outbox(lasting, facts, f"told {path}")
    said: dict[str, Json] = {"flow": back.address.removeprefix(FLOW), "path": path, "result": result}
    outbox.send("ingress", FLOW_TOLD, FLOW_TOLD, said, home=home)
    return outbox.outputs


def _data(failure: Failure, message_id: str, type_: str) -> Json:
    """Payload of `bus.failed`."""
    return {**as_data(failure), "message": {"id": message_id, "type": type_}}


def tell_about_bytes(facts: Facts, failure: Failure, cause: str, address: str, type_: str) -> Output:
    """`bus.failed` about a message that could not be decoded: nothing of it is known but what AMQP said."""
    kind, name = place(address)
    identity = derived_id(cause, "invalid", address, 1)
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: identity,
        SOURCE: BUS,
        TYPE: FAILED,
        TIME: facts.now,
        CONVERSATION: cause,
        CAUSATION: cause,
        CORRELATION: cause,
        HOPS: 1,
    }
    body = encode(attributes, _data(failure, cause, type_))
    return Output(kind, name, identity, FAILED, cause, body, STRUCTURED, {})
