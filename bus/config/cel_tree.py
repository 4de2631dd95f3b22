"""The tree of a checked CEL expression, read from the engine's own serialisation.

The engine gives its tree away only as a CheckedExpr protocol buffer. The few messages that matter here are read by
hand: a generated reader would bind us to a protobuf version for some sixty lines. Field numbers are those of
cel-spec's syntax.proto and checked.proto. Each node carries the offset, in characters, of the token that the parser
attaches to it: the operator of a call, the dot of a selection, the first character of anything else. Macros come
expanded, as `Fold`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from bus.config.types import (
    ANY,
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    List,
    Object,
    Optional,
    Plain,
    Type,
)


@dataclass(frozen=True, slots=True)
class Uint:
    """An unsigned literal, which JSON values never are."""

    value: int


@dataclass(frozen=True, slots=True)
class Const:
    at: int
    type: Type
    value: None | bool | int | float | str | bytes | Uint


@dataclass(frozen=True, slots=True)
class Ident:
    at: int
    type: Type
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)` when `test`."""

    at: int
    type: Type
    operand: Node
    field: str
    test: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function, method or operator (`_+_`, `_?_:_`, `_[_]`, `_?._`); `target` is a method's receiver."""

    at: int
    type: Type
    function: str
    target: Node | None
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    at: int
    type: Type
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map literal; the third part of an entry says that it is optional, as in `{?"a": data.?a}`."""

    at: int
    type: Type
    entries: tuple[tuple[Node, Node, bool], ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """An expanded macro: for each `variable` in `range`, `accu` becomes `step`; then `result`."""

    at: int
    type: Type
    variable: str
    range: Node
    accu: str
    init: Node
    condition: Node
    step: Node
    result: Node


Node: TypeAlias = "Const | Ident | Select | Call | ListOf | MapOf | Fold"


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below."""
    if isinstance(node, Select):
        return (node.operand,)
    if isinstance(node, Call):
        return node.args if node.target is None else (node.target, *node.args)
    if isinstance(node, ListOf):
        return node.items
    if isinstance(node, MapOf):
        return tuple(each for key, value, _ in node.entries for each in (key, value))
    if isinstance(node, Fold):
        return (node.range, node.init, node.condition, node.step, node.result)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and everything below it."""
    stack = [node]
    while stack:
        each = stack.pop()
        yield each
        stack.extend(children(each))


# --- reading ------------------------------------------------------------------------------------------------------

_Fields: TypeAlias = "dict[int, list[int | bytes]]"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> _Fields:
    """Split one message into its fields; a field may repeat."""
    found: _Fields = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            found.setdefault(key >> 3, []).append(value)
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = 8 if kind == 1 else 4
        found.setdefault(key >> 3, []).append(data[at : at + size])
        at += size
    return found


def _int(fields: _Fields, number: int) -> int:
    value = fields.get(number, [0])[-1]
    assert isinstance(value, int)
    return value - 2**64 if value >= 2**63 else value


def _bytes(fields: _Fields, number: int) -> bytes:
    value = fields.get(number, [b""])[-1]
    assert isinstance(value, bytes)
    return value


def _text(fields: _Fields, number: int) -> str:
    return _bytes(fields, number).decode()


def _each(fields: _Fields, number: int) -> list[_Fields]:
    return [_fields(each) for each in fields.get(number, ()) if isinstance(each, bytes)]


_PRIMITIVES: dict[int, Type] = {1: BOOL, 2: INT, 3: UINT, 4: DOUBLE, 5: STRING, 6: BYTES}
_WELL_KNOWN: dict[int, Type] = {1: ANY, 2: TIMESTAMP, 3: DURATION}


def _type(data: bytes) -> Type:
    fields = _fields(data)
    if 2 in fields:
        return NULL
    if 3 in fields:
        return _PRIMITIVES[_int(fields, 3)]
    if 5 in fields:
        return _WELL_KNOWN[_int(fields, 5)]
    if 6 in fields:
        return List(_type(_bytes(_fields(_bytes(fields, 6)), 1)))
    if 7 in fields:
        return Object(rest=_type(_bytes(_fields(_bytes(fields, 7)), 2)))
    if 11 in fields:
        return Plain("type")
    if 14 in fields:
        abstract = _fields(_bytes(fields, 14))
        if _text(abstract, 1) == "optional_type" and 2 in abstract:
            return Optional(_type(_bytes(abstract, 2)))
    return ANY


class _Reader:
    def __init__(self, types: list[_Fields], source: _Fields) -> None:
        self._types = {_int(each, 1): _type(_bytes(each, 2)) for each in types}
        self._at = {_int(each, 1): _int(each, 2) for each in _each(source, 4)}

    def node(self, data: bytes) -> Node:
        fields = _fields(data)
        number = _int(fields, 2)
        at, type_ = max(self._at.get(number, 0), 0), self._types.get(number, ANY)
        if 3 in fields:
            return Const(at, type_, _constant(_fields(_bytes(fields, 3))))
        if 4 in fields:
            return Ident(at, type_, _text(_fields(_bytes(fields, 4)), 1))
        if 5 in fields:
            part = _fields(_bytes(fields, 5))
            return Select(at, type_, self.node(_bytes(part, 1)), _text(part, 2), bool(_int(part, 3)))
        if 6 in fields:
            return self._call(at, type_, _fields(_bytes(fields, 6)))
        if 7 in fields:
            items = _fields(_bytes(fields, 7)).get(1, ())
            return ListOf(at, type_, tuple(self.node(each) for each in items if isinstance(each, bytes)))
        if 8 in fields:
            entries = _each(_fields(_bytes(fields, 8)), 2)
            return MapOf(
                at, type_, tuple((self.node(_bytes(e, 3)), self.node(_bytes(e, 4)), bool(_int(e, 5))) for e in entries)
            )
        part = _fields(_bytes(fields, 9))
        parts = [self.node(_bytes(part, number)) for number in (2, 4, 5, 6, 7)]
        return Fold(at, type_, _text(part, 1), parts[0], _text(part, 3), *parts[1:])

    def _call(self, at: int, type_: Type, part: _Fields) -> Call:
        target = self.node(_bytes(part, 1)) if 1 in part else None
        args = tuple(self.node(each) for each in part.get(3, ()) if isinstance(each, bytes))
        return Call(at, type_, _text(part, 2), target, args)


def _constant(fields: _Fields) -> None | bool | int | float | str | bytes | Uint:
    if 2 in fields:
        return bool(_int(fields, 2))
    if 3 in fields:
        return _int(fields, 3)
    if 4 in fields:
        value = fields[4][-1]
        assert isinstance(value, int)
        return Uint(value)
    if 5 in fields:
        number: float = struct.unpack("<d", _bytes(fields, 5))[0]
        return number
    if 6 in fields:
        return _text(fields, 6)
    return _bytes(fields, 7) if 7 in fields else None


def read(serialized: bytes) -> Node:
    """Read the tree from `Expression.serialize()`: an Any that holds a CheckedExpr, or a ParsedExpr without types."""
    any_ = _fields(serialized)
    message = _fields(_bytes(any_, 2))
    if _text(any_, 1).endswith("CheckedExpr"):
        return _Reader(_each(message, 3), _fields(_bytes(message, 5))).node(_bytes(message, 4))
    return _Reader([], _fields(_bytes(message, 3))).node(_bytes(message, 2))
