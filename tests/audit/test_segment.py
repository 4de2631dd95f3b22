"""A segment is read back byte for byte, or not at all."""

from __future__ import annotations

from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.audit.segment import pack, records, split, unpack
from bus.core.actions import Output
from bus.core.errors import StoreFailed
from bus.ports import Entry, InboxKey
from tests.audit.strategies import runs

OUTPUT = Output("dead", "", "o1", "t", "c", b"body", "application/json", {"bus-at": "x", "n": 1, "b": b"\0\xff"})
ENTRIES = [
    Entry(41, InboxKey(b"k" * 16, b"c" * 8), b'{"v":1}', b"in", (OUTPUT,)),
    Entry(42, None, b"{}", b"", ()),
]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), runs())
def test_what_is_packed_is_unpacked(partition: int, entries: list[Entry]) -> None:
    blob = pack(partition, entries)
    found = unpack(partition, entries[0].seq, blob)
    assert [
        Entry(e.seq, InboxKey(*e.inbox) if e.inbox else None, e.record, e.input, e.outputs) for e in found
    ] == entries
    kinds = [[type(value) for out in each.outputs for value in out.headers.values()] for each in found]
    assert kinds == [[type(value) for out in each.outputs for value in out.headers.values()] for each in entries]
    assert records(partition, entries[0].seq, blob) == [each.record for each in entries]


@settings(max_examples=50, deadline=None)
@given(runs(max_size=3), st.data())
def test_any_flipped_byte_is_noticed(entries: list[Entry], data: st.DataObject) -> None:
    blob = bytearray(pack(3, entries))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreFailed, match="damaged"):
        unpack(3, entries[0].seq, bytes(blob))


def test_every_flipped_byte_and_every_cut_is_noticed() -> None:
    blob = pack(3, ENTRIES)
    for at in range(len(blob)):
        with pytest.raises(StoreFailed, match="damaged"):
            unpack(3, 41, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
        with pytest.raises(StoreFailed, match="damaged"):
            records(3, 41, blob[:at])


@pytest.mark.parametrize(("partition", "first"), [(3, 42), (4, 41)])
def test_a_segment_in_another_place_is_noticed(partition: int, first: int) -> None:
    with pytest.raises(StoreFailed, match="belongs to partition 3, entry 41"):
        unpack(partition, first, pack(3, ENTRIES))


def test_a_gap_is_not_packed() -> None:
    with pytest.raises(StoreFailed, match="entry 43 of partition 3 came where 42 belongs"):
        pack(3, [ENTRIES[0], ENTRIES[1]._replace(seq=43)])


@settings(max_examples=50, deadline=None)
@given(runs(), st.integers(1, 100))
def test_splitting_keeps_order_and_every_entry(entries: list[Entry], limit: int) -> None:
    parts = list(split(entries, limit))
    assert [each for part in parts for each in part] == entries
    assert all(parts)
    assert all(sum(len(e.record) + len(e.input) for e in part[:-1]) < limit for part in parts)


def test_a_large_segment_is_compressed_and_read_back() -> None:
    entries = [ENTRIES[0]._replace(seq=seq, input=b"input %d " % seq * 100) for seq in range(1, 65)]
    blob = pack(3, entries)
    assert len(blob) < sum(len(each.input) for each in entries) // 5
    assert [each.input for each in unpack(3, 1, blob)] == [each.input for each in entries]
    assert records(3, 1, blob) == [each.record for each in entries]
    assert unpack(3, 1, blob)[7].outputs == (OUTPUT,)


def test_a_large_segment_that_cannot_be_uncompressed_is_damaged() -> None:
    """Whatever the checksum says: it guards what was written, not who wrote it."""
    blob = pack(3, [ENTRIES[0]._replace(seq=1, input=bytes(range(256)) * 100)])
    cut = blob[: len(blob) // 2]
    with pytest.raises(StoreFailed, match="damaged"):
        unpack(3, 1, cut + crc32(cut).to_bytes(4, "big"))
