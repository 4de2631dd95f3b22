"""Strict JSON: nothing ambiguous, nothing too large, everything else as the json module reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core import strict_json
from bus.core.errors import Refused
from bus.core.facts import Limits

LIMITS = Limits()
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from(':"\\{}[],'))
INTEGERS = st.integers(-(2**63), 2**63 - 1)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda each: st.lists(each, max_size=4) | st.dictionaries(TEXTS, each, max_size=4),
    max_leaves=15,
)


def code(body: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(Refused) as refused:
        strict_json.parse(body, limits)
    return refused.value.code


@given(JSON)
def test_what_was_written_is_read(value: Any) -> None:
    assert strict_json.parse(strict_json.dump(value), LIMITS) == value


@settings(max_examples=300)
@given(JSON, st.booleans(), st.sampled_from([None, 1, "\t"]), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_agrees_with_the_json_module_however_it_is_written(
    value: Any, ascii_only: bool, indent: int | str | None, separators: tuple[str, str]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators)
    assert strict_json.parse(text.encode(), LIMITS) == value


_ESCAPED = st.sampled_from(["a", ":", "\\u003a", "\\u003A", "\\\\", '\\"', "é", "\\u00e9", "x:y", ""])
_KEYS = st.lists(_ESCAPED, min_size=1, max_size=3).map("".join)
_TEXTS = _KEYS.map(lambda each: f'"{each}"')
_MEMBERS = st.recursive(
    _TEXTS | st.sampled_from(["1", "1.0", "null"]),
    lambda each: st.lists(st.tuples(_KEYS, each), max_size=4).map(
        lambda pairs: "{" + ", ".join(f'"{name}" : {value}' for name, value in pairs) + "}"
    ),
    max_leaves=8,
)


@settings(max_examples=500)
@given(_MEMBERS)
def test_duplicate_keys_are_found_exactly_when_there_are_any(text: str) -> None:
    duplicates: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        duplicates.extend(name for name in names if names.count(name) > 1)
        return dict(pairs)

    wanted = json.loads(text, object_pairs_hook=members)
    if duplicates:
        assert code(text.encode()) == "duplicate-key"
    else:
        assert strict_json.parse(text.encode(), LIMITS) == wanted


def test_duplicate_key_is_named_even_where_an_escaped_colon_hides_it() -> None:
    with pytest.raises(Refused, match='"a"') as refused:
        strict_json.parse(b'{"a":1,"a":1,"b":"\\u003a"}', LIMITS)
    assert refused.value.code == "duplicate-key"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"a":NaN}', "not-json"),
        (b"[Infinity]", "not-json"),
        (b"1e999", "number-too-big"),
        (b"[9223372036854775808]", "number-too-big"),
        (b"[-9223372036854775809]", "number-too-big"),
        (b'{"a":123456789012345678901234567890}', "number-too-big"),
        (b'"\\ud800"', "lone-surrogate"),
        (b'{"\\udc00x":1}', "lone-surrogate"),
        (b'"\xff"', "not-utf8"),
        (b'"\xed\xa0\x80"', "not-utf8"),
        (b"[" * 100_000, "too-deep"),
        (b"[1,]", "not-json"),
    ],
)
def test_refused_with_its_code(body: bytes, wanted: str) -> None:
    assert code(body) == wanted


@pytest.mark.parametrize("opening", [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded_exactly(opening: tuple[str, str]) -> None:
    def nested(depth: int) -> bytes:
        return (opening[0] * depth + "1" + opening[1] * depth).encode()

    strict_json.parse(nested(64), LIMITS)
    assert code(nested(65)) == "too-deep"
    assert strict_json.parse(b"[" + b"[]," * 500 + b"1]", LIMITS)
    assert code(nested(3), Limits(depth=2)) == "too-deep"


def test_size_is_bounded_exactly() -> None:
    assert strict_json.parse(b'"aa"', Limits(body_bytes=4)) == "aa"
    assert code(b'"aaa"', Limits(body_bytes=4)) == "too-big"


@pytest.mark.parametrize(
    "body",
    [
        b"9223372036854775807",
        b"-9223372036854775808",
        b'"99999999999999999999999"',
        b"1.234567890123456789012e5",
        b"1e19",
    ],
)
def test_long_digits_that_fit_are_accepted(body: bytes) -> None:
    assert strict_json.parse(body, LIMITS) == json.loads(body)


def test_reason_says_where() -> None:
    with pytest.raises(Refused, match=r"line 2, column 3 \(byte 6\)"):
        strict_json.parse(b"[1,\n  x]", LIMITS)


@pytest.mark.parametrize("value", ["\ud800", 2**70, [object()], float("nan")])
def test_dump_refuses_or_writes_json(value: Any) -> None:
    def attempt() -> str:
        try:
            return strict_json.dump(value).decode()
        except Refused as refused:
            return refused.code

    assert attempt() in ("null", "not-json")
