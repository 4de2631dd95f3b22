"""What the editor schema knows of `*.test.yaml`: tests of routes."""

from __future__ import annotations

from bus.config.route_tests import DO_KINDS, EXPECT_KEYS, EXPECT_KINDS, SEND_KEYS, STUB_KEYS, TEST_KEYS
from bus.config.shape_schema import Schema, closed, known, one_of, ref
from bus.core.errors import FAILURE_CLASSES
from bus.rehearsal.script import CHANNELS


def tests_document() -> Schema:
    """The definitions of a tests document."""
    stub: Schema = {
        "reply": ref("value", "What it answers."),
        "fail": {"enum": list(FAILURE_CLASSES), "description": "The class it fails with."},
        "never": {"const": True, "description": "It does not answer."},
        "reason": {"type": "string", "description": "Why it fails, in words."},
        "after": ref("duration", "How long it takes."),
    }
    stubbed: Schema = closed(known(stub, STUB_KEYS)) | one_of(("reply", "fail", "never"))
    return {
        "testsDocument": closed({"tests": {"type": "array", "items": ref("test")}}, ("tests",)),
        "test": closed(known(_test(), TEST_KEYS), ("test", "do", "expect")),
        "stub": stubbed,
        "doing": _doing(),
        "expected": _expected(),
    }


def _test() -> Schema:
    return {
        "test": {"type": "string", "description": "What must hold, in words."},
        "config": {"type": "object", "description": "Configuration values of this test."},
        "controls": {
            "type": "object",
            "additionalProperties": {"type": "boolean"},
            "description": "Switches of detours.",
        },
        "schedules": {
            "type": "array",
            "items": ref("name"),
            "description": "Schedules of the integration that send while time passes by `advance`.",
        },
        "start_time": {"type": "string", "description": "The time at its start, RFC 3339."},
        "agents": {
            "type": "object",
            "additionalProperties": {"anyOf": [ref("stub"), {"type": "array", "items": ref("stub")}]},
            "description": "What agents and capabilities answer; a list call by call, and its last repeats.",
        },
        "do": {"type": "array", "items": ref("doing"), "description": "What happens, in this order."},
        "expect": {"type": "array", "items": ref("expected"), "description": "What must have come of it."},
        "order": {"enum": ["any", "exact"], "description": "Whether the order of `expect` matters."},
    }


def _doing() -> Schema:
    send: Schema = {
        "type": ref("typeName"),
        "data": ref("value"),
        "file": {"type": "string", "description": "A JSON file with the data, relative to the folder."},
        "source": ref("name", "The agent that sends it."),
        "conversation": {"type": "string"},
        "labels": {"type": "array", "items": {"type": "string"}, "description": "Labels that it comes with."},
        "wait": {"type": "boolean", "description": "Whether the sender waits for an answer."},
    }
    step = closed({"step": {"type": "string"}}, ("step",))
    whole = closed(known(send, SEND_KEYS), ("type",))
    kinds: Schema = {"send": whole, "advance": ref("duration", "Time goes on."), "approve": step, "reject": step}
    return closed(known(kinds, DO_KINDS)) | one_of(DO_KINDS)


def _expected() -> Schema:
    reply: Schema = {"enum": ["ok", "error"], "description": "The asker was answered."}
    channel: Schema = {"enum": list(CHANNELS), "description": "The message ended there."}
    sent: Schema = {"agent": ref("name"), "capability": ref("name"), "event": ref("typeName"), "reply": reply}
    never: Schema = {**sent, "channel": channel}
    kinds: Schema = {
        "sent": {**closed(sent), **one_of(sent), "description": "A message went there."},
        "reply": reply,
        "channel": channel,
        "never": {**closed(never), **one_of(never), "description": "Nothing went there."},
        "calls": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    }
    more: Schema = {
        "data": {"description": "What it held: maps in part, lists whole; `$match`, `$near`, `$any` and so on."},
        "error": {"type": "object", "description": "The failure, in part."},
        "at": ref("duration", "When, since the start."),
        "reason": ref("value", "Why it ended so."),
    }
    keys = (*EXPECT_KINDS, *EXPECT_KEYS)
    return closed(known({**kinds, **more}, keys)) | one_of(EXPECT_KINDS)
