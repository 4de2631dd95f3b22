"""A segment: the entries of one partition in one commit, packed into one blob.

A row per message costs a B-tree insert per message; a blob per batch costs next to nothing. Layout, big-endian:

    header   magic, version, flags, partition, first seq, count, length of the index
    index    JSON, one item per entry: lengths, and every field of its outputs but the bodies
    bytes    per entry: inbox key, content hash, record, input, output bodies; copied, never escaped
    crc32    over all of the above

Index and bytes of all but small segments are compressed with zstd, at its quickest level: the messages of one partition
look alike, and the microsecond that it costs is saved many times over by writing a fifth or a tenth of the pages.

The checksum covers the place (partition, first seq) as well, so a blob that stands in the wrong row is noticed like
one with a flipped bit: CRC-32 finds every change within 32 consecutive bits. It guards against damage, not against
forgery. This package is below the ports, so an entry is known here by its shape only.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import crc32
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any, NamedTuple, Protocol

import orjson
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from bus.core.actions import Output
from bus.core.errors import StoreFailed
from bus.core.message import Attribute

FORMAT = 1
SEGMENT_BYTES = 1 << 20  # a larger batch becomes several segments, so that reading one entry stays cheap

_MAGIC = b"abSG"
_HEADER = Struct(">4sBBIQII")
_CRC = Struct(">I")
_EXOTIC = 1  # flag: the index has text or numbers that only the slow JSON writer keeps exactly
_ZSTD = 2  # flag: what follows the header is one zstd frame
_SMALL = 4096  # bytes that are not worth compressing: a page is written in any case
_NO_INBOX = -1


class Identity(Protocol):
    """The shape of `bus.ports.InboxKey`."""

    @property
    def key(self) -> bytes: ...
    @property
    def content(self) -> bytes: ...


class Recorded(Protocol):
    """The shape of `bus.ports.Entry`."""

    @property
    def seq(self) -> int: ...
    @property
    def inbox(self) -> Identity | None: ...
    @property
    def record(self) -> bytes: ...
    @property
    def input(self) -> bytes: ...
    @property
    def outputs(self) -> tuple[Output, ...]: ...


class Unpacked(NamedTuple):
    """An entry as read back. `inbox` is (key, content)."""

    seq: int
    inbox: tuple[bytes, bytes] | None
    record: bytes
    input: bytes
    outputs: tuple[Output, ...]


def split(entries: Sequence[Recorded], limit: int = SEGMENT_BYTES) -> Iterator[Sequence[Recorded]]:
    """Cut a batch into runs of about `limit` bytes, at least one entry each."""
    start = size = 0
    for index, entry in enumerate(entries):
        size += len(entry.record) + len(entry.input)
        for output in entry.outputs:
            size += len(output.body)
        if size >= limit:
            yield entries[start : index + 1]
            start, size = index + 1, 0
    if start == 0:
        yield entries
    elif start < len(entries):
        yield entries[start:]


def pack(partition: int, entries: Sequence[Recorded]) -> bytes:
    """Pack at least one entry into a blob.

    Raises:
        StoreFailed: the entries' numbers are not contiguous.
    """
    index: list[Any] = []
    parts: list[bytes] = [b""]
    add = parts.append
    first = expected = entries[0].seq
    for entry in entries:
        if entry.seq != expected:
            raise misplaced(partition, entry.seq, expected)
        expected += 1
        key, content, inbox = _NO_INBOX, 0, entry.inbox
        if inbox is not None:
            key, content = len(inbox.key), len(inbox.content)
            parts += (inbox.key, inbox.content)
        record, body = entry.record, entry.input
        parts += (record, body)
        outputs = []
        for out in entry.outputs:
            headers = dict(out.headers) if out.headers else None
            about = (out.kind, out.name, out.id, out.type, out.conversation)
            outputs.append((*about, len(out.body), out.content_type, headers, out.expires_ms))
            add(out.body)
        index.append((key, content, len(record), len(body), outputs))
    flags, parts[0] = _dump(index)
    packed = b"".join(parts)
    if len(packed) > _SMALL:
        flags, packed = flags | _ZSTD, ZstdCompressor(level=1).compress(packed)
    header = _HEADER.pack(_MAGIC, FORMAT, flags, partition, first, len(entries), len(parts[0]))
    return b"".join((header, packed, _CRC.pack(crc32(packed, crc32(header)))))


def unpack(partition: int, first_seq: int, blob: bytes) -> list[Unpacked]:
    """Read every entry of a segment.

    Raises:
        StoreFailed: the segment is damaged, or of a newer format.
    """
    index, blob, at = _open(partition, first_seq, blob)
    entries = []
    for seq, (key, content, record, body, outputs) in enumerate(index, first_seq):
        inbox = None
        if key != _NO_INBOX:
            middle = at + key
            inbox = (blob[at:middle], blob[middle : middle + content])
            at = middle + content
        end = at + record
        start = end + body
        note, given = blob[at:end], blob[end:start]
        made = []
        for kind, name, id_, type_, conversation, length, content_type, headers, expires in outputs:
            bytes_ = blob[start : start + length]
            made.append(Output(kind, name, id_, type_, conversation, bytes_, content_type, _headers(headers), expires))
            start += length
        entries.append(Unpacked(seq, inbox, note, given, tuple(made)))
        at = start
    return entries


def records(partition: int, first_seq: int, blob: bytes) -> list[bytes]:
    """Read the audit records of a segment only.

    Raises:
        StoreFailed: the segment is damaged, or of a newer format.
    """
    index, blob, at = _open(partition, first_seq, blob)
    found = []
    for key, content, record, body, outputs in index:
        if key != _NO_INBOX:
            at += key + content
        found.append(blob[at : at + record])
        at += record + body + sum([each[5] for each in outputs])
    return found


def _open(partition: int, first_seq: int, blob: bytes) -> tuple[list[Any], bytes, int]:
    """Check a blob; returns its index, what follows its header, uncompressed, and where in that its bytes begin."""
    if len(blob) < _HEADER.size + _CRC.size:
        raise _damaged(partition, first_seq, "it is cut short")
    end = len(blob) - _CRC.size
    if crc32(memoryview(blob)[:end]) != _CRC.unpack_from(blob, end)[0]:
        raise _damaged(partition, first_seq, "its checksum is wrong")
    magic, version, flags, its_partition, its_first, count, length = _HEADER.unpack_from(blob)
    if magic != _MAGIC:
        raise _damaged(partition, first_seq, "it does not begin like a segment")
    if version != FORMAT:
        raise StoreFailed(
            f"the log has segments of format {version} and this agentbus reads {FORMAT}; "
            "use the version that wrote them"
        )
    if (its_partition, its_first) != (partition, first_seq):
        raise _damaged(partition, first_seq, f"it belongs to partition {its_partition}, entry {its_first}")
    packed = blob[_HEADER.size : end]
    if flags & _ZSTD:
        try:
            packed = ZstdDecompressor().decompress(packed)
        except ZstdError as error:
            raise _damaged(partition, first_seq, str(error)) from error
    text = packed[:length]
    index = json.loads(text) if flags & _EXOTIC else orjson.loads(text)
    if len(index) != count:
        raise _damaged(partition, first_seq, f"it has {len(index)} entries and says {count}")
    return index, packed, length


def misplaced(partition: int, seq: int, expected: int) -> StoreFailed:
    """The error for an entry that does not follow on the one before it."""
    return StoreFailed(f"entry {seq} of partition {partition} came where {expected} belongs; nothing was written")


def _damaged(partition: int, first_seq: int, what: str) -> StoreFailed:
    return StoreFailed(
        f"the log is damaged: the segment of partition {partition} from entry {first_seq} cannot be trusted ({what}); "
        "restore the store from a copy"
    )


def _dump(index: list[Any]) -> tuple[int, bytes]:
    """Write the index: fast where possible, and exactly in any case (lone surrogates, integers over 64 bits)."""
    try:
        return 0, orjson.dumps(index, default=_binary)
    except TypeError:
        return _EXOTIC, json.dumps(index, default=_binary).encode()


def _binary(value: object) -> Any:
    """Write a Binary attribute; no attribute is ever an object, so one can stand for it."""
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    raise TypeError(f"a header of type {type(value).__name__} cannot be recorded")


def _headers(headers: dict[str, Any] | None) -> dict[str, Attribute]:
    if not headers:
        return {}
    return {name: b64decode(each["base64"]) if isinstance(each, dict) else each for name, each in headers.items()}
