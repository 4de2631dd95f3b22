"""Static types of JSON values: what lint knows of `data`, `vars` and the rest before any message has come.

They are read from JSON Schemas (`bus.config.schema_types`), from values, and from checked expressions. `Any` means
"not known": nothing is reported about it. JSON Schema's `number` is Double and its `integer` is Int, as in CEL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from bus.core.message import Json

Scalar = Literal["any", "null", "bool", "int", "double", "string", "uint", "bytes", "timestamp", "duration", "type"]


@dataclass(frozen=True, slots=True)
class Plain:
    """A type without parts. The last five exist inside expressions only, never in a message."""

    name: Scalar


@dataclass(frozen=True, slots=True)
class List:
    """A list; `item` is NEVER for the empty list."""

    item: Type


@dataclass(frozen=True, slots=True)
class Object:
    """A JSON object.

    Args:
        fields: declared fields.
        required: those that are always there.
        rest: type of undeclared fields when they are explicitly welcome; None when nobody spoke of them.
        exact: there are no undeclared fields (`additionalProperties: false`, or a mapping written in a route).
        name: contract it comes from, for messages, or "".
    """

    fields: Mapping[str, Type] = field(default_factory=dict, hash=False)
    required: frozenset[str] = frozenset()
    rest: Type | None = None
    exact: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several types; never nested, at least two. Make it with `union`."""

    options: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Optional:
    """CEL's optional value, as `data.?a` gives it; not a JSON value."""

    inner: Type


@dataclass(frozen=True, slots=True)
class Nothing:
    """No value at all: the item of an empty list."""


Type: TypeAlias = "Plain | List | Object | OneOf | Optional | Nothing"

ANY, NULL, BOOL, INT = Plain("any"), Plain("null"), Plain("bool"), Plain("int")
DOUBLE, STRING = Plain("double"), Plain("string")
UINT, BYTES, TIMESTAMP, DURATION = Plain("uint"), Plain("bytes"), Plain("timestamp"), Plain("duration")
NEVER = Nothing()

OPEN = Object(rest=ANY)
"""An object about which nothing else is known, e.g. `vars` before a step has written it."""

NUMBERS = frozenset({INT, DOUBLE, UINT})


def union(options: Iterable[Type]) -> Type:
    """Join types: duplicates fall away, Int and Double make Double, anything with Any is Any."""
    flat: list[Type] = []
    for option in options:
        for each in option.options if isinstance(option, OneOf) else (option,):
            if each not in flat and each != NEVER:
                flat.append(each)
    if not flat:
        return NEVER
    if ANY in flat:
        return ANY
    if INT in flat and DOUBLE in flat:
        flat.remove(INT)
    lists = [each for each in flat if isinstance(each, List)]
    if len(lists) > 1:
        flat = [each for each in flat if not isinstance(each, List)] + [List(union(each.item for each in lists))]
    return flat[0] if len(flat) == 1 else OneOf(tuple(flat))


def options(type_: Type) -> tuple[Type, ...]:
    """Return what a value of this type may be: the options of a union, else the type itself."""
    return type_.options if isinstance(type_, OneOf) else (type_,)


def of_value(value: Json) -> Type:
    """Return the type of a literal; objects are exact."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT
    if isinstance(value, float):
        return DOUBLE
    if isinstance(value, str):
        return STRING
    if isinstance(value, list):
        return List(union(of_value(each) for each in value))
    return Object({name: of_value(each) for name, each in value.items()}, frozenset(value), exact=True)


def describe(type_: Type) -> str:
    """Say the type as a route author would: `string`, `number`, `list of string`, `object`."""
    if isinstance(type_, Plain):
        return {"double": "number", "int": "integer", "any": "any value"}.get(type_.name, type_.name)
    if isinstance(type_, List):
        return "list" if type_.item in (ANY, NEVER) else f"list of {describe(type_.item)}"
    if isinstance(type_, OneOf):
        return " or ".join(describe(each) for each in type_.options)
    if isinstance(type_, Optional):
        return f"optional {describe(type_.inner)}"
    return "nothing" if isinstance(type_, Nothing) else "object"


def an(type_: Type) -> str:
    """Say the type with its article: `a string`, `an int`."""
    text = describe(type_)
    return text if text in ("null", "nothing") else f"{'an' if text[0] in 'aeio' else 'a'} {text}"


def field_type(type_: Type, name: str) -> Type:
    """Return the type of a field as far as known; Any when it is not."""
    found = [
        each.fields.get(name, each.rest or ANY) if isinstance(each, Object) else ANY
        for each in options(type_)
        if each != NULL
    ]
    return union(found) if found else ANY


def with_field(type_: Type, path: tuple[str, ...], value: Type) -> Type:
    """Return the type after a step has written `value` at `path` inside it."""
    if not path:
        return value
    base = type_ if isinstance(type_, Object) else OPEN
    inner = with_field(base.fields.get(path[0], OPEN), path[1:], value)
    return Object({**base.fields, path[0]: inner}, base.required | {path[0]}, base.rest, base.exact, base.name)


def without_field(type_: Type, path: tuple[str, ...]) -> Type:
    """Return the type after a step has removed the field at `path`."""
    if not isinstance(type_, Object) or not path or path[0] not in type_.fields:
        return type_
    head = path[0]
    fields = {name: each for name, each in type_.fields.items() if name != head}
    if len(path) > 1:
        fields[head] = without_field(type_.fields[head], path[1:])
        return Object(fields, type_.required, type_.rest, type_.exact, type_.name)
    return Object(fields, type_.required - {head}, type_.rest, type_.exact, type_.name)
