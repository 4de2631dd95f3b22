"""Leases: what watches over a request whose work may take long.

Such a request leaves with the attribute `lease` and beside it, in the same commit, a row that watches over it. An agent
accepts by a claim (`bus.core.claims`), acks its delivery once the bus has confirmed that, and renews by further claims.
When it has been silent for as long as the lease says, the request is sent again with the next fence. Running out is
recorded under the identity of the answer to the old fence: so whatever comes first, answer or running out, is the only
one, and an agent that comes back later learns that the task is not its own any more.

A partition that is retired, because the namespace grows, sends its leases after their conversations (`moved`): whatever
is said of a task from then on comes to another partition, and the lease must be there. So does a partition that decides
a run for another one (`serial_by`): claims and answers come to the partition of the conversation.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import orjson

from bus.core.actions import Decision, Delivery, End, Failure, Output, TargetKind
from bus.core.address import seal, unseal
from bus.core.codec import encode, expiry_s
from bus.core.facts import Facts
from bus.core.message import (
    EXPIRY,
    FENCE,
    HOPS,
    LABELS,
    LEASE,
    REPLYTO,
    TASK_LAPSE,
    TASK_MOVE,
    Attribute,
    Json,
    Message,
)
from bus.core.outputs import BUS, NOBODY, STRUCTURED, Outbox, set_aside, watch
from bus.core.telling import tell

MOST_TRIES = 5
"""Agents that may accept a task and fall silent before it is given up: then the task is likely what ends them."""


class Lease(NamedTuple):
    """What a lease says of itself: the task's id, which try of it, and how long its holder may be silent."""

    task: str
    fence: int
    seconds: int


def lease_of(output: Output) -> Lease:
    """Read a lease that `bus.core.outputs.watch` made."""
    return Lease(output.name, int(output.headers["bus-fence"]), int(output.headers["bus-lease"]))


def is_away(output: Output) -> bool:
    """Whether a lease was made in another partition than that of its conversation."""
    return "bus-away" in output.headers


def at_home(output: Output) -> Output:
    """The lease, where it belongs."""
    return output._replace(headers={name: value for name, value in output.headers.items() if name != "bus-away"})


def deadline_s(output: Output) -> float | None:
    """When the request behind a lease expires, in epoch seconds, or None when it never does."""
    return expiry_s(_request(output.body))


def lapsed(output: Output, facts: Facts, reason: str) -> tuple[Delivery, Decision]:
    """Decide what follows when a lease has run out: the request again under the next fence, or the end of it.

    Args:
        output: the lease.
        reason: why it ran out.
    """
    lease, request = lease_of(output), _request(output.body)
    delivery = Delivery(
        output.body, STRUCTURED, {}, facts.bus_user, output.id, output.type, output.conversation, "", 0, None
    )
    expiry = expiry_s(request)
    if expiry is not None and expiry <= facts.now_s:
        return delivery, _given_up(
            delivery, request, lease, facts, Failure("expired", "expired", "its deadline passed")
        )
    if lease.fence + 1 >= MOST_TRIES:
        text = f"{MOST_TRIES} agents accepted it and fell silent; the last: {reason}"
        return delivery, _given_up(delivery, request, lease, facts, Failure("unavailable", "lease", text))
    again = _again(output, request, lease, facts, expiry)
    why = f"lease of try {lease.fence} ran out: {reason}"
    outputs = (again, watch(again, lease.fence + 1, lease.seconds))
    return delivery, Decision("routed", request, why=why, outputs=outputs)


def came_back(message: Message, facts: Facts, reason: str, queue: str) -> Decision | None:
    """Decide a leased request that the broker gave up on: its lease decides what follows, where it is kept.

    Returns:
        None when it is not a leased request of this bus.
    """
    given = message.attributes
    if LEASE not in given or message.source != BUS or _asker(message, given.get(FENCE, 0), facts) is None:
        return None
    lasting = Message({name: value for name, value in given.items() if name != EXPIRY}, message.data)
    fence = given.get(FENCE, 0)
    outbox = Outbox(lasting, facts, f"bounced {int(fence)}" if fence else "bounced")  # each try has a word of its own
    data = {"fence": fence, "reason": reason}
    outbox.send("ingress", TASK_LAPSE, TASK_LAPSE, data, correlation=message.id)  # type: ignore[arg-type]
    return Decision("routed", message, why=f"bounced from {queue}: {reason}", outputs=tuple(outbox.outputs))


def moved(output: Output, place: str, state: dict[str, Json], facts: Facts) -> tuple[Delivery, Decision]:
    """Decide that a lease goes to the partition of its conversation.

    Args:
        output: the lease.
        place: where it stands in the log, as text: one task may move again, with every growth.
        state: what the other partition must know of it.
    """
    request = _request(output.body)
    given = {name: value for name, value in request.attributes.items() if name not in (EXPIRY, HOPS)}
    outbox = Outbox(Message(given, request.data), facts, f"moved {place}")
    outbox.send("ingress", TASK_MOVE, TASK_MOVE, state, correlation=output.name)
    delivery = Delivery(
        output.body, STRUCTURED, {}, facts.bus_user, output.id, output.type, output.conversation, "", 0, None
    )
    why = "the lease goes to the partition of its conversation"
    return delivery, Decision("routed", request, why=why, outputs=tuple(outbox.outputs))


def _request(body: bytes) -> Message:
    event: dict[str, Any] = orjson.loads(body)  # the bus wrote it itself
    data = event.pop("data", None)
    return Message(event, data)


def _asker(request: Message, fence: Attribute, facts: Facts) -> Any:
    text = request.attributes.get(REPLYTO)
    return unseal(facts.seal, text, request.id, request.type, request.conversation, fence)


def _again(output: Output, request: Message, lease: Lease, facts: Facts, expiry: float | None) -> Output:
    fence = lease.fence + 1
    back = _asker(request, lease.fence, facts) or NOBODY
    labels = request.text(LABELS) or ""
    address = seal(facts.seal, back, request.id, request.type, request.conversation, fence, labels)
    body = encode({**request.attributes, FENCE: fence, REPLYTO: address}, request.data)
    left_ms = None if expiry is None else max(0, int((expiry - facts.now_s) * 1000))
    kind = cast("TargetKind", output.headers["bus-kind"])
    return output._replace(kind=kind, name=str(output.headers["bus-name"]), body=body, headers={}, expires_ms=left_ms)


def _given_up(delivery: Delivery, request: Message, lease: Lease, facts: Facts, failure: Failure) -> Decision:
    end: End = "expired" if failure.code == "expired" else "dead_letter"
    aside = set_aside(delivery, request, facts, end, failure, "lease")
    back = _asker(request, lease.fence, facts)
    told = () if back is None or back == NOBODY else tuple(tell(request, facts, failure, back))
    return Decision(end, request, None, None, "lease", failure.reason, failure, (), (aside, *told))
