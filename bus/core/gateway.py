"""The Messaging Gateway without its sockets: a request becomes a message, and what comes back becomes an answer.

A message of the gateway starts a conversation under its own id, so that all that becomes of it is found by that id
in the log: the log is where answers are kept, and no instance of the gateway has anything to lose.

A client that may ask again gives an Idempotency-Key. The message then follows from entry, key and data alone, byte for
byte: it has no time and no deadline, and its id is a hash. So whichever instance sends it a second time, the bus
knows it as a duplicate; and under the same key other data is refused as `id-reused`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import orjson

from bus.core.errors import Finding
from bus.core.identity import GATEWAY
from bus.core.message import (
    CORRELATION,
    EXPIRY,
    FAILED,
    ID,
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
from bus.core.outputs import TRACE
from bus.core.route import Entrance
from bus.core.times import rfc3339

ADDRESS = f"agent:{GATEWAY}"
"""Return address of all requests: the durable inbox that the instances share."""

REUSED = "id-reused"
"""Code of the failure that an id, and so an Idempotency-Key, was used before with other content."""


class Result(NamedTuple):
    """What became of a request.

    Args:
        how: `answered`, `failed` or `pending`.
        data: the answer, or the failure as `bus.failed` has it.
    """

    how: Literal["answered", "failed", "pending"]
    data: Json = None


PENDING = Result("pending")


_SLACK_S = 0.1  # the message's deadline was set a little before the client began to wait


def keyed_id(entrance: Entrance, key: str) -> str:
    """Id of the message of a request with an Idempotency-Key: 32 hex digits."""
    return blake2b(f"gateway\0{entrance.name}\0{key}".encode(), digest_size=16).hexdigest()


def message_of(entrance: Entrance, data: Json, identity: str, now_s: float | None, trace: str | None = None) -> Message:
    """Make the message of a request.

    Args:
        identity: id of the message, and of its conversation.
        now_s: epoch seconds; None for a request with a key, which is to be the same whenever it is made.
        trace: W3C traceparent of the client, for a request without a key.
    """
    given: dict[str, Attribute] = {SPECVERSION: "1.0", ID: identity, SOURCE: GATEWAY, TYPE: entrance.type}
    if now_s is not None:
        given[TIME] = rfc3339(now_s)
        if trace is not None and TRACE.fullmatch(trace):
            given[TRACEPARENT] = trace
        if entrance.wait_s is not None and entrance.on_timeout == "fail":
            given[EXPIRY] = rfc3339(now_s + entrance.wait_s)
    if entrance.wait_s is not None:
        given[REPLYTO] = ADDRESS
    return Message(given, data)


def result_of(answer: Message) -> Result:
    """What an answer to the gateway says."""
    return Result("failed" if answer.type == FAILED else "answered", answer.data)


def answers(result: Message, identity: str) -> bool:
    """Whether a message to the gateway is the end of this request.

    A refusal of another message that came under the same id is none: the first one is still on its way.
    """
    return result.text(CORRELATION) == identity and not is_reuse(result)


def is_reuse(result: Message) -> bool:
    """Whether it says that an id was used before with other content."""
    return result.type == FAILED and isinstance(result.data, dict) and result.data.get("code") == REUSED


def ran_out(entrance: Entrance, result: Result, waited_s: float) -> bool:
    """Whether a failure is the request's own deadline, which agents and routes meet at the moment that the client does.

    Args:
        waited_s: how long the client has been held.
    """
    if entrance.wait_s is None or entrance.on_timeout != "fail" or result.how != "failed":
        return False
    said = result.data.get("class") if isinstance(result.data, dict) else None
    return said in ("timeout", "expired") and waited_s >= entrance.wait_s - _SLACK_S


def found_in(bodies: Iterable[bytes], identity: str) -> Result:
    """Look for the end of a request among what the bus has sent to the gateway.

    An answer comes before a failure: who redrives a dead letter mends it.

    Args:
        bodies: structured CloudEvents that the bus wrote, oldest first.
    """
    found = PENDING
    for body in bodies:
        event: dict[str, Any] = orjson.loads(body)
        said = Message(event, event.pop("data", None))
        if answers(said, identity):
            result = result_of(said)
            if result.how == "answered":
                return result
            found = result if found is PENDING else found
    return found


def failure(code: str, reason: str, findings: tuple[Finding, ...] = (), class_: str = "refusal") -> dict[str, Json]:
    """A failure of the gateway's own, in the form of `bus.failed`."""
    rows: list[Json] = [{"pointer": each.pointer, "expected": each.expected, "got": each.got} for each in findings]
    return {"class": class_, "code": code, "reason": reason, "findings": rows}


def shown(identity: str, result: Result) -> Mapping[str, Json]:
    """A request as its status resource shows it."""
    known: dict[str, Json] = {"id": identity, "status": result.how}
    if result.how == "answered":
        known["data"] = result.data
    elif result.how == "failed":
        known["error"] = result.data
    return known
