"""Making messages: every output of the bus inherits what R2 and the wire contract say, and has a repeatable id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from bus.core.actions import Delivery, End, Failure, Output, TargetKind
from bus.core.address import ReturnAddress, seal
from bus.core.codec import expiry_s, write
from bus.core.facts import Facts
from bus.core.message import (
    CARRIED,
    CAUSATION,
    CONVERSATION,
    CORRELATION,
    EXPIRY,
    FAILED,
    HOME,
    HOPS,
    ID,
    LABELS,
    LEASE,
    REPLYTO,
    SOURCE,
    SPECVERSION,
    TIME,
    TRACEPARENT,
    TYPE,
    Attribute,
    Json,
    Message,
)
from bus.core.times import rfc3339

STRUCTURED = "application/cloudevents+json"
BUS = "bus"
"""Source of the messages that the bus makes itself: requests, events of routes, `bus.failed`."""

TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""A W3C traceparent of version 00."""

_CARRIED = frozenset(CARRIED)
NO_HEADERS: Mapping[str, Attribute] = MappingProxyType({})

REPLAY = "bus-replay"
"""Header of a request that the bus has published before, as far as it knows: it may be in the queue twice."""

NOBODY = ReturnAddress("", "")
"""Sealed into requests that nobody waits for: the reply proves which request it answers, and becomes an event."""


def derived_id(message_id: str, route: str, target: str, index: int) -> str:
    """Id of an output: a hash of (in-id, route, target, index), 32 hex digits, so that a redelivery repeats it."""
    return blake2b(f"{message_id}\0{route}\0{target}\0{index}".encode(), digest_size=16).hexdigest()


def child_trace(message: Message, output_id: str) -> str:
    """W3C traceparent of an output: the message's trace, or one of its conversation's own; the span is the output's."""
    return _child(message.attributes.get(TRACEPARENT), message.conversation, output_id)


def _child(parent: Attribute | None, conversation: str, output_id: str) -> str:
    if parent is not None and isinstance(parent, str) and TRACE.fullmatch(parent):
        return f"{parent[:36]}{output_id[:16]}{parent[52:]}"
    return f"00-{_trace_of(conversation)}-{output_id[:16]}-01"


@lru_cache(maxsize=2048)  # an agent chooses the text, of 4 KiB at most: bounded at 8 MiB
def _trace_of(conversation: str) -> str:
    return blake2b(conversation.encode(), digest_size=16).hexdigest()


class Outbox:
    """Collects the outputs of one decision.

    Args:
        message: the message that causes them.
        facts: time, seal and limits.
        route: name of the deciding route, or a word for the bus's own rules.
        deadline_s: epoch seconds after which what is sent expires, from the route; None leaves the message's own.
    """

    __slots__ = ("deadline_s", "facts", "message", "outputs", "route")

    def __init__(self, message: Message, facts: Facts, route: str, deadline_s: float | None = None) -> None:
        self.message = message
        self.facts = facts
        self.route = route
        self.deadline_s = deadline_s
        self.outputs: list[Output] = []

    def send(
        self,
        kind: TargetKind,
        name: str,
        type_: str,
        data: Json,
        *,
        source: str = BUS,
        correlation: str | None = None,
        back: ReturnAddress | None = None,
        lease_s: int | None = None,
        labels: str | None = None,
        home: str = "",
        extra: Mapping[str, Attribute] | None = None,
    ) -> None:
        """Add one message.

        Args:
            source: who says it; the bus itself unless it passes on an agent's words.
            correlation: id of the request that this answers.
            back: return address to seal into it; NOBODY for requests without an asker; None for no address.
            lease_s: of a request whose agent may accept it and be silent for so long, under a lease.
            labels: text of the attribute, when it is not what the message came with.
            home: for `ingress`: the key of the partition to go to, if not the conversation's.
            extra: attributes besides.
        """
        facts, given = self.facts, self.message.attributes
        cause = given[ID]
        conversation: str = given.get(CONVERSATION) or cause  # type: ignore[assignment] # the codec has checked both
        identity = self._identity(f"{kind}:{name}", conversation)
        event: dict[str, Any] = {
            SPECVERSION: "1.0",
            ID: identity,
            SOURCE: source,
            TYPE: type_,
            TIME: facts.now,
            CONVERSATION: conversation,
            CAUSATION: cause,
            HOPS: hops_after(self.message, facts) if HOPS in given else facts.limits.hops - 1,
            TRACEPARENT: _child(given.get(TRACEPARENT), conversation, identity),
        }
        if correlation is not None:
            event[CORRELATION] = correlation
        carries = self.deadline_s is not None or not _CARRIED.isdisjoint(given)
        expires_ms = self._carry(event) if carries else None
        if labels is not None:
            _relabel(event, labels)
        if back is not None:
            event[REPLYTO] = self._sealed(back, event, expires_ms)
        if lease_s is not None or home or extra:
            _more(event, lease_s, home, extra)
        if data is not None:
            event["data"] = data
        # Half the time of the constructor's, and every message needs one.
        values = kind, name, identity, type_, home or conversation, write(event), STRUCTURED, NO_HEADERS, expires_ms
        output = tuple.__new__(Output, values)
        self.outputs.append(output)
        if lease_s is not None:
            self.outputs.append(watch(output, 0, lease_s, away=HOME in given))

    def _sealed(self, back: ReturnAddress, event: dict[str, Any], expires_ms: int | None) -> str:
        """The return address, bound to the request that this is."""
        if expires_ms is not None and back != NOBODY:
            back = ReturnAddress(back.address, back.asked, int(self.facts.now_s * 1000) + expires_ms)
        given = event[ID], event[TYPE], event[CONVERSATION]
        return seal(self.facts.seal, back, *given, 0, event.get(LABELS, ""))

    def _identity(self, target: str, conversation: str) -> str:
        """Id of the next output.

        Senders choose ids, and an id is theirs alone: the same one of another sender, or in another conversation, is
        another input (bus.core.replies.identity_of), and agents drop what comes under an id that they know.
        """
        given = self.message.attributes
        who = f"{given[SOURCE]!s}\0{conversation}\0{given[ID]!s}"
        text = f"{who}\0{self.route}\0{target}\0{len(self.outputs)}"
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def _carry(self, attributes: dict[str, Attribute]) -> int | None:
        """Hand on what a message inherits; return the milliseconds until it expires, or None."""
        given = self.message.attributes
        for attribute in CARRIED:
            # Word of a failure must arrive even when the deadline of what failed has passed.
            if attribute in given and not (attribute == EXPIRY and attributes[TYPE] == FAILED):
                attributes[attribute] = given[attribute]
        return self._expiry(attributes)

    def _expiry(self, attributes: dict[str, Attribute]) -> int | None:
        """Write the earlier of the message's and the route's deadline; return the milliseconds that are left."""
        own = expiry_s(self.message) if EXPIRY in attributes else None
        if self.deadline_s is not None and (own is None or self.deadline_s < own):
            own = self.deadline_s
            attributes[EXPIRY] = rfc3339(own)
        return None if own is None else max(0, int((own - self.facts.now_s) * 1000))


def _more(event: dict[str, Any], lease_s: int | None, home: str, extra: Mapping[str, Attribute] | None) -> None:
    if lease_s is not None:
        event[LEASE] = lease_s
    if home:
        event[HOME] = home
    event.update(extra or {})


def _relabel(event: dict[str, Any], labels: str) -> None:
    event.pop(LABELS, None)
    if labels:
        event[LABELS] = labels


def watch(request: Output, fence: int, lease_s: int, away: bool = False) -> Output:
    """Make the lease that watches over a request; its name is the task's id. See bus.core.leases.

    Args:
        away: it is decided in another partition than its conversation's, and has to go there.
    """
    headers = {"bus-fence": fence, "bus-lease": lease_s, "bus-kind": request.kind, "bus-name": request.name}
    if away:
        headers["bus-away"] = True
    return request._replace(kind="lease", name=request.id, headers=headers)


def hops_left(message: Message, facts: Facts) -> int:
    """Hops that the message may still take; never more than the bus allows."""
    said = message.attributes.get(HOPS)
    most = facts.limits.hops
    return said if isinstance(said, int) and said < most else most


def hops_after(message: Message, facts: Facts) -> int:
    """Hops that what comes of a message may take; word of one that has none left has none either, and not fewer."""
    return max(0, hops_left(message, facts) - 1)


def set_aside(
    delivery: Delivery, message: Message | None, facts: Facts, end: End, failure: Failure, why: str
) -> Output:
    """The original, byte for byte, for the dead letter or invalid channel, with the reason in its headers."""
    known: Mapping[str, Attribute] = message.attributes if message is not None else {}
    original = str(known.get(ID) or delivery.message_id or blake2b(delivery.body, digest_size=16).hexdigest())
    conversation = message.conversation if message is not None else original
    headers: dict[str, Attribute] = {
        "bus-id": original,
        "bus-end": end,
        "bus-class": failure.failure,
        "bus-code": failure.code,
        "bus-reason": failure.reason[:1000],
        "bus-at": facts.now,
        "bus-source": str(known.get(SOURCE, delivery.user_id or "")),
        "bus-user": delivery.user_id or "",
        "bus-type": str(known.get(TYPE, delivery.type or "")),
        "bus-conversation": conversation,
        "bus-route": why,
        "bus-content-type": delivery.content_type or "",
    }
    if failure.findings:
        rows = [{"pointer": f.pointer, "expected": f.expected, "got": f.got} for f in failure.findings[:50]]
        headers["bus-findings"] = json.dumps(rows, ensure_ascii=False)
    headers.update(carried_headers(delivery))
    kind: TargetKind = "invalid" if end == "invalid" else "dead"
    return Output(
        kind,
        "",
        derived_id(original, why or "bus", kind, 0),
        str(headers["bus-type"]),
        conversation,
        delivery.body,
        delivery.content_type or "application/octet-stream",
        headers,
    )


def carried_headers(delivery: Delivery) -> dict[str, Attribute]:
    """Headers that are part of the message: a binary CloudEvent's attributes live there, and a copy needs them."""
    if delivery.content_type == STRUCTURED:
        return {}
    return {
        str(name): value
        for name, value in delivery.headers.items()
        if str(name).startswith(("ce-", "cloudEvents")) and isinstance(value, bool | int | str | bytes)
    }
