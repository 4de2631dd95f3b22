"""The express lane decides what Python decides, to the byte, or leaves it to Python."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import bootstrap
from bus.audit.record import content_hash, decode, encode
from bus.core.actions import Decision, Delivery
from bus.core.facts import Facts
from bus.core.message import Message
from bus.core.pipeline import decide, understand
from bus.core.table import RouteTable
from bus.core.times import rfc3339
from bus.ports import Commit, Received, Tag
from bus.shell.bench.load import order
from bus.shell.bench.scene import write_scene
from bus.shell.engine import ENGINE
from bus.shell.express import LEARNED_AT, Express, NoLane, Quick, express_lane
from bus.shell.inbox import inbox_key
from bus.shell.judge import Judge
from bus.shell.sqlite_store import SqliteStore

if ENGINE is None:
    pytest.skip("the engine is not installed: `deploy/express` builds it", allow_module_level=True)

STRUCTURED = "application/cloudevents+json"

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_ATTRIBUTE = st.sampled_from(
    [
        "id",
        "source",
        "type",
        "specversion",
        "conversationid",
        "time",
        "hopsleft",
        "traceparent",
        "tracestate",
        "replyto",
        "labels",
        "expirytime",
        "subject",
        "correlationid",
        "causationid",
        "datacontenttype",
        "redrive",
        "x",
        "Bad",
    ]
)
_VALUE = (
    st.sampled_from(
        [
            "shop",
            "bench.order",
            "1.0",
            "2026-01-31T09:30:00Z",
            "2026-02-29T24:00:00Z",
            "2026-05-07T09:30:00.123Z",
            "application/json",
            "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
            "00-" + "0" * 32 + "-" + "b" * 16 + "-01",
            "agent:shop",
            "\x7f",
            "é",
            "",
            0,
            1,
            7,
            99,
            -1,
            True,
            None,
        ]
    )
    | st.text(max_size=70)
    | st.integers(-5, 2**65)
)
_PLACE = st.sampled_from(["order_id", "customer", "amount", "currency", "lines", "note", "more"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[RouteTable, Facts, Express]:
    catalog = bootstrap.load([write_scene(tmp_path_factory.mktemp("express"))]).catalog
    assert catalog is not None
    table, now = RouteTable(catalog), time.time()
    facts = Facts(now, rfc3339(now), b"k" * 32)
    lane = express_lane(table, facts)
    assert isinstance(lane, Express)
    message = understand(_delivery(order("r", 1)), table, facts)
    assert not isinstance(message, Decision)
    learn(lane, message)
    return table, facts, lane


def learn(lane: Express, message: Message) -> None:
    for _ in range(LEARNED_AT):
        lane.learn(message)


def _delivery(body: bytes, key: str = "conv-0001") -> Delivery:
    return Delivery(body, STRUCTURED, {}, "bus", None, None, key, "ns.ingress.00")


def _same(world: tuple[RouteTable, Facts, Express], delivery: Delivery) -> bool:
    """Whether the lane decided it; what it decides must be what Python does."""
    table, facts, lane = world
    made = lane.judge([Received(Tag(1, 1), delivery)], {delivery.queue}, facts.now)[0]
    if made is None:
        return False
    message = understand(delivery, table, facts)
    assert not isinstance(message, Decision)
    decision, content = decide(delivery, table, facts, message), content_hash(delivery.body)
    assert isinstance(made, Quick)
    assert made.decision.message is not None
    assert made.decision.message.attributes == message.attributes
    assert made.decision._replace(message=None) == decision._replace(message=None)
    assert made.key == inbox_key(message, False, content)
    line = lane.record([(made, delivery, 1, 2, 1.5)], 2.5)[0].record
    there: dict[str, Any] = {"seq": 2, "partition": 1, "received_s": 1.5, "decided_s": 2.5}
    expected = encode(decision, delivery, **there, config=table.catalog.version, content=content)
    assert decode(line) == decode(expected)
    assert orjson.loads(line) == orjson.loads(expected)
    return True


def test_takes_the_usual(world: tuple[RouteTable, Facts, Express]) -> None:
    assert _same(world, _delivery(order("r", 1)))
    large = orjson.loads(order("r", 1))
    large["data"]["note"] = "n" * 5000
    assert _same(world, _delivery(orjson.dumps(large)))
    filtered = orjson.loads(order("r", 1))
    filtered["data"]["currency"] = "USD"
    assert _same(world, _delivery(orjson.dumps(filtered)))


@settings(max_examples=3000, deadline=None)
@given(
    attributes=st.dictionaries(_ATTRIBUTE, _VALUE, max_size=3),
    data=st.dictionaries(_PLACE, _JSON, max_size=3),
    dropped=st.sets(_PLACE | _ATTRIBUTE, max_size=1),
    pretty=st.booleans(),
)
def test_agrees_with_python_or_leaves_it(
    world: tuple[RouteTable, Facts, Express],
    attributes: dict[str, Any],
    data: dict[str, Any],
    dropped: set[str],
    pretty: bool,
) -> None:
    event = orjson.loads(order("r", 1))
    event["data"].update(data)
    event.update(attributes)
    for name in dropped:
        event.pop(name, None)
        event["data"].pop(name, None)
    # What orjson refuses to write, such as NaN and huge integers, is part of it.
    body = json.dumps(event, indent=2 if pretty else None).encode()
    _same(world, _delivery(body, str(event.get("conversationid") or event.get("id"))))


def test_what_comes_rarely_is_not_learned(world: tuple[RouteTable, Facts, Express]) -> None:
    table, facts, _ = world
    lane = express_lane(table, facts)
    assert isinstance(lane, Express)
    delivery = _delivery(order("r", 1))
    message = understand(delivery, table, facts)
    assert isinstance(message, Message)
    for _ in range(LEARNED_AT):
        assert lane.judge([Received(Tag(1, 1), delivery)], {delivery.queue}, facts.now) == [None]
        lane.learn(message)
    assert lane.judge([Received(Tag(1, 1), delivery)], {delivery.queue}, facts.now) != [None]


@pytest.mark.parametrize(
    "change",
    [
        {"body": b"{}"},
        {"body": order("r", 1).replace(b'"amount":', b'"amount":1,"amount":')},
        {"body": order("r", 1) + b" x"},
        {"body": b"\xef\xbb\xbf" + order("r", 1)},
        {"content_type": "application/json"},
        {"routing_key": "conv-0002"},
        {"message_id": "other"},
        {"type": "other"},
        {"body": order("r", 1).replace(b'"amount":11.5', b'"amount":-0')},
        {"body": order("r", 1).replace(b'"amount":11.5', b'"amount":123456789012345678901')},
        {"body": order("r", 1).replace(b'"vip"', b'"deep":' + b"[" * 70 + b"]" * 70 + b',"vip"')},
    ],
)
def test_leaves_what_is_doubtful(world: tuple[RouteTable, Facts, Express], change: dict[str, Any]) -> None:
    assert not _same(world, _delivery(order("r", 1))._replace(**change))


FORMATS = [
    "date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri",
    "iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference", "uri-template",
    "uuid", "unknown",
]  # fmt: skip
_PROBES = [
    "", "not a host!", "no at sign", "a@b.example", "\u00fc@\u00fc.example", "example.com", "xn--nxasmq6b", "xn--a",
    "-a.b", "\u3007\u30fb.example", "\u0644\u200d", "a" * 64, "2026-02-29", "2024-02-29", "2026-01-31T24:00:00Z",
    "23:59:60Z", "P1Y2M", "P1W2D", "::1", "1.2.3.4", "01.2.3.4", "1::2::3", "http://a b", "http://[::1", "../x",
    "#\u00fc", "/a~2", "0/a", "(", "{a", "2026-01-31T23:00:00Z", "http://a/b", "12345678-1234-1234-1234-123456789abc",
]  # fmt: skip


def test_contracts_with_formats_are_checked_alike(tmp_path: Path) -> None:
    root = write_scene(tmp_path)
    file = root / "schemas" / "order.v1.json"
    schema = orjson.loads(file.read_bytes())
    schema["properties"]["shown"] = {"type": "object", "properties": {each: {"format": each} for each in FORMATS}}
    file.write_bytes(orjson.dumps(schema))
    catalog = bootstrap.load([root]).catalog
    assert catalog is not None
    table = RouteTable(catalog)
    facts = Facts(0.0, rfc3339(0.0), b"k" * 32)
    lane = express_lane(table, facts)
    assert isinstance(lane, Express)
    first = understand(_delivery(order("r", 1)), table, facts)
    assert not isinstance(first, Decision)
    learn(lane, first)
    taken = set()
    for format_ in FORMATS:
        for probe in _PROBES:
            event = orjson.loads(order("r", 1))
            event["data"]["shown"] = {format_: probe}
            if _same((table, facts, lane), _delivery(orjson.dumps(event))):
                taken.add(format_)
    assert {*FORMATS} - taken == set()


def _sorted(record: bytes) -> bytes:
    return orjson.dumps(orjson.loads(record), option=orjson.OPT_SORT_KEYS)


def test_a_judge_with_the_lane_records_what_one_without_it_does(
    world: tuple[RouteTable, Facts, Express], tmp_path: Path
) -> None:
    """Mixed batches, repeats within one and across two, one that is broken: same numbers, keys, records, outputs."""
    table, facts, _ = world
    broken = _delivery(b"{}", "conv-0001")
    first = [_delivery(order("m", 1)), broken, _delivery(order("m", 1)), _delivery(order("m", 1001))]
    batches = [first, [_delivery(order("m", 1001)), _delivery(order("m", 2001))], [_delivery(order("m", 3001))] * 2]
    told = []
    for number, lane in enumerate((True, False)):
        store = SqliteStore(tmp_path / f"{number}.db")
        judge = Judge(store, table, facts, "ns", 1000, lambda: 5.0)
        if not lane:
            judge._lane = NoLane()
        judge.claimed(store.claim(1), [])
        entries = []
        for batch in batches:
            received = [Received(Tag(1, tag), each, 4.0 * (tag % 2)) for tag, each in enumerate(batch, 1)]
            judged = judge.judge(received)
            store.commit(Commit(judged.entries, {}))
            judge.committed(judged.keys)
            entries += [each._replace(record=_sorted(each.record))
                        for each in judged.entries[0]]  # fmt: skip
        told.append(entries)
        store.close()
    assert told[0] == told[1]
    assert [each.inbox is not None for each in told[0]] == [True, True, False, True, False, True, True, False]
