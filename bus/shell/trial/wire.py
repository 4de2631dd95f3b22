"""What goes between the worker and the child that tries a suspect.

There, a pickle: the child trusts the worker. Back, JSON that is checked field by field: the child has run on what an
agent sent, and a damaged one may say anything. A frame is its length in four bytes, then so many bytes.
"""

from __future__ import annotations

import json
import pickle
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

from bus.core import findings
from bus.core.actions import Change, Decision, Delivery, End, Failure, Output, TargetKind
from bus.core.errors import FAILURE_CLASSES, BusError, FailureClass
from bus.core.facts import Facts, nothing_remembered
from bus.core.message import ID, SOURCE, TYPE, Attribute, Message

Word: TypeAlias = Literal["understand", "decide", "bounced", "due"]
Subject: TypeAlias = Delivery | str
"""What a word is about: a delivery, or for `due` the key of a run."""
T = TypeVar("T")

LENGTH = struct.Struct("!I")
ANSWER_BYTES = 64 * 1024 * 1024  # longest answer that is read; far beyond any decision on a bounded message
_KEY_BYTES = 255  # of an AMQP short string, which ids, types and conversations become
_KINDS, _ENDS = frozenset(get_args(TargetKind)), frozenset(get_args(End))


class Garbled(BusError):
    """Nobody's fault but the message's: the child has said what makes no sense."""


CONFIGURATION = "configuration:"
"""What a `Needs` begins with that is about a configuration, with its version behind."""


class Needs(BusError):
    """Nobody's fault: the decision reads what the bus remembers under a key, and the child has not been told that."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Question(NamedTuple):
    """Args:
    facts: with what is remembered; in the child they raise `Needs` for what they do not know.
    versions: of the configuration to decide by, and of its elders.
    bundles: by version, those that the child has asked for.
    """

    word: Word
    subject: Subject
    facts: Facts
    versions: tuple[str, ...]
    bundles: Mapping[str, bytes]


def ask(question: Question, known: Mapping[str, bytes | None]) -> bytes:
    """Write a question to the child.

    Args:
        known: what is remembered, as far as the child has asked for it.
    """
    plain = question._replace(facts=replace(question.facts, recall=nothing_remembered))
    return pickle.dumps((tuple(plain), dict(known)), pickle.HIGHEST_PROTOCOL)


def asked(frame: bytes) -> Question:
    """Read a question, in the child."""
    given, known = pickle.loads(frame)
    question = Question(*given)

    def recall(key: str) -> bytes | None:
        if key not in known:
            raise Needs(key)
        found: bytes | None = known[key]
        return found

    return question._replace(facts=replace(question.facts, recall=recall))


def answer(result: Message | Decision | Needs) -> bytes:
    """Write what the child has found, or what it needs for that."""
    if isinstance(result, Needs):
        return json.dumps({"needs": result.key}).encode("ascii")
    made = {"decision": _decision(result)} if isinstance(result, Decision) else {"message": _message(result)}
    return json.dumps(made).encode("ascii")


def answered(frame: bytes) -> Message | Decision | Needs:
    """Read what the child has found, or what it needs.

    Raises:
        Garbled: it is not what `answer` writes, or nothing that the bus could record and publish.
    """
    try:
        made = json.loads(frame)
        if "needs" in made:
            return Needs(_short(made["needs"]))
        if "decision" in made:
            return _read_decision(made["decision"])
        return _read_message(made["message"])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise Garbled(f"the answer makes no sense: {type(error).__name__}: {error}") from error


# --- Writing --------------------------------------------------------------------------------------------------------


def _attributes(given: Any) -> dict[str, Any]:
    return {
        name: {"b": b64encode(value).decode()} if isinstance(value, bytes) else value for name, value in given.items()
    }


def _message(message: Message) -> dict[str, Any]:
    return {"attributes": _attributes(message.attributes), "data": message.data}


def _failure(failure: Failure) -> dict[str, Any]:
    found = [findings.row(each) for each in failure.findings]
    return {
        "failure": failure.failure, "code": failure.code, "reason": failure.reason, "step": failure.step,
        "agent": failure.agent, "findings": found,
    }  # fmt: skip


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        **decision._asdict(),
        "message": None if decision.message is None else _message(decision.message),
        "failure": None if decision.failure is None else _failure(decision.failure),
        "outputs": [_output(each) for each in decision.outputs],
        "changes": [
            [each.key, None if each.body is None else b64encode(each.body).decode(), each.due_s, each.version]
            for each in decision.changes
        ],
    }


def _output(output: Output) -> dict[str, Any]:
    return {**output._asdict(), "body": b64encode(output.body).decode(), "headers": _attributes(output.headers)}


# --- Reading --------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} for text")
    return value


def _short(value: object) -> str:
    if len(_text(value).encode("utf-8", "surrogatepass")) > _KEY_BYTES:
        raise ValueError("a name is too long")
    return _text(value)


def _named(value: object) -> str:
    if not _short(value):
        raise ValueError("a name is empty")
    return _short(value)


def _maybe(read: Callable[[object], T], value: object) -> T | None:
    return None if value is None else read(value)


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} for an integer")
    return value


def _one_of(words: frozenset[str] | tuple[str, ...], value: object) -> str:
    if value not in words:
        raise ValueError("a word that the bus does not know")
    return _text(value)


def _read_attributes(given: Any) -> dict[str, Attribute]:
    read: dict[str, Attribute] = {}
    for name, value in given.items():
        if isinstance(value, dict):
            read[name] = b64decode(value["b"], validate=True)
        elif isinstance(value, bool | int | str):
            read[name] = value
        else:
            raise TypeError(f"{type(value).__name__} for an attribute")
    return read


def _read_message(given: Any) -> Message:
    attributes = _read_attributes(given["attributes"])
    for name in (ID, SOURCE, TYPE):
        if not _text(attributes[name]):
            raise ValueError(f"`{name}` is empty")
    return Message(attributes, given["data"])


def _read_failure(given: Any) -> Failure:
    return Failure(
        cast("FailureClass", _one_of(FAILURE_CLASSES, given["failure"])),
        _text(given["code"]),
        _text(given["reason"]),
        _maybe(_text, given["step"]),
        _maybe(_text, given["agent"]),
        tuple(findings.read(each) for each in given["findings"]),
    )


def _read_decision(given: Any) -> Decision:
    return Decision(
        cast("End", _one_of(_ENDS, given["end"])),
        _maybe(_read_message, given["message"]),
        _maybe(_text, given["route"]),
        _maybe(_text, given["where"]),
        _text(given["why"]),
        _text(given["reason"]),
        _maybe(_read_failure, given["failure"]),
        tuple([_text(each) for each in given["steps"]]),
        tuple([_read_output(each) for each in given["outputs"]]),
        tuple([_read_change(*each) for each in given["changes"]]),
        _text(given["config"]),
    )


def _read_change(key: object, body: object, due_s: object, version: object = None) -> Change:
    if due_s is not None and not isinstance(due_s, float | int):
        raise TypeError(f"{type(due_s).__name__} for a time")
    read = None if body is None else b64decode(_text(body), validate=True)
    return Change(_named(key), read, None if due_s is None else float(due_s), _maybe(_named, version))


def _read_output(given: Any) -> Output:
    return Output(
        cast("TargetKind", _one_of(_KINDS, given["kind"])),
        _short(given["name"]),
        _named(given["id"]),
        _text(given["type"]),
        _text(given["conversation"]),
        b64decode(given["body"], validate=True),
        _short(given["content_type"]),
        _read_attributes(given["headers"]),
        _maybe(_integer, given["expires_ms"]),
    )
