"""The audit record tells everything that an auditor and `bus trace` need, whatever an agent sent."""

from __future__ import annotations

from hashlib import blake2b

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.audit.record import OutputNote, Record, decode, encode
from bus.core.actions import Decision, Delivery, Failure, Output
from bus.core.errors import Finding, StoreFailed
from bus.core.message import Attribute, Message

BODY = b'{"text": "hello"}'
FAILURE = Failure("contract", "contract", "breaks inquiry.v1", "check", "greeter", (Finding("/text", "string", "7"),))


def delivery(message_id: str | None = None, kind: str | None = None, key: str = "c1") -> Delivery:
    return Delivery(BODY, None, {}, "agents", message_id, kind, key, "ns.ingress.00")


def write(decision: Decision, given_: Delivery) -> Record:
    text = encode(decision, given_, seq=7, partition=2, received_s=10.25, decided_s=10.5, config="abc123")
    return decode(text)


def test_a_record_is_read_back_in_full() -> None:
    attributes: dict[str, Attribute] = {
        "id": "m1", "source": "frontdesk", "type": "inquiry", "specversion": "1.0", "conversationid": "c1",
        "correlationid": "r1", "causationid": "r0", "attempt": 2, "fence": 3, "redrive": 1, "hopsleft": 31,
    }  # fmt: skip
    output = Output("agent", "greeter", "o1", "greet.requested", "c1", b"{}", "application/json", {})
    message = Message(attributes, None)
    why = ("desk/greet", "greet.yaml:3", "exact type")
    decision = Decision("routed", message, *why, failure=FAILURE, steps=("set#1",), outputs=(output,))
    assert write(decision, delivery()) == Record(
        partition=2, seq=7, received_s=10.25, decided_s=10.5, end="routed", reason="", config="abc123",
        queue="ns.ingress.00", content=blake2b(BODY, digest_size=16).hexdigest(), size=len(BODY), decoded=True,
        id="m1", source="frontdesk", type="inquiry", conversation="c1", correlation="r1", causation="r0", attempt=2,
        fence=3, redrive=1, hops=31, user_id="agents", route="desk/greet", where="greet.yaml:3", why="exact type",
        steps=("set#1",), failure=FAILURE, outputs=(OutputNote("agent", "greeter", "o1", "greet.requested"),),
    )  # fmt: skip


def test_what_could_not_be_decoded_is_recorded_under_what_the_wire_claimed() -> None:
    record = write(Decision("invalid", None, reason="not JSON"), delivery("m9", "inquiry"))
    assert (record.decoded, record.id, record.type, record.conversation) == (False, "m9", "inquiry", "c1")
    assert (record.end, record.reason) == ("invalid", "not JSON")


@settings(deadline=None)
@given(st.text(alphabet=st.characters()), st.binary(), st.integers())
def test_no_text_of_an_agent_keeps_its_input_from_being_recorded(text: str, binary: bytes, number: int) -> None:
    attributes: dict[str, Attribute] = {
        "id": text or "x", "source": "a", "type": text, "specversion": "1.0", "correlationid": binary,
        "attempt": number,
    }  # fmt: skip
    record = write(Decision("filtered", Message(attributes, None), reason=text), delivery(text, text, text))
    record.id.encode()
    if text.isascii():
        assert record.reason == text
    if number.bit_length() < 63:
        assert record.attempt == number


def test_a_record_of_a_newer_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(StoreFailed, match=r"format 99.*use the version that wrote them"):
        decode(orjson.dumps({"v": 99}))
    with pytest.raises(StoreFailed, match="cannot be read"):
        decode(b"{}")
