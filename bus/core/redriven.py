"""A redriven request: it goes out anew, to whoever has its capability now."""

from __future__ import annotations

from bus.core.actions import Decision
from bus.core.address import ReturnAddress
from bus.core.dispatch import permitted
from bus.core.errors import Refused, StepFailed
from bus.core.facts import Facts
from bus.core.message import LABELS, REQUESTED, Message
from bus.core.outputs import NOBODY, Outbox
from bus.core.posting import put
from bus.core.table import RouteTable
from bus.core.work import Dispatch, Target


def asked_again(message: Message, facts: Facts, table: RouteTable, back: ReturnAddress | None) -> Decision:
    """Send it to whoever has the capability and may have the message now; the answer still goes to the first asker.

    The deadline is the one that the message still has: a redrive takes out one that has passed.

    Raises:
        Refused: `unknown-capability`; `label`: no agent may have it.
    """
    capability = message.type.removesuffix(REQUESTED)
    declared = table.catalog.capabilities.get(capability)
    if declared is None:
        raise Refused("unknown-capability", f"no agent offers `{capability}` any more; declare it, then redrive again")
    target = Target("capability", capability, message.type, lease_s=declared.lease_s)
    labels = message.text(LABELS) or ""
    try:
        target = permitted(target, table.catalog.audience_of(capability), labels, message.conversation)
    except StepFailed as error:
        raise Refused("label", error.reason) from error
    outbox = Outbox(message, facts, "redrive")
    put(Dispatch(target, message.data, True), outbox, (back or NOBODY)._replace(until_ms=None))
    return Decision("routed", message, why="redriven request", outputs=tuple(outbox.outputs))
