"""What cannot be decoded: the Invalid Message Channel, and whom to tell, as far as anybody can know."""

from __future__ import annotations

from hashlib import blake2b

import orjson

from bus.core.actions import Decision, Delivery, Failure
from bus.core.errors import Refused
from bus.core.facts import Facts
from bus.core.outputs import set_aside
from bus.core.table import RouteTable
from bus.core.telling import tell_about_bytes

_READABLE_BODIES = 4  # times the limit: a body beyond it is not parsed only to find its sender


def undecodable(delivery: Delivery, table: RouteTable, facts: Facts, refused: Refused) -> Decision:
    """Decide what `decode` has refused."""
    failure = Failure("contract", refused.code, refused.reason, findings=refused.findings)
    cause = delivery.message_id or blake2b(delivery.body, digest_size=16).hexdigest()
    aside = set_aside(delivery, None, facts, "invalid", failure, "")
    address = vouched_address(delivery, table, facts) or _envelope_teller(delivery, table, facts)
    told = () if address is None else (tell_about_bytes(facts, failure, cause, address, delivery.type or ""),)
    return Decision("invalid", None, None, None, refused.code, refused.reason, failure, (), (aside, *told))


def vouched_address(delivery: Delivery, table: RouteTable, facts: Facts) -> str | None:
    """Whom to tell about bytes: what AMQP says, as far as the broker vouches for it."""
    agents = table.catalog.agents
    if facts.identity == "broker":
        return f"agent:{delivery.user_id}" if delivery.user_id in agents else None
    kind, _, name = (delivery.reply_to or "").partition(":")
    known = (kind == "client" and name != "") or (kind == "agent" and name in agents)
    return delivery.reply_to if known else None


def _envelope_teller(delivery: Delivery, table: RouteTable, facts: Facts) -> str | None:
    """Whom the envelope names as its sender, when it is JSON but no message: a bad attribute, too deep, too big."""
    if facts.identity == "broker" or len(delivery.body) > _READABLE_BODIES * facts.limits.body_bytes:
        return None
    try:
        envelope = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return None
    source = envelope.get("source") if isinstance(envelope, dict) else None
    return f"agent:{source}" if isinstance(source, str) and source in table.catalog.agents else None
