"""Messages for a route that is paused: each is remembered where it came, and decided anew, in order, after that."""

from __future__ import annotations

from base64 import b64decode, b64encode

import orjson

from bus.core.actions import Change, Decision, Delivery
from bus.core.codec import encode
from bus.core.message import HOME, Message
from bus.core.outputs import STRUCTURED
from bus.core.route import Route

PARKED = "parked:"
"""What the keys of such messages begin with; the route and a number come behind it."""
WHY = "paused"
"""`why` of the decision to let one wait."""


def parked(message: Message, route: Route) -> Decision:
    """Let a message wait; whoever numbers the decision adds what is to be remembered, see `remembered`."""
    return Decision("waiting", message, route.name, route.where, WHY, f"route {route.name} is paused")


def early(message: Message, route: str = "") -> Decision:
    """Let a message wait for what is on its way to this partition: the run that it answers, or those before it."""
    return Decision("waiting", message, route or None, None, WHY, "runs that come before it are on their way here")


def remembered(decision: Decision, delivery: Delivery, number: int) -> Change:
    """What is remembered of a message that waits.

    Args:
        number: by which they stay in order.
    """
    message = decision.message
    assert message is not None
    body = encode(message.attributes, message.data)
    said = {"user": delivery.user_id, "body": b64encode(body).decode()}
    return Change(f"{PARKED}{decision.route or ''}:{number:016d}", orjson.dumps(said))


def route_of(key: str) -> str:
    """The route that a message waits for, by the key that it is remembered under."""
    return key.removeprefix(PARKED).rpartition(":")[0]


def released(body: bytes) -> Delivery:
    """The message as if it had just come, from what was remembered of it."""
    said = orjson.loads(body)
    event = b64decode(said["body"])
    given = orjson.loads(event)
    key = str(given.get(HOME) or given.get("conversationid") or given["id"])
    return Delivery(event, STRUCTURED, {}, said["user"], given["id"], given["type"], key, "", 0, None)
