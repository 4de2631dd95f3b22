"""The audit record: what the log keeps of one decision, as compact JSON that any tool can read.

`encode` is on the hot path (one call a message), so it builds one plain dict and leaves out what is absent. Text in
it may come from an agent: what JSON can't carry (lone surrogates, binary attributes) is written escaped rather than
refused, for an input that cannot be recorded could not be ended either. The body itself stands beside the record,
byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from bus.core import findings
from bus.core.actions import Decision, Delivery, Failure
from bus.core.errors import StoreFailed
from bus.core.message import (
    ATTEMPT,
    CAUSATION,
    CONVERSATION,
    CORRELATION,
    FENCE,
    HOPS,
    ID,
    REDRIVE,
    SOURCE,
    TYPE,
    Attribute,
)

FORMAT = 1
"""Version of the record; a reader refuses a newer one instead of guessing."""

CONTENT_BYTES = 16  # 128 bits: nobody finds a second body with the same hash

_FROM_MESSAGE = (
    ("correlation", CORRELATION),
    ("causation", CAUSATION),
    ("attempt", ATTEMPT),
    ("fence", FENCE),
    ("redrive", REDRIVE),
    ("hops", HOPS),
)
_COPIED = frozenset(attribute for _, attribute in _FROM_MESSAGE)


@dataclass(frozen=True, slots=True)
class OutputNote:
    """What the record tells of an output; its bytes stand in the entry."""

    kind: str
    name: str
    id: str
    type: str

    @property
    def target(self) -> str:
        """The target as people write it: `capability:sentiment`, `dead`."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Record:
    """One decision as the log tells it.

    Args:
        partition, seq: where it stands in the log.
        received_s, decided_s: epoch seconds when the input arrived and when it was decided.
        end, reason: how the input ended, and one sentence when that was not `routed`.
        config: version of the configuration that decided.
        queue: the queue it was consumed from.
        content, size: blake2b-128 (hex) and length of the body.
        decoded: whether it was a message at all; if not, id, type and conversation are only what the wire claimed.
        id, source, type, conversation: the message's identity, "" where it has none.
        correlation, causation: the request it answers and the message that caused it, or None.
        attempt, fence, redrive, hops: counters of the message, None where it has none.
        user_id: the user that the broker verified, or None.
        route, where, why: which route owned it, its `file:line`, and why this one.
        steps: what each step did.
        failure: the failure, if there was one.
        outputs: what was published because of it, in order.
    """

    partition: int
    seq: int
    received_s: float
    decided_s: float
    end: str
    reason: str
    config: str
    queue: str
    content: str
    size: int
    decoded: bool
    id: str
    source: str
    type: str
    conversation: str
    correlation: str | None = None
    causation: str | None = None
    attempt: int | None = None
    fence: int | None = None
    redrive: int | None = None
    hops: int | None = None
    user_id: str | None = None
    route: str | None = None
    where: str | None = None
    why: str = ""
    steps: tuple[str, ...] = ()
    failure: Failure | None = None
    outputs: tuple[OutputNote, ...] = ()


def content_hash(body: bytes) -> bytes:
    """The hash by which the log knows a body."""
    return blake2b(body, digest_size=CONTENT_BYTES).digest()


def encode(
    decision: Decision,
    delivery: Delivery,
    *,
    seq: int,
    partition: int,
    received_s: float,
    decided_s: float,
    config: str,
    content: bytes | None = None,
) -> bytes:
    """Write the record of one decision.

    Args:
        decision: what was decided.
        delivery: the input it was decided on.
        seq, partition: where it will stand in the log.
        received_s, decided_s: epoch seconds.
        config: version of the configuration.
        content: `content_hash` of the body, when the caller has it already.
    """
    message = decision.message
    given: Mapping[str, Attribute] = _unread(delivery) if message is None else message.attributes
    body = delivery.body
    fields: dict[str, Any] = {
        "v": FORMAT,
        "partition": partition,
        "seq": seq,
        "received_s": received_s,
        "decided_s": decided_s,
        "end": decision.end,
        "config": decision.config or config,
        "queue": delivery.queue,
        "content": (content_hash(body) if content is None else content).hex(),
        "size": len(body),
        "id": given[ID],
        "source": given.get(SOURCE, ""),
        "type": given[TYPE],
        "conversation": given.get(CONVERSATION) or given[ID],
        "user_id": delivery.user_id,
        "route": decision.route,
        "where": decision.where,
        "why": decision.why,
        "steps": decision.steps,
        "outputs": [each[:4] for each in decision.outputs],  # kind, name, id, type
    }
    if message is None:
        fields["decoded"] = False
    if not _COPIED.isdisjoint(given):
        for name, attribute in _FROM_MESSAGE:
            if attribute in given:
                fields[name] = given[attribute]
    if decision.end != "routed" or decision.failure is not None:
        _explain(fields, decision)
    try:
        return orjson.dumps(fields)
    except TypeError:
        return orjson.dumps(_plain(fields))


def _unread(delivery: Delivery) -> Mapping[str, Attribute]:
    """What the wire claims of a message that could not be decoded."""
    return {ID: delivery.message_id or "", TYPE: delivery.type or "", CONVERSATION: delivery.routing_key}


def _explain(fields: dict[str, Any], decision: Decision) -> None:
    if decision.reason:
        fields["reason"] = decision.reason
    failure = decision.failure
    if failure is not None:
        fields["failure"] = {
            "class": failure.failure,
            "code": failure.code,
            "reason": failure.reason,
            "step": failure.step,
            "agent": failure.agent,
            "findings": [findings.row(each) for each in failure.findings],
        }


def _plain(value: Any) -> Any:
    """Turn what JSON has no way to write into escaped text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 64):
        return value
    return value.hex() if isinstance(value, bytes) else _plain(str(value))


def decode(data: bytes) -> Record:
    """Read a record back.

    Raises:
        StoreFailed: it is no record, or one of a newer format.
    """
    try:
        fields = orjson.loads(data)
        version = fields["v"]
        if version != FORMAT:
            raise StoreFailed(
                f"the log has records of format {version} and this agentbus reads {FORMAT}; "
                "use the version that wrote them"
            )
        return _read(fields)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreFailed(f"an audit record cannot be read ({error}); restore the store from a copy") from error


def _read(fields: dict[str, Any]) -> Record:
    get = fields.get
    return Record(
        partition=fields["partition"],
        seq=fields["seq"],
        received_s=fields["received_s"],
        decided_s=fields["decided_s"],
        end=fields["end"],
        reason=get("reason", ""),
        config=fields["config"],
        queue=fields["queue"],
        content=fields["content"],
        size=fields["size"],
        decoded=get("decoded", True),
        id=str(get("id", "")),
        source=str(get("source", "")),
        type=str(get("type", "")),
        conversation=str(get("conversation", "")),
        correlation=_text(get("correlation")),
        causation=_text(get("causation")),
        attempt=_count(get("attempt")),
        fence=_count(get("fence")),
        redrive=_count(get("redrive")),
        hops=_count(get("hops")),
        user_id=get("user_id"),
        route=get("route"),
        where=get("where"),
        why=get("why", ""),
        steps=tuple(get("steps", ())),
        failure=_failure(get("failure")),
        outputs=tuple([OutputNote(*each) for each in get("outputs", ())]),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _count(value: Any) -> int | None:
    """An agent may send any text as a counter; only whole numbers are counters."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _failure(fields: dict[str, Any] | None) -> Failure | None:
    if fields is None:
        return None
    found = tuple([findings.read(each) for each in fields["findings"]])
    return Failure(fields["class"], fields["code"], fields["reason"], fields["step"], fields["agent"], found)
