"""The hot path's codec, with pika's own as the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec
from pika import data as pika_data

from bus.core.actions import Delivery, Output
from bus.core.codec import decode
from bus.core.errors import Refused
from bus.core.facts import Limits
from bus.core.message import Attribute
from bus.ports import Outcome, Outgoing
from bus.shell.amqp.confirms import Confirms
from bus.shell.amqp.encode import Encoder, ack
from bus.shell.amqp.table import LazyHeaders, Malformed, decode_table, encode_table
from bus.shell.amqp.wire import Confirm, Return, Scan, Scanner, WireFault
from tests.core.world import structured

HOT, OTHER = 1, 2
TAG, QUEUE = "agentbus-1", "ns.agent.a"

# A shared machine may be slow without a reason of ours.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
exhaustive = settings(unhurried, max_examples=25)  # each example is split at each of its bytes

names = st.text("ab.*ü\U0001f40d\0", max_size=6)
short_texts = st.one_of(st.none(), names)
headers = st.dictionaries(
    names,
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), names, st.none(), st.lists(names)),
    max_size=4,
)


@st.composite
def properties(draw: st.DrawFn) -> BasicProperties:
    return BasicProperties(
        content_type=draw(short_texts),
        content_encoding=draw(short_texts),
        headers=draw(st.one_of(st.none(), headers)),
        delivery_mode=draw(st.one_of(st.none(), st.sampled_from([1, 2]))),
        priority=draw(st.one_of(st.none(), st.integers(0, 255))),
        correlation_id=draw(short_texts),
        reply_to=draw(short_texts),
        expiration=draw(st.one_of(st.none(), st.just("1000"))),
        message_id=draw(short_texts),
        timestamp=draw(st.one_of(st.none(), st.integers(0, 2**40))),
        type=draw(short_texts),
        user_id=draw(short_texts),
        app_id=draw(short_texts),
        cluster_id=draw(short_texts),
    )


@dataclass(frozen=True)
class Piece:
    """Some frames, and the event or foreign bytes that they must become."""

    raw: bytes
    delivery: tuple[int, Delivery] | None = None
    signal: Confirm | Return | None = None
    foreign: bytes = b""


def content(props: BasicProperties, body: bytes, frame_max: int) -> bytes:
    room = frame_max - 8
    parts = [frame.Body(HOT, body[at : at + room]).marshal() for at in range(0, len(body), room)]
    return bytes(frame.Header(HOT, len(body), props).marshal()) + b"".join(parts)


@st.composite
def deliveries(draw: st.DrawFn) -> Piece:
    props, body = draw(properties()), draw(st.binary(max_size=100))
    tag, redelivered, key = draw(st.integers(1, 2**64 - 1)), draw(st.booleans()), draw(names)
    if redelivered:
        props.headers = {**(props.headers or {}), "x-delivery-count": draw(st.integers(1, 60))}
    method = spec.Basic.Deliver(TAG, tag, redelivered, draw(names), key)
    raw = frame.Method(HOT, method).marshal() + content(props, body, draw(st.integers(20, 300)))
    delivery = Delivery(
        body,
        props.content_type,
        props.headers or {},
        props.user_id,
        props.message_id,
        props.type,
        key,
        QUEUE,
        props.headers["x-delivery-count"] if redelivered else 0,
        props.reply_to,
    )
    return Piece(raw, delivery=(tag, delivery))


@st.composite
def signals(draw: st.DrawFn) -> Piece:
    tag, multiple = draw(st.integers(0, 2**64 - 1)), draw(st.booleans())
    if draw(st.booleans()):
        return Piece(frame.Method(HOT, spec.Basic.Ack(tag, multiple)).marshal(), signal=Confirm(tag, multiple, True))
    nack = spec.Basic.Nack(tag, multiple, draw(st.booleans()))
    return Piece(frame.Method(HOT, nack).marshal(), signal=Confirm(tag, multiple, False))


@st.composite
def returns(draw: st.DrawFn) -> Piece:
    props = draw(properties())
    reason, exchange, key = draw(names), draw(names), draw(names)
    method = spec.Basic.Return(312, reason, exchange, key)
    raw = frame.Method(HOT, method).marshal() + content(props, draw(st.binary(max_size=50)), 40)
    return Piece(raw, signal=Return(312, reason, exchange, key, props.message_id))


@st.composite
def foreigners(draw: st.DrawFn) -> Piece:
    raw = draw(
        st.sampled_from(
            [
                frame.Heartbeat().marshal(),
                frame.Method(0, spec.Connection.Blocked("memory")).marshal(),
                frame.Method(HOT, spec.Channel.Close(404, "NOT_FOUND", 60, 40)).marshal(),
                frame.Method(HOT, spec.Basic.ConsumeOk(TAG)).marshal(),
                frame.Method(OTHER, spec.Basic.Deliver("other", 1, False, "", "k")).marshal(),
                frame.Header(OTHER, 2, BasicProperties()).marshal(),
                frame.Body(OTHER, b"hi").marshal(),
            ]
        )
    )
    return Piece(raw, foreign=raw)


pieces = st.lists(st.one_of(deliveries(), signals(), returns(), foreigners()), min_size=1, max_size=5)


def scanner() -> Scanner:
    made = Scanner(HOT)
    made.name_consumer(TAG, QUEUE)
    return made


def joined(scans: list[Scan]) -> tuple[list[Any], list[Any], bytes]:
    found = [each for scan in scans for each in scan.deliveries]
    heard = [each for scan in scans for each in scan.signals]
    return found, heard, b"".join(scan.foreign for scan in scans)


def expected(stream: list[Piece]) -> tuple[list[Any], list[Any], bytes]:
    return (
        [each.delivery for each in stream if each.delivery],
        [each.signal for each in stream if each.signal],
        b"".join(each.foreign for each in stream),
    )


@unhurried
@given(pieces, st.lists(st.integers(1, 400), min_size=1))
def test_what_pika_encodes_is_understood_wherever_it_is_split(stream: list[Piece], sizes: list[int]) -> None:
    raw = b"".join(each.raw for each in stream)
    one, scans, at, turn = scanner(), [], 0, 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        scans.append(one.feed(raw[at : at + size]))
        at, turn = at + size, turn + 1
    assert joined(scans) == expected(stream)


@exhaustive
@given(pieces)
def test_every_boundary_is_a_good_place_to_split(stream: list[Piece]) -> None:
    raw = b"".join(each.raw for each in stream)
    for at in range(len(raw) + 1):
        one = scanner()
        assert joined([one.feed(raw[:at]), one.feed(raw[at:])]) == expected(stream)


@unhurried
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_garbage_is_refused_or_waited_for_and_never_crashes(chunks: list[bytes]) -> None:
    one = scanner()
    try:
        for chunk in chunks:
            one.feed(chunk)
    except WireFault:
        pass


@unhurried
@given(pieces, st.data())
def test_a_damaged_stream_is_refused_or_misread_but_never_crashes(stream: list[Piece], data: st.DataObject) -> None:
    raw = bytearray(b"".join(each.raw for each in stream))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        scan = scanner().feed(bytes(raw))
    except WireFault:
        return
    for _, delivery in scan.deliveries:
        dict(delivery.headers)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x05" + bytes(12), "no AMQP frame"),
        (b"\x01\x00\x01\xff\xff\xff\xff" + bytes(8), "no AMQP frame"),
        (b"\x01\x00\x01\x00\x00\x00\x04" + bytes(6), "does not end"),
        (frame.Body(HOT, b"x").marshal(), "without the method"),
        (frame.Method(HOT, spec.Basic.Deliver("stranger", 1, False, "", "k")).marshal(), "consumer"),
        (
            frame.Method(HOT, spec.Basic.Deliver(TAG, 1, False, "", "k")).marshal()
            + frame.Header(HOT, 1, BasicProperties()).marshal()
            + frame.Body(HOT, b"xy").marshal(),
            "more body",
        ),
        (
            frame.Method(HOT, spec.Basic.Deliver(TAG, 1, False, "", "k")).marshal()
            + frame.Method(HOT, spec.Basic.Ack(1)).marshal(),
            "before the content",
        ),
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x50\xce", "ends before|cut off"),
    ],
)
def test_a_broken_protocol_is_named(raw: bytes, why: str) -> None:
    with pytest.raises(WireFault, match=why):
        scanner().feed(raw)


def test_a_protocol_mismatch_is_left_to_pika() -> None:
    assert scanner().feed(b"AMQP\x00\x00\x09\x01").foreign == b"AMQP\x00\x00\x09\x01"


def told(key: bytes, flags: int = 0) -> bytes:
    """A delivery with this routing key, and more flags than there are properties."""
    method = b"\x00\x3c\x00\x3c" + bytes([len(TAG)]) + TAG.encode() + (1).to_bytes(8) + b"\0\0" + bytes([len(key)])
    header = (60).to_bytes(2) + bytes(2) + (2).to_bytes(8) + (1 << 12 | flags).to_bytes(2) + b"\x02"
    frames = ((1, method + key), (2, header), (3, b"{}"))
    return b"".join(bytes([kind]) + HOT.to_bytes(2) + len(each).to_bytes(4) + each + b"\xce" for kind, each in frames)


@pytest.mark.parametrize("cut", [0, 20])
def test_flags_without_a_meaning_mean_nothing(cut: int) -> None:
    made, raw = scanner(), told(b"c", 3)
    found, _, _ = joined([made.feed(raw[:cut]), made.feed(raw[cut:])])
    assert [(each.routing_key, each.body) for _, each in found] == [("c", b"{}")]


@pytest.mark.parametrize("cut", [0, 20])
def test_a_key_that_is_no_utf8_is_the_key_of_no_conversation(cut: int) -> None:
    made, raw = scanner(), told(b"\xff")
    ((_, delivery),), _, _ = joined([made.feed(raw[:cut]), made.feed(raw[cut:])])
    with pytest.raises(Refused, match="control characters"):
        decode(structured("asked", {}, conversationid=delivery.routing_key), Limits())


def test_a_forged_delivery_count_is_not_believed() -> None:
    props = BasicProperties(headers={"x-delivery-count": 49})
    raw = frame.Method(HOT, spec.Basic.Deliver(TAG, 1, False, "", "k")).marshal() + content(props, b"", 131072)
    assert scanner().feed(raw).deliveries[0][1].redelivered == 0


attributes = st.dictionaries(
    names, st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), names, st.binary(max_size=20)), max_size=4
)


@unhurried
@given(
    st.binary(max_size=500), st.integers(30, 300), attributes, st.one_of(st.none(), st.integers(0, 2**40)), names, names
)
def test_pika_understands_what_we_publish(
    body: bytes, frame_max: int, head: dict[str, Attribute], expires_ms: int | None, kind: str, key: str
) -> None:
    output = Output("agent", "a", "id-1", kind, "c", body, "application/json", head, expires_ms)
    encoder = Encoder(HOT, "bus", max(frame_max, 200 + len(encode_table(head))))
    raw: list[bytes] = []
    encoder.publish(raw, "x", key, output)
    encoder.publish(raw, "x", key, output)
    stream, frames = b"".join(raw), []
    while stream:
        used, decoded = frame.decode_frame(stream)
        assert used, "pika waits for more"
        frames.append(decoded)
        stream = stream[used:]
    first = frames[: len(frames) // 2]
    method, header = first[0].method, first[1]
    assert (method.exchange, method.routing_key, method.mandatory, method.immediate) == ("x", key, True, False)
    assert header.body_size == len(body)
    assert b"".join(each.fragment for each in first[2:]) == body
    props = header.properties
    assert (props.content_type, props.delivery_mode, props.message_id) == ("application/json", 2, "id-1")
    assert (props.user_id, props.type) == ("bus", kind or None)
    assert props.expiration == (None if expires_ms is None else str(expires_ms))
    assert (props.headers or {}) == head


def test_a_message_that_does_not_fit_amqp_leaves_nothing_behind() -> None:
    encoder = Encoder(HOT, "bus", 4096)
    raw: list[bytes] = []
    cases: list[tuple[str, dict[str, Attribute]]] = [("k" * 256, {}), ("k", {"h": "x" * 5000}), ("k", {"n" * 256: "x"})]
    for key, head in cases:
        with pytest.raises(ValueError, match=r"255|frame"):
            encoder.publish(raw, "", key, Output("agent", "a", "id", "t", "c", b"body", "a/b", head))
    assert raw == []


@unhurried
@given(st.integers(1, 2**64 - 1))
def test_pika_understands_our_acks(tag: int) -> None:
    used, decoded = frame.decode_frame(ack(HOT, tag))
    assert used == len(ack(HOT, tag))
    assert (decoded.method.delivery_tag, decoded.method.multiple) == (tag, True)


values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), names, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)


@unhurried
@given(st.dictionaries(names, values, max_size=4))
def test_tables_are_read_as_pika_reads_them(table: dict[str, Any]) -> None:
    made: list[bytes] = []
    pika_data.encode_table(made, table)
    assert decode_table(b"".join(made)[4:]) == table


def test_a_timestamp_is_seconds() -> None:
    made: list[bytes] = []
    pika_data.encode_table(made, {"at": datetime.fromtimestamp(1_700_000_000, UTC).replace(tzinfo=None)})
    assert decode_table(b"".join(made)[4:]) == {"at": 1_700_000_000}


def test_a_table_that_nests_without_end_counts_as_no_headers() -> None:
    raw = b""
    for _ in range(5000):
        raw = b"\x01nF" + len(raw).to_bytes(4, "big") + raw
    with pytest.raises(Malformed, match="deep"):
        decode_table(raw)
    assert dict(LazyHeaders(raw)) == {}


def published(*handles_and_keys: tuple[int, str]) -> Confirms:
    confirms = Confirms()
    for handle, key in handles_and_keys:
        confirms.published(Outgoing(handle, "", key, Output("agent", "a", "same", "t", "c", b"", "a/b", {})))
    return confirms


@unhurried
@given(st.lists(st.tuples(st.sampled_from(["ok", "full", "missing"]), st.booleans()), min_size=1), st.randoms())
def test_every_handle_has_exactly_its_own_outcome(plan: list[tuple[str, bool]], random: Any) -> None:
    """The broker as it may behave: returns in order before their acks, the rest in any order, alone or together."""
    confirms = published(*((100 + n, key) for n, (key, _) in enumerate(plan)))
    outcomes: list[Outcome] = []
    for n, (key, _) in enumerate(plan, start=1):
        if key == "missing":
            outcomes += confirms.settle([Return(312, "NO_ROUTE", "", key, "same"), Confirm(n, False, True)])
    rest = [n for n, (key, _) in enumerate(plan, start=1) if key != "missing"]
    random.shuffle(rest)
    for n in rest:
        outcomes += confirms.settle([Confirm(n, False, plan[n - 1][0] == "ok")])
        outcomes += confirms.settle([Confirm(n, False, True)])  # said twice: heard once
    how = {"ok": "confirmed", "full": "nacked", "missing": "returned"}
    assert {each.handle: each.how for each in outcomes} == {100 + n: how[key] for n, (key, _) in enumerate(plan)}
    assert len(outcomes) == len(plan)
    assert len(confirms) == 0


def test_a_confirm_for_many_settles_each_once() -> None:
    confirms = published(*((n, "k") for n in range(1, 11)))
    assert [each.handle for each in confirms.settle([Confirm(4, False, True)])] == [4]
    assert [each.handle for each in confirms.settle([Confirm(6, True, True)])] == [1, 2, 3, 5, 6]
    assert [each.handle for each in confirms.settle([Confirm(0, True, True)])] == [7, 8, 9, 10]


def test_a_confirm_of_what_was_never_published_is_a_fault() -> None:
    with pytest.raises(WireFault, match="publish 2, of 1"):
        published((1, "k")).settle([Confirm(2, False, True)])
