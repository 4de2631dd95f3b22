"""Whether a new contract takes all that the old one took: never said wrongly, and said where it is so."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.config.compatible import differences

NAMES = st.sampled_from("ab")
SCALARS = st.one_of(st.integers(-3, 3), st.sampled_from(["", "x", "xy"]), st.booleans(), st.none(), st.just(1.5))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NAMES, inner, max_size=2)),
    max_leaves=6,
)


def record(**parts: Any) -> Any:
    return st.fixed_dictionaries({}, optional=parts)


LEAVES = st.one_of(
    st.just(True),
    st.just(False),
    record(
        type=st.sampled_from(["integer", "number", "string", "boolean", "null", "array", "object", ["string", "null"]]),
        minimum=st.integers(-2, 2), maximum=st.integers(-2, 2), minLength=st.integers(0, 2),
        maxLength=st.integers(0, 2), pattern=st.sampled_from(["x", "^x$"]), title=st.sampled_from("st"),
        multipleOf=st.integers(1, 2),
    ),
    record(enum=st.lists(SCALARS, min_size=1, max_size=3), const=SCALARS),
)  # fmt: skip
SCHEMAS: Any = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        record(
            type=st.sampled_from(["object", "array"]),
            properties=st.dictionaries(NAMES, inner, max_size=2),
            required=st.lists(NAMES, max_size=2, unique=True),
            additionalProperties=inner,
            patternProperties=st.dictionaries(st.sampled_from(["a", "."]), inner, max_size=1),
            items=inner,
            prefixItems=st.lists(inner, min_size=1, max_size=1),
            maxItems=st.integers(0, 2),
        ),
        record(anyOf=st.lists(inner, min_size=1, max_size=2), type=st.just("object")),
        st.builds(lambda part: {"$defs": {"d": part}, "properties": {"a": {"$ref": "#/$defs/d"}}}, inner),
    ),
    max_leaves=5,
)


@st.composite
def pairs(draw: Any) -> tuple[Any, Any]:
    """Two schemas, most often alike but for a part."""
    old = draw(SCHEMAS)
    if not isinstance(old, dict) or draw(st.booleans()):
        return old, draw(SCHEMAS)
    new = dict(old)
    other = draw(SCHEMAS)
    for key in draw(st.lists(st.sampled_from(sorted({*new, "x", *(other if isinstance(other, dict) else ())})))):
        if isinstance(other, dict) and key in other:
            new[key] = other[key]
        else:
            new.pop(key, None)
    return old, new


def refers_nowhere(schema: Any) -> bool:
    try:
        jsonschema_rs.validator_for(schema)
    except ValueError:
        return True
    return False


@settings(max_examples=500, deadline=None)
@given(pairs(), st.lists(VALUES, min_size=8, max_size=20))
def test_what_is_called_compatible_is(pair: tuple[Any, Any], values: list[Any]) -> None:
    old, new = pair
    if refers_nowhere(old) or refers_nowhere(new) or differences(old, new):
        return
    was, now = jsonschema_rs.validator_for(old), jsonschema_rs.validator_for(new)
    for value in values:
        assert now.is_valid(value) or not was.is_valid(value), (old, new, value)


OLD: dict[str, Any] = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "kind": {"enum": ["a", "b"]}, "lines": {"type": "array", "maxItems": 3}},
    "required": ["id"],
    "additionalProperties": False,
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**OLD, **parts}


def field(name: str, schema: Any) -> dict[str, Any]:
    return changed(properties={**OLD["properties"], name: schema})


@pytest.mark.parametrize(
    "new",
    [
        OLD, changed(title="order", description="an order"), changed(required=[]), changed(additionalProperties=True),
        field("id", {"type": "number"}), field("kind", {"enum": ["a", "b", "c"]}), field("kind", {"type": "string"}),
        field("more", {"type": "string"}), field("lines", {"type": "array", "maxItems": 4}), field("id", True),
        field("id", {"type": ["integer", "null"]}),
    ],
)  # fmt: skip
def test_what_may_be_changed(new: dict[str, Any]) -> None:
    assert differences(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "pointer"),
    [
        (changed(required=["id", "kind"]), "/kind"), (field("id", {"type": "string"}), "/id"),
        (field("kind", {"enum": ["a"]}), "/kind"), (field("lines", {"type": "array", "maxItems": 2}), "/lines"),
        (field("id", {"type": "integer", "minimum": 0}), "/id"),
        (field("id", {"type": "integer", "multipleOf": 2}), "/id"),
        (changed(properties={"id": {"type": "integer"}}), "/kind"), (changed(minProperties=2), ""),
        (changed(anyOf=[{"required": ["kind"]}]), ""),
        (field("lines", {"type": "array", "items": {"type": "null"}}), "/lines/0"),
    ],
)  # fmt: skip
def test_what_may_not_be_changed(new: dict[str, Any], pointer: str) -> None:
    assert pointer in [at for at, _ in differences(OLD, new)]


PATTERNED: dict[str, Any] = {"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("old", "new", "pointer"),
    [
        ({"type": "object"}, {"type": "object", "additionalProperties": False}, ""),
        ({"type": "object"}, {"type": "object", "additionalProperties": {"type": "string"}}, ""),
        ({}, {"properties": {"a": {"type": "string"}}}, "/a"),
        (PATTERNED, {**PATTERNED, "properties": {"xa": {"type": "integer"}}}, "/xa"),
        ({"const": 1}, {"const": True}, ""),
        ({"enum": [1]}, {"type": "string"}, ""),
    ],
)
def test_what_an_open_contract_let_through(old: Any, new: Any, pointer: str) -> None:
    assert pointer in [at for at, _ in differences(old, new)]


def test_a_new_field_of_a_closed_contract_is_no_difference() -> None:
    closed: Any = {"properties": {"a": {"type": "string"}}, "additionalProperties": False}
    more: Any = {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "additionalProperties": False}
    assert differences(closed, more) == []
    assert [at for at, _ in differences(more, closed)] == ["/b"]
