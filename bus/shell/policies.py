"""Policies: what may be tuned about the queues of a namespace without touching a queue.

A queue's type, its single active consumer and its dead-letter exchange are arguments of its declaration, because they
are its identity: without the right dead-letter exchange a delivery limit drops messages out of the log's sight, and an
exchange's name is concrete, so that one policy could never serve every namespace of a node. Limits, overflow and times
to live are policies by name pattern: they change at run time without a redeclaration that would fail with 406.

At-least-once dead-lettering needs `overflow: reject-publish`; with it a bounced message survives a broker crash
between the two queues.
"""

from __future__ import annotations

from bus.core.message import Json
from bus.core.naming import WAKE_STEPS_S

ANY_NAMESPACE = "[A-Za-z0-9_-]+"
"""Pattern of every legal namespace: policies of a private node serve all of them."""

INGRESS_DELIVERY_LIMIT = 50  # a backstop: poison is decided by the worker from its second redelivery on
INBOX_DELIVERY_LIMIT = 20  # an agent that crashes on a message meets it this often, then the bus hears of it

_LOSSLESS: dict[str, Json] = {"overflow": "reject-publish", "dead-letter-strategy": "at-least-once"}


def policies(namespace_pattern: str = ANY_NAMESPACE, vhost: str = "/") -> list[dict[str, Json]]:
    """Return the policies as they stand in RabbitMQ definitions.

    Args:
        namespace_pattern: regular expression of the namespaces that they are for; `re.escape` a single one.
        vhost: virtual host they belong to.
    """
    rows: list[tuple[str, str, dict[str, Json]]] = [
        ("ingress", r"ingress\.", {"delivery-limit": INGRESS_DELIVERY_LIMIT, **_LOSSLESS}),
        ("inbox", r"(agent|capability)\.", {"delivery-limit": INBOX_DELIVERY_LIMIT, **_LOSSLESS}),
    ]
    for step, seconds in enumerate(WAKE_STEPS_S, start=1):
        rows.append((f"retry-{step}", rf"retry\.{step}$", {"message-ttl": seconds * 1000, **_LOSSLESS}))
    return [
        {
            "vhost": vhost,
            "name": f"agentbus-{name}",
            "pattern": rf"^{namespace_pattern}\.{pattern}",
            "apply-to": "queues",
            "priority": 0,
            "definition": definition,
        }
        for name, pattern, definition in rows
    ]
