"""Strict JSON: what cannot mean two things to two readers, within bounds. Everything here is hostile until parsed.

orjson already refuses NaN, Infinity, numbers that overflow, lone surrogates, bad UTF-8 and a byte order mark. What
it lets through is found by counting, because a walk over every message would cost more than the parse itself:

- Duplicate keys: orjson keeps the last one, so writing the value again gives fewer members, and every member has
  its colon outside of strings. Colons inside of strings survive the round trip, unless one was escaped. So an equal
  number of colons, and no escaped one, proves that nothing was dropped.
- Depth: a text with at most `limits.depth` opening brackets cannot be deeper than that.
- Integers beyond 64 bits are refused, as CEL and most readers have no such number and orjson would make a rounded float
  of them. Written again such a number reads differently, and a text without 19 digits in a row has none.

Compact JSON, as the bus itself writes it, comes back byte for byte and needs no counting. Only in doubt does the slow
path look closely, and name what it found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import NoReturn

import orjson

from bus.core.errors import Refused
from bus.core.facts import Limits
from bus.core.message import Json

_DIGITS_TO_ZERO = bytes(0x30 if 0x31 <= byte <= 0x39 else byte for byte in range(256))
_LONG_NUMBER = b"0" * 19
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NUMBER = re.compile(rb"-?[0-9][0-9.eE+-]*")


def parse(body: bytes, limits: Limits) -> Json:
    """Parse `body` strictly.

    Args:
        body: a JSON text in UTF-8.
        limits: longest body in bytes and deepest nesting.

    Raises:
        Refused: `too-big`, `not-utf8`, `lone-surrogate`, `not-json`, `too-deep`, `number-too-big` or `duplicate-key`.
    """
    if len(body) > limits.body_bytes:
        raise Refused("too-big", f"the body has {len(body)} bytes; at most {limits.body_bytes} are accepted")
    try:
        value: Json = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _explain(body, error, limits)
    if len(body) - len(body.translate(None, b"[{")) > limits.depth:
        _check_depth(value, limits.depth)
    try:
        again = orjson.dumps(value, None, orjson.OPT_STRICT_INTEGER)
    except orjson.JSONEncodeError:  # an integer beyond 53 bits, which may still fit 64
        _check_integers(body)
        again = orjson.dumps(value)
    if again == body:
        return value
    if _LONG_NUMBER in body.translate(_DIGITS_TO_ZERO):
        _check_integers(body)
    if again.count(b":") != body.count(b":") or b"\\u003" in body:
        _check_duplicates(body)
    return value


def dump(value: Json, default: Callable[[object], Json] | None = None) -> bytes:
    """Write `value` as compact JSON in UTF-8; `default` turns what is no JSON into it.

    Raises:
        Refused: `not-json`: it holds something that strict JSON cannot say, such as a lone surrogate or a huge integer.
    """
    try:
        # A copy, because what orjson returns keeps its whole buffer, up to eight times its length.
        return bytes(memoryview(orjson.dumps(value, default)))
    except (TypeError, orjson.JSONEncodeError) as error:
        raise Refused("not-json", f"the value cannot be written as JSON: {error}") from error


def _explain(body: bytes, error: orjson.JSONDecodeError, limits: Limits) -> NoReturn:
    """Say in the sender's terms why orjson refused the text."""
    try:
        before = body.decode("utf-8")[: error.pos]
    except UnicodeDecodeError as bad:
        raise Refused("not-utf8", f"byte {bad.start} is not valid UTF-8; send JSON in UTF-8") from error
    where = f"line {error.lineno}, column {error.colno} (byte {len(before.encode())})"
    if "surrogate" in error.msg:
        raise Refused("lone-surrogate", f"{where}: half of a surrogate pair; write both halves or none") from error
    if "depth limit" in error.msg:
        _too_deep(limits.depth)
    if "infinity" in error.msg:
        raise Refused("number-too-big", f"{where}: the number is too large for a 64-bit float") from error
    raise Refused("not-json", f"the body is not JSON: {where}: {error.msg.partition(': line')[0]}") from error


def _too_deep(depth: int) -> NoReturn:
    raise Refused("too-deep", f"the JSON is nested deeper than {depth} levels")


def _check_depth(value: Json, depth: int) -> None:
    level: list[Json] = [value]
    for _ in range(depth):
        level = [inner for each in level for inner in _children(each)]
    if any(isinstance(each, (dict, list)) for each in level):
        _too_deep(depth)


def _children(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_integers(body: bytes) -> None:
    for found in _NUMBER.finditer(_STRING.sub(b'""', body)):
        text = found.group()
        if len(text) < 19 or not text.lstrip(b"-").isdigit():
            continue
        if len(text) > 20 or not _INT_MIN <= int(text) <= _INT_MAX:
            shown = text[:24].decode()
            raise Refused("number-too-big", f"the integer {shown} does not fit 64 bits; send it as a string")


def _check_duplicates(body: bytes) -> None:
    def members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for name, value in pairs:
            if name in found:
                raise Refused("duplicate-key", f"the key {json.dumps(name[:80])} is there twice in one object")
            found[name] = value
        return found

    json.loads(body, object_pairs_hook=members)
