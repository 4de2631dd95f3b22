"""Arrays for the hot statement, written in PostgreSQL's binary form in one go.

psycopg looks at every element of a list to choose a type, and so chooses another one as numbers grow, for which the
server plans the statement anew. These have one type each, and cost a tenth.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import Any

from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.postgres import types
from psycopg.pq import Format

_HEADER = Struct(">iiIii")  # dimensions, has nulls, type of elements, length, lower bound
_LENGTH = Struct(">i")
_EMPTY = Struct(">iiI")


class Bigints(list[int]):
    """A `bigint[]` parameter."""


class Byteas(list[bytes]):
    """A `bytea[]` parameter."""


class _BigintsDumper(Dumper):
    format = Format.BINARY
    oid = types["int8"].array_oid

    def dump(self, obj: Bigints) -> bytes:
        element = types["int8"].oid
        if not obj:
            return _EMPTY.pack(0, 0, element)
        fields = [field for number in obj for field in (8, number)]
        return _HEADER.pack(1, 0, element, len(obj), 1) + pack(f">{'iq' * len(obj)}", *fields)


class _ByteasDumper(Dumper):
    format = Format.BINARY
    oid = types["bytea"].array_oid

    def dump(self, obj: Byteas) -> bytes:
        element = types["bytea"].oid
        if not obj:
            return _EMPTY.pack(0, 0, element)
        parts = [_HEADER.pack(1, 0, element, len(obj), 1)]
        for each in obj:
            parts += (_LENGTH.pack(len(each)), each)
        return b"".join(parts)


def register(db: Connection[Any]) -> None:
    """Let `db` take these as parameters."""
    db.adapters.register_dumper(Bigints, _BigintsDumper)
    db.adapters.register_dumper(Byteas, _ByteasDumper)
