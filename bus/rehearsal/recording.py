"""A recorded conversation as a script: what came in, when, and what each agent answered.

What the bus said itself is not taken over: it is decided anew. Answers belong to requests, so they are given call by
call in the order in which the requests were sent; a request without one was never answered. Return addresses that the
bus had sealed mean nothing here, and are made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from bus.audit.record import Record
from bus.core.actions import Output
from bus.core.errors import FailureClass
from bus.core.identity import CLIENT
from bus.core.message import (
    ATTEMPT,
    CAUSATION,
    CONVERSATION,
    CORRELATION,
    FAILED,
    FENCE,
    FLOW_TOLD,
    HOME,
    ID,
    REDRIVE,
    REPLYTO,
    REQUESTED,
    SOURCE,
    SPECVERSION,
    TIME,
    TYPE,
    Attribute,
    Json,
    Message,
)
from bus.core.outputs import BUS
from bus.core.pipeline import REKEYED
from bus.core.running import REHOMED
from bus.rehearsal.script import SeenKind, Stub
from bus.rehearsal.stage import decoded

_APART_S = 1e-5  # many times the resolution of a double that holds the time of day
_ANSWERS = (".replied", ".failed")
_NOT_ANEW = frozenset((HOME, ATTEMPT, FENCE, REDRIVE, CORRELATION, CAUSATION, TIME))
"""Attributes that only the bus may set, or that name messages which are not sent in the rehearsal."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision of the log with its bodies."""

    record: Record
    body: bytes
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that came in, `at_s` seconds after the first one."""

    message: Message
    at_s: float


@dataclass(frozen=True, slots=True)
class Said:
    """One message that the bus sent, as `stage.Seen` has it."""

    kind: SeenKind
    name: str
    data: Json
    error: Json = None


@dataclass(frozen=True, slots=True)
class Recording:
    """Args:
    conversation: its id.
    start_s: epoch seconds at which the first message came.
    arrived: what came in from outside, in order.
    answers: by capability, call by call.
    entries: the decisions that count, in order; not repeats, claims and the like.
    """

    conversation: str
    start_s: float
    arrived: tuple[Arrived, ...]
    answers: Mapping[str, tuple[Stub, ...]]
    entries: tuple[Entry, ...]


def recording(entries: Sequence[Entry]) -> Recording:
    """Read a conversation.

    Args:
        entries: all of it, in the order of commits; at least one.
    """
    entries = _one_by_one(entries)
    counted = tuple(each for each in entries if counts(each.record) and not _by_the_clock(each))
    first = entries[0].record
    start_s = min(each.record.received_s for each in entries)
    requests = {output.id: output for each in counted for output in each.outputs if is_request(output)}
    answered = {decoded(output).text(CORRELATION) for each in counted for output in filter(_is_word, each.outputs)}
    # What a schedule sends comes round to be decided: that is its arrival, and what is compared.
    planned = {one.id for each in entries if _by_the_clock(each) for one in each.outputs if one.kind == "ingress"}
    came_round = {output.id for each in counted for output in each.outputs if output.kind == "ingress"}
    arrived = tuple(
        Arrived(message, each.record.received_s - start_s)
        for each in counted
        if (each.record.source != BUS or each.record.id in planned)
        and not (each.record.id in came_round and each.record.why != REHOMED)
        and not _answers(each.record, requests)
        and (message := _anew(each, waits=each.record.id in answered)) is not None
    )
    return Recording(first.conversation, start_s, arrived, _stubs(entries, requests), counted)


def _one_by_one(entries: Sequence[Entry]) -> list[Entry]:
    """The same, each later than the one before: what arrived in one batch was decided in the order of the log."""
    found: list[Entry] = []
    last_s = 0.0
    for each in entries:
        last_s = max(each.record.received_s, last_s + _APART_S)
        found.append(replace(each, record=replace(each.record, received_s=last_s)))
    return found


def counts(record: Record) -> bool:
    """Whether it is a decision about what a message means, and no repeat, hop, or word about a task or its lease."""
    again = record.source == BUS and record.type.endswith(REQUESTED)
    return (
        record.decoded
        and not again
        and record.end not in ("duplicate", "superseded", "woken")
        and record.why != REKEYED
        and not record.type.startswith("bus.task.")
    )


def is_request(output: Output) -> bool:
    return output.kind in ("capability", "agent") and output.type.endswith(REQUESTED)


def _by_the_clock(entry: Entry) -> bool:
    return any(output.kind == "schedule" for output in entry.outputs)


def _is_word(output: Output) -> bool:
    """Whether it goes to somebody who asked, or is told."""
    return output.kind in ("client", "agent") and not is_request(output)


def _answers(record: Record, requests: Mapping[str, Output]) -> bool:
    return record.type.endswith(_ANSWERS) and record.correlation in requests


def _stubs(entries: Sequence[Entry], requests: Mapping[str, Output]) -> Mapping[str, tuple[Stub, ...]]:
    answers = {each.record.correlation: each for each in reversed(entries) if _answers(each.record, requests)}
    found: dict[str, list[Stub]] = {}
    for each in entries:
        for output in filter(is_request, each.outputs) if counts(each.record) else ():
            capability = output.type.removesuffix(REQUESTED)
            answer = answers.get(output.id)
            found.setdefault(capability, []).append(
                Stub("never") if answer is None else _stub(answer, each.record.received_s)
            )
    return {name: tuple(stubs) for name, stubs in found.items()}


def _stub(answer: Entry, asked_s: float) -> Stub:
    """The answer to what was asked because of a message that arrived at `asked_s`: a stage decides in no time."""
    record, data = answer.record, _data(answer)
    after_s = max(0.0, record.received_s - asked_s)
    if record.type.endswith(".replied"):
        return Stub("reply", data, after_s=after_s, agent=record.source)
    said = data.get("class") if isinstance(data, dict) else None
    failure: FailureClass = said if isinstance(said, str) else "tool_error"  # type: ignore[assignment] # as it was said
    return Stub("fail", data, failure, after_s, record.source)


def _event(entry: Entry) -> dict[str, Any] | None:
    """The body as a structured CloudEvent; None when it is a payload, whose attributes stood in the headers."""
    try:
        event = orjson.loads(entry.body)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and SPECVERSION in event and ID in event else None


def _data(entry: Entry) -> Json:
    event = _event(entry)
    if event is not None:
        data: Json = event.get("data")
        return data
    try:
        found: Json = orjson.loads(entry.body)
    except orjson.JSONDecodeError:
        return None
    return found


def _anew(entry: Entry, *, waits: bool) -> Message | None:
    """The message as its sender would send it in a rehearsal.

    Args:
        waits: it was answered, so somebody has waited; of a binary event nothing else tells.
    """
    record, event = entry.record, _event(entry)
    attributes: dict[str, Attribute]
    if event is None:
        attributes = {SPECVERSION: "1.0", ID: record.id, SOURCE: record.source, TYPE: record.type}
    else:
        attributes = {
            name: value
            for name, value in event.items()
            if name not in _NOT_ANEW and name != "data" and isinstance(value, (bool, int, str))
        }
    attributes[CONVERSATION] = record.conversation
    address = attributes.pop(REPLYTO, None)
    if (isinstance(address, str) and "!" not in address) or (event is None and waits):
        attributes[REPLYTO] = "client:rehearsal" if record.source == CLIENT else f"agent:{record.source}"
    return Message(attributes, _data(entry))


# --- what was said ------------------------------------------------------------------------------------------------


def said(found: Recording) -> Iterator[Said]:
    """What the bus sent, as a stage would have seen it, in order."""
    asked = {each.message.id for each in found.arrived}
    round_: set[str] = set()
    for entry in found.entries:
        record = entry.record
        error: Json = None
        if record.failure is not None:
            error = {"class": record.failure.failure, "code": record.failure.code}
        if record.end in ("filtered", "consumed"):
            yield Said("channel", record.end, None)
        for output in entry.outputs:
            if output.kind == "dead" or output.kind == "invalid":
                yield Said("channel", output.kind, None, error)
            elif output.kind == "ingress":
                if output.type == FLOW_TOLD or record.why == REHOMED:
                    continue
                round_.add(output.id)
                yield Said("event", output.type, decoded(output).data)
            elif output.kind == "event" and not (record.id in round_ and record.type == output.type):
                yield Said("event", output.type, decoded(output).data)
            elif is_request(output):
                yield Said("agent" if output.kind == "agent" else "capability", output.name, decoded(output).data)
            elif output.kind in ("client", "agent") and decoded(output).text(CORRELATION) in asked:
                yield _reply(output)


def _reply(output: Output) -> Said:
    data = decoded(output).data
    if output.type != FAILED or not isinstance(data, dict):
        return Said("reply", "ok", data)
    return Said("reply", "error", {name: data[name] for name in ("class", "code") if name in data})
