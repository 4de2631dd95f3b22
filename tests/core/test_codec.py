"""The codec: both modes, both ways, against the cloudevents package, and whatever an agent may send instead."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from hypothesis import given
from hypothesis import strategies as st

from bus.core import codec
from bus.core.actions import Delivery
from bus.core.errors import Refused
from bus.core.facts import Limits
from bus.core.message import Attribute, Message
from tests.core.test_strict_json import JSON
from tests.corpora import corpus

LIMITS = Limits()
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "frontdesk",
    "type": "order.placed",
    "data": {"n": 1},
}


def delivery(
    body: bytes,
    content_type: str | None = codec.STRUCTURED,
    headers: dict[str, object] | None = None,
    message_id: str | None = None,
    type_: str | None = None,
) -> Delivery:
    return Delivery(body, content_type, headers or {}, "frontdesk", message_id, type_, "c", "bus.ingress.00")


def decode(**changes: Any) -> Message:
    return codec.decode(delivery(json.dumps({**EVENT, **changes}).encode()), LIMITS)


def attempt(body: Delivery) -> Message | str:
    """Return the message, or the code of its refusal."""
    try:
        return codec.decode(body, LIMITS)
    except Refused as refused:
        return refused.code


def refusal(body: Delivery) -> Refused:
    with pytest.raises(Refused) as refused:
        codec.decode(body, LIMITS)
    assert refused.value.reason
    return refused.value


_NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).map(
    lambda each: f"x{each}"[:20]
)
_PRINTABLE = st.text(alphabet=st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), min_size=1, max_size=40)
_ATTRIBUTES: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda extra, id_, source: {**extra, "specversion": "1.0", "id": id_, "source": source, "type": "order.placed"},
    st.dictionaries(_NAMES, st.booleans() | st.integers(-(2**31), 2**31 - 1) | _PRINTABLE, max_size=8),
    _PRINTABLE,
    _PRINTABLE,
)


@given(_ATTRIBUTES, JSON)
def test_structured_round_trip_keeps_types(attributes: dict[str, Attribute], data: Any) -> None:
    message = codec.decode(delivery(codec.encode(attributes, data)), LIMITS)
    assert message == Message(attributes, data)
    assert {name: type(each) for name, each in message.attributes.items()} == {
        n: type(v) for n, v in attributes.items()
    }


@given(_ATTRIBUTES, JSON.filter(lambda each: each is not None))
def test_binary_round_trip_keeps_types(attributes: dict[str, Attribute], data: Any) -> None:
    body, headers = codec.encode_binary(Message({**attributes, "xbytes": b"\0\1"}, data))
    message = codec.decode(delivery(body, None, dict(headers)), LIMITS)
    assert message == Message({**attributes, "xbytes": b"\0\1"}, data)


@given(_ATTRIBUTES, st.dictionaries(st.text(alphabet="abc"), st.integers(0, 9)))
def test_agrees_with_the_cloudevents_package(attributes: dict[str, Attribute], data: dict[str, int]) -> None:
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    body = codec.encode({**attributes, "datacontenttype": "application/json"}, dict(data))
    theirs: BaseCloudEvent = JSONFormat().read(CloudEvent, body)
    ours = codec.decode(delivery(body), LIMITS)
    assert theirs.get_data() == ours.data
    for name, value in ours.attributes.items():  # it makes every attribute a string
        assert str(theirs.get_attributes()[name]) == str(value)
    again = codec.decode(delivery(JSONFormat().write(theirs)), LIMITS)
    assert again.data == ours.data
    kept = {name: str(value) for name, value in again.attributes.items() if name != "time"}  # it adds one
    assert kept == {name: str(value) for name, value in ours.attributes.items()}


@pytest.mark.parametrize("prefix", ["ce-", "cloudEvents:", "cloudEvents_"])
def test_binary_mode_prefixes(prefix: str) -> None:
    at = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    headers: dict[str, object] = {
        f"{prefix}id": "1", f"{prefix}source": "s", f"{prefix}type": "a.b", f"{prefix}specversion": "1.0",
        f"{prefix}time": at, f"{prefix}hopsleft": "7", "x-death": [1], "CC": ["q"],
    }  # fmt: skip
    message = codec.decode(delivery(b'{"a":1}', "application/json; charset=utf-8", headers), LIMITS)
    assert message.data == {"a": 1}
    assert message.attributes["time"] == "2026-01-31T09:30:00Z"
    assert message.attributes["hopsleft"] == 7
    assert set(message.attributes) == {"id", "source", "type", "specversion", "time", "hopsleft", "datacontenttype"}


def test_null_attribute_is_absent_and_data_may_be_absent() -> None:
    assert "subject" not in decode(subject=None).attributes
    body = json.dumps({name: value for name, value in EVENT.items() if name != "data"}).encode()
    assert codec.decode(delivery(body), LIMITS).data is None


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"id": ""}, "bad-attribute", "`id`"),
        ({"id": None}, "missing-attribute", "`id`"),
        ({"id": 1}, "bad-attribute", "`id`"),
        ({"id": "a" * 129}, "bad-attribute", "128"),
        ({"id": "a\nb"}, "bad-attribute", "control"),
        ({"source": ""}, "bad-attribute", "`source`"),
        ({"type": "-x"}, "bad-attribute", "order.placed"),
        ({"type": "a b"}, "bad-attribute", "`type`"),
        ({"type": "a" * 256}, "bad-attribute", "`type`"),
        ({"specversion": "0.3"}, "bad-attribute", "1.0"),
        ({"Big": "x"}, "bad-attribute", "a-z"),
        ({"a" * 21: "x"}, "bad-attribute", "20"),
        ({"x": 1.5}, "bad-attribute", "string, an integer or a boolean"),
        ({"x": {}}, "bad-attribute", "`data`"),
        ({"x": "é" * 2049}, "bad-attribute", "4096"),
        ({"x": "\x07"}, "bad-attribute", "control"),
        ({"hopsleft": -1}, "bad-attribute", "hopsleft"),
        ({"hopsleft": True}, "bad-attribute", "hopsleft"),
        ({"attempt": "two"}, "bad-attribute", "attempt"),
        ({"time": "yesterday"}, "bad-attribute", "RFC 3339"),
        ({"time": "2026-02-30T00:00:00Z"}, "bad-attribute", "RFC 3339"),
        ({"expirytime": "2026-01-31 09:30"}, "bad-attribute", "expirytime"),
        ({"datacontenttype": "text/plain"}, "unsupported-content-type", "application/json"),
        ({"data_base64": "AA=="}, "unsupported-content-type", "data_base64"),
        ({f"x{each}": 1 for each in range(64)}, "too-many-attributes", "64"),
    ],
)
def test_bad_attributes_are_refused_with_a_sentence(changes: dict[str, Any], code: str, word: str) -> None:
    found = refusal(delivery(json.dumps({**EVENT, **changes}).encode()))
    assert found.code == code
    assert word in found.reason


@pytest.mark.parametrize(
    ("given_", "code"),
    [
        (delivery(b"[]"), "not-an-object"),
        (delivery(b"{"), "not-json"),
        (delivery(b"{}"), "missing-attribute"),
        (delivery(b"{}", None), "unsupported-content-type"),
        (delivery(b"{}", "text/plain"), "unsupported-content-type"),
        (delivery(b"[]", "application/cloudevents-batch+json"), "unsupported-content-type"),
        (
            delivery(json.dumps(EVENT).encode(), "application/cloudevents+json; charset=latin-1"),
            "unsupported-content-type",
        ),
        (delivery(json.dumps(EVENT).encode(), message_id="2"), "property-mismatch"),
        (delivery(json.dumps(EVENT).encode(), type_="order.paid"), "property-mismatch"),
        (delivery(b"x", "text/plain", {"ce-id": "1"}), "unsupported-content-type"),
        (delivery(b"{}", None, {"ce-id": "1", "cloudEvents:id": "2"}), "bad-attribute"),
        (delivery(b"{}", None, {"ce-id": "1", "ce-x": [1]}), "bad-attribute"),
    ],
)
def test_what_is_no_message_is_refused(given_: Delivery, code: str) -> None:
    assert refusal(given_).code == code


def test_matching_properties_are_accepted() -> None:
    body = json.dumps(EVENT).encode()
    assert codec.decode(delivery(body, message_id="1", type_="order.placed"), LIMITS).id == "1"
    assert codec.decode(delivery(body, "application/CloudEvents+json; charset=UTF-8"), LIMITS).id == "1"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01t00:00:01.5z", 1.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:59.123456789Z", 59.123456789),
        ("1969-12-31T23:59:60Z", 0.0),
    ],
)
def test_expiry_is_epoch_seconds(text: str, seconds: float) -> None:
    assert codec.expiry_s(decode(expirytime=text)) == pytest.approx(seconds)
    assert codec.expiry_s(decode()) is None


def test_naughty_strings_are_data_or_refused_as_attributes() -> None:
    texts: list[str] = json.loads((corpus("naughty-strings") / "blns.json").read_text("utf-8"))
    assert len(texts) > 400
    for text in texts:
        assert codec.decode(delivery(codec.encode({**EVENT, "data": ""} | {"data": "x"}, text)), LIMITS).data == text
        for name in ("id", "subject", "type", "time"):
            message = attempt(delivery(json.dumps({**EVENT, name: text}).encode()))
            if isinstance(message, str):
                assert message in ("bad-attribute", "missing-attribute")
                continue
            assert message.attributes[name] == text
            assert codec.decode(delivery(codec.encode(message.attributes, message.data)), LIMITS) == message


@given(
    st.binary(max_size=60) | JSON.map(lambda each: json.dumps(each).encode()), st.sampled_from([codec.STRUCTURED, None])
)
def test_decode_raises_nothing_but_refused(body: bytes, content_type: str | None) -> None:
    headers: dict[str, object] = {"ce-id": "1"} if content_type is None else {}
    assert attempt(delivery(body, content_type, headers))
