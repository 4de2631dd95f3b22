"""A recording as a test in YAML, for people to shorten."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from bus.core.message import CONVERSATION, ID, LABELS, REPLYTO, Json, Message
from bus.core.times import rfc3339
from bus.rehearsal.recording import Recording, Said, said
from bus.rehearsal.script import Stub
from bus.rehearsal.verdict import seconds

_LEAST_S = 0.5  # a shorter answer is given at once: it decides nothing, and only clutters the test
_WORD = re.compile(r"\$[a-z]+")
_PLAIN = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*")
_YAML_WORDS = frozenset(("true", "false", "null"))


def as_yaml(found: Recording) -> str:
    """Write the document: what came in, agents stubbed from the log, and all that the bus sent as expectations."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Recording) -> Iterator[str]:
    yield "# Word for word what was said. Keep what matters, and take out what is nobody's business."
    yield "tests:"
    yield f"- test: {_flow(f'conversation {found.conversation}')}"
    yield f"  start_time: {_flow(rfc3339(found.start_s))}"
    if found.answers:
        yield "  agents:"
    for capability, stubs in found.answers.items():
        yield f"    {capability}: {_stubs(stubs)}"
    yield "  do:"
    at_s = 0.0
    for each in found.arrived:
        if each.at_s - at_s >= 0.001:
            yield f"  - advance: {seconds(each.at_s - at_s)}"
            at_s = each.at_s
        yield f"  - send: {_send(each.message, found)}"
    yield "  expect:"
    for one in said(found):
        yield f"  - {_expected(one)}"


def _stubs(stubs: tuple[Stub, ...]) -> str:
    texts = [_stub(each) for each in stubs]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _stub(stub: Stub) -> str:
    after = f", after: {seconds(round(stub.after_s, 1))}" if stub.after_s >= _LEAST_S else ""
    if stub.how == "never":
        return "{never: true}"
    if stub.how == "reply":
        return f"{{reply: {_flow(stub.data)}{after}}}"
    reason = stub.data.get("reason") if isinstance(stub.data, dict) else None
    return f"{{fail: {stub.failure}{f', reason: {_flow(reason)}' if isinstance(reason, str) else ''}{after}}}"


def _send(message: Message, found: Recording) -> str:
    attributes = message.attributes
    parts = [f"type: {_name(message.type)}"]
    if message.source != "cli":
        parts.append(f"source: {_name(message.source)}")
    first = found.arrived[0].message
    if message.conversation != attributes[ID] or (message is not first and attributes.get(CONVERSATION)):
        parts.append(f"conversation: {_flow(message.conversation)}")
    if attributes.get(LABELS):
        parts.append(f"labels: {_flow([*str(attributes[LABELS]).split(',')])}")
    if REPLYTO not in attributes:
        parts.append("wait: false")
    if message.data is not None:
        parts.append(f"data: {_flow(message.data)}")
    return f"{{{', '.join(parts)}}}"


def _expected(one: Said) -> str:
    name = _name(one.name)
    kind = f"{one.kind}: {name}" if one.kind in ("reply", "channel") else f"sent: {{{one.kind}: {name}}}"
    data = "" if one.data is None else f", data: {_flow(_literal(one.data))}"
    error = "" if one.error is None else f", error: {_flow(one.error)}"
    return f"{{{kind}{data}{error}}}"


def _literal(value: Json) -> Json:
    """Data as a matcher that means just that, even where a text reads like a matcher."""
    if isinstance(value, dict):
        if any(_WORD.fullmatch(name) for name in value):
            return {"$exactly": value}
        return {name: _literal(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return {"$exactly": value} if isinstance(value, str) and _WORD.fullmatch(value) else value


def _flow(value: Json) -> str:
    """A value as YAML on one line: JSON, with what YAML does not print escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)


def _name(text: str) -> str:
    """A name as it stands, or quoted: agents choose the types of what they send."""
    return text if _PLAIN.fullmatch(text) and text not in _YAML_WORDS else _flow(text)
