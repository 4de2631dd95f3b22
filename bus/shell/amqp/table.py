"""AMQP header tables: a small encoder, and a decoder that runs only when a header is read.

Types are those that RabbitMQ sends, which differ from the AMQP 0-9-1 paper in a few letters (RabbitMQ errata). A table
comes from an agent through the broker: nesting is bounded, and a table that does not decode counts as no headers, so
that its message is judged by what else it has; nothing is raised into the code that reads headers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

from bus.core.message import Attribute

_DEPTH = 32  # RabbitMQ's own deepest table, x-death, nests 3 deep
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)

_U8, _U32 = struct.Struct(">B"), struct.Struct(">I")
_I32, _I64 = struct.Struct(">i"), struct.Struct(">q")


class Malformed(Exception):
    """The broker's fault: bytes that are no header table."""


def encode_table(headers: Mapping[str, Attribute]) -> bytes:
    """Encode headers with their length prefix.

    Raises:
        ValueError: a name is longer than 255 bytes.
    """
    pieces: list[bytes] = []
    for name, value in headers.items():
        raw = name.encode("utf-8", "replace")
        if len(raw) > 255:
            raise ValueError(f"header name `{name[:40]}...` is longer than 255 bytes")
        pieces += (_U8.pack(len(raw)), raw, _encode_value(value))
    body = b"".join(pieces)
    return _U32.pack(len(body)) + body


def _encode_value(value: Attribute) -> bytes:
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if value in _INT32:
            return b"I" + _I32.pack(value)
        if value in _INT64:
            return b"l" + _I64.pack(value)
        value = str(value)
    if isinstance(value, bytes):
        return b"x" + _U32.pack(len(value)) + value
    raw = value.encode("utf-8", "replace")
    return b"S" + _U32.pack(len(raw)) + raw


def decode_table(raw: bytes) -> dict[str, object]:
    """Decode a table without its length prefix.

    Raises:
        Malformed: these bytes are no table, or nest too deeply.
    """
    try:
        table, end = _table(raw, 0, len(raw), 0)
    except (struct.error, IndexError, OverflowError) as error:
        raise Malformed(f"header table: {error}") from error
    if end != len(raw):
        raise Malformed("header table: bytes left over")
    return table


def _table(raw: bytes, at: int, end: int, depth: int) -> tuple[dict[str, object], int]:
    if depth > _DEPTH or end > len(raw):
        raise Malformed("header table: too deep or cut off")
    table: dict[str, object] = {}
    while at < end:
        size = raw[at]
        name = raw[at + 1 : at + 1 + size].decode("utf-8", "replace")
        table[name], at = _value(raw, at + 1 + size, depth)
    if at != end:
        raise Malformed("header table: a value runs over its end")
    return table, at


def _array(raw: bytes, at: int, end: int, depth: int) -> tuple[list[object], int]:
    if depth > _DEPTH or end > len(raw):
        raise Malformed("header array: too deep or cut off")
    values: list[object] = []
    while at < end:
        value, at = _value(raw, at, depth)
        values.append(value)
    if at != end:
        raise Malformed("header array: a value runs over its end")
    return values, at


def _fixed(layout: str) -> Callable[[bytes, int], tuple[object, int]]:
    packed = struct.Struct(layout)
    return lambda raw, at: (packed.unpack_from(raw, at)[0], at + packed.size)


_FIXED: dict[int, Callable[[bytes, int], tuple[object, int]]] = {
    ord("b"): _fixed(">b"),
    ord("B"): _fixed(">B"),
    ord("s"): _fixed(">h"),
    ord("u"): _fixed(">H"),
    ord("I"): _fixed(">i"),
    ord("i"): _fixed(">I"),
    ord("l"): _fixed(">q"),
    ord("L"): _fixed(">q"),
    ord("f"): _fixed(">f"),
    ord("d"): _fixed(">d"),
    ord("T"): _fixed(">Q"),  # a timestamp, seconds since the epoch
    ord("t"): _fixed(">?"),
}


def _value(raw: bytes, at: int, depth: int) -> tuple[object, int]:
    kind = raw[at]
    at += 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed(raw, at)
    if kind == ord("V"):
        return None, at
    if kind == ord("D"):
        scale, digits = struct.unpack_from(">Bi", raw, at)
        return Decimal(digits).scaleb(-scale), at + 5
    (size,) = _U32.unpack_from(raw, at)
    at += 4
    end = at + size
    if end > len(raw):
        raise Malformed("header value: cut off")
    if kind == ord("S"):
        return raw[at:end].decode("utf-8", "replace"), end
    if kind == ord("x"):
        return raw[at:end], end
    if kind == ord("F"):
        return _table(raw, at, end, depth + 1)
    if kind == ord("A"):
        return _array(raw, at, end, depth + 1)
    raise Malformed(f"header value: unknown type {kind}")


class LazyHeaders(Mapping[str, object]):
    """Headers of one delivery, decoded when first looked into. Undecodable bytes look like no headers."""

    __slots__ = ("_raw", "_table")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._table: dict[str, object] | None = None

    @property
    def decoded(self) -> dict[str, object]:
        if self._table is None:
            try:
                self._table = decode_table(self._raw)
            except Malformed:
                self._table = {}
        return self._table

    def __getitem__(self, name: str) -> object:
        return self.decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.decoded)

    def __len__(self) -> int:
        return len(self.decoded)

    def __reduce__(self) -> tuple[type[LazyHeaders], tuple[bytes]]:
        """For suspects, which are decided in a process of their own; compiled classes need to be told how."""
        return LazyHeaders, (self._raw,)

    def __repr__(self) -> str:
        return f"LazyHeaders({self.decoded!r})"
