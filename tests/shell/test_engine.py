"""What the engine reads and packs is what Python reads and packs: the same values, whatever comes."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.audit.segment import pack, split, unpack
from bus.core.actions import Output
from bus.ports import Commit, Entry, InboxKey
from bus.shell.amqp.wire import Scanner, WireFault
from bus.shell.engine import ENGINE
from bus.shell.store_rules import segments_of

if ENGINE is None:
    pytest.skip("the engine is not installed: `deploy/express` builds it", allow_module_level=True)

QUEUES = {"agentbus-1": "ns.ingress.00", "agentbus-2": "ns.ingress.01"}


def _short(raw: bytes) -> bytes:
    return bytes((len(raw),)) + raw


_SHORT = st.binary(max_size=6) | st.sampled_from([b"application/cloudevents+json", b"caf\xc3\xa9", b"\xff"])
_PROPERTIES = {  # by the bit of its flag: bytes that stand for it, in order or not quite
    15: _SHORT.map(_short),
    14: _SHORT.map(_short),
    13: (st.just(b"") | st.just(_short(b"n") + b"b\x01") | st.binary(max_size=5)).map(
        lambda raw: struct.pack(">I", len(raw)) + raw
    ),
    12: st.just(b"\x02"),
    11: st.just(b"\x00"),
    10: _SHORT.map(_short),
    9: _SHORT.map(_short),
    8: _SHORT.map(_short),
    7: _SHORT.map(_short),
    6: st.just(bytes(8)),
    5: _SHORT.map(_short),
    4: _SHORT.map(_short),
    1: st.just(b""),
}


def _frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


@st.composite
def _delivery(draw: st.DrawFn) -> bytes:
    consumer = draw(st.sampled_from([b"agentbus-1", b"agentbus-1", b"agentbus-2", b"somebody"]))
    redelivered = draw(st.sampled_from([0, 0, 0, 1]))
    method = struct.pack(">HH", 60, draw(st.sampled_from([60, 60, 60, 60, 80])))
    method += _short(consumer) + struct.pack(">QB", draw(st.integers(1, 2**40)), redelivered)
    method += _short(b"ns.in") + _short(draw(_SHORT))
    body = draw(st.binary(max_size=20))
    flags = sorted(draw(st.sets(st.sampled_from([*_PROPERTIES]), max_size=6)), reverse=True)
    given_ = b"".join(draw(_PROPERTIES[bit]) for bit in flags)
    header = struct.pack(">HHQH", 60, 0, len(body), sum(1 << bit for bit in flags)) + given_
    cut = draw(st.integers(0, len(body)))
    bodies = [body] if draw(st.booleans()) else [part for part in (body[:cut], body[cut:]) if part]
    return _frame(1, method) + _frame(2, header) + b"".join(_frame(3, part) for part in bodies if body)


_OTHER = st.sampled_from([
    _frame(8, b"", 0), _frame(1, struct.pack(">HHQB", 60, 80, 7, 1)), _frame(1, struct.pack(">HH", 20, 40), 2),
])  # fmt: skip


def _scan(quick: bool, pieces: list[bytes]) -> list[Any]:
    scanner = Scanner(1)
    if not quick:
        scanner._frames = None
    for tag, queue in QUEUES.items():
        scanner.name_consumer(tag, queue)
    seen: list[Any] = []
    for piece in pieces:
        try:
            scan = scanner.feed(piece)
        except WireFault:
            return [*seen, "fault"]
        deliveries = [
            (tag, each._replace(headers=dict(each.headers)), type(each.headers)) for tag, each in scan.deliveries
        ]
        seen.append((deliveries, list(scan.signals), scan.foreign))
    return seen


@settings(max_examples=1500, deadline=None)
@given(
    frames=st.lists(_delivery() | _OTHER, min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=3),
    damage=st.none() | st.tuples(st.integers(0, 600), st.integers(0, 255)),
)
def test_the_engine_reads_the_same_frames(frames: list[bytes], cuts: list[int], damage: tuple[int, int] | None) -> None:
    stream = bytearray(b"".join(frames))
    if damage is not None and damage[0] < len(stream):
        stream[damage[0]] = damage[1]
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [bytes(stream[start:stop]) for start, stop in pairwise(places)]
    assert _scan(True, pieces) == _scan(False, pieces)


_TEXT = st.text(max_size=5) | st.sampled_from(['"\\', "\x00\x1f", "\ud800", "é\U0001f600"])
_OUTPUT = st.builds(
    Output, st.sampled_from(["agent", "event", "dead"]), _TEXT, _TEXT, _TEXT, _TEXT, st.binary(max_size=9), _TEXT,
    st.sampled_from([{}, {}, {}, {"x": 1}]), st.none() | st.integers(0, 2**33),
)  # fmt: skip
_ENTRY = st.tuples(
    st.none() | st.builds(InboxKey, st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8)),
    st.binary(max_size=9), st.binary(max_size=9) | st.just(b"x" * 3000), st.lists(_OUTPUT, max_size=2).map(tuple),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    entries=st.dictionaries(st.integers(0, 3), st.lists(_ENTRY, max_size=5), max_size=3), first=st.integers(1, 2**40)
)
def test_the_engine_packs_the_same_segments(entries: dict[int, list[Any]], first: int) -> None:
    log = {
        partition: [Entry(seq, *each) for seq, each in enumerate(rows, first)] for partition, rows in entries.items()
    }
    made = segments_of(Commit(log, {}))
    expected = [(partition, run) for partition, rows in log.items() if rows for run in split(rows)]
    assert [(each.partition, each.first_seq, each.count) for each in made] == [
        (partition, run[0].seq, len(run)) for partition, run in expected
    ]
    for each, (partition, run) in zip(made, expected, strict=True):
        assert unpack(partition, each.first_seq, each.blob) == unpack(partition, run[0].seq, pack(partition, run))
    plain = all(not out.headers and "\ud800" not in "".join(out[:5]) + out.content_type
                for rows in log.values() for each in rows for out in each.outputs)  # fmt: skip
    assert ENGINE is not None
    assert (ENGINE.segments(log) is not None) == plain


def test_large_batches_are_split_where_python_splits_them() -> None:
    rows = [Entry(seq, None, b"r" * 10, bytes(300_000), ()) for seq in range(1, 11)]
    made = segments_of(Commit({2: rows}, {}))
    assert [each.count for each in made] == [len(run) for run in split(rows)] == [4, 4, 2]


def test_numbers_that_do_not_follow_are_left_to_python() -> None:
    assert ENGINE is not None
    rows = [Entry(seq, None, b"r", b"b" * 600_000, ()) for seq in (1, 2, 4)]
    assert ENGINE.segments({0: rows}) is None
    assert ENGINE.segments({0: rows[:2], 1: rows[1:]}) is None
