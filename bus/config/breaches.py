"""What a message does wrong, field by field, short enough for a person and exact enough for a program to repair it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from bus.config.problem import did_you_mean
from bus.config.types import ANY, List, Object, Type, describe, field_type, options, union
from bus.core.errors import Finding
from bus.core.message import Json

MAX_FINDINGS = 100
_MAX_SHOWN = 80
_DEEPEST_CHOICE = 8  # anyOf within anyOf; deeper ones are told as a whole


def findings(errors: Iterable[Any], data: Json, type_: Type) -> tuple[Finding, ...]:
    """Turn the validator's errors into findings, without repeating any."""
    found: dict[Finding, None] = {}
    for error in islice(errors, MAX_FINDINGS):
        for each in _explain(error, data, type_, 0):
            found.setdefault(each)
    return tuple(found)


def _explain(error: Any, data: Json, type_: Type, depth: int) -> Iterable[Finding]:
    path, kind, name = list(error.instance_path), error.kind, error.kind.name
    if name in ("anyOf", "oneOf") and hasattr(kind, "context"):
        return _choices(error, data, type_, depth)
    if name == "required" and hasattr(kind, "property"):
        missing = str(kind.property)
        known = type_at(type_, [*path, missing])
        return [Finding(pointer([*path, missing]), "required" if known == ANY else describe(known), "nothing")]
    if name in ("additionalProperties", "unevaluatedProperties") and hasattr(kind, "unexpected"):
        fields = sorted(
            {each for one in options(type_at(type_, path)) if isinstance(one, Object) for each in one.fields}
        )
        return [_unexpected([*path, each], fields, data) for each in kind.unexpected[:MAX_FINDINGS]]
    expected = _EXPECTED.get(name)
    text = expected(kind) if expected else error.message
    return [Finding(pointer(path), _cut(text), got(data, path))]


def _unexpected(path: list[str | int], fields: Sequence[str], data: Json) -> Finding:
    close = did_you_mean(str(path[-1]), fields)
    return Finding(pointer(path), f"no such field; perhaps `{close}`" if close else "no such field", got(data, path))


def _choices(error: Any, data: Json, type_: Type, depth: int) -> Iterable[Finding]:
    """Tell what the closest of several alternatives wants; all of their types when none is close."""
    path, branches = list(error.instance_path), list(error.kind.context)
    broken = [each for each in branches if each]
    if not broken or len(broken) < len(branches):
        return [Finding(pointer(path), "exactly one of the alternatives", got(data, path))]
    close = [each for each in broken if not any(_is_other(one, path) for one in each)]
    if close and depth < _DEEPEST_CHOICE:
        best = min(close, key=lambda each: (sum(one.kind.name in ("const", "enum") for one in each), len(each)))
        return [found for one in best[:MAX_FINDINGS] for found in _explain(one, data, type_, depth + 1)]
    wanted = [str(_EXPECTED["type"](each[0].kind)) for each in broken if each[0].kind.name == "type"]
    expected = " or ".join(dict.fromkeys(wanted)) if len(wanted) == len(broken) else "one of the alternatives"
    return [Finding(pointer(path), expected, got(data, path))]


def _is_other(error: Any, path: list[Any]) -> bool:
    """Tell whether an alternative is for another kind of value altogether."""
    return list(error.instance_path) == path and error.kind.name in ("type", "const", "enum")


def _plural(text: str) -> Callable[[Any], str]:
    return lambda kind: text.format(kind.limit) + ("" if kind.limit == 1 else "s")


_EXPECTED: Mapping[str, Callable[[Any], str]] = {
    "type": lambda kind: " or ".join(kind.types),
    "enum": lambda kind: f"one of {', '.join(_show(each) for each in kind.options)}",
    "const": lambda kind: _show(kind.expected_value),
    "minimum": lambda kind: f">= {kind.limit}",
    "maximum": lambda kind: f"<= {kind.limit}",
    "exclusiveMinimum": lambda kind: f"> {kind.limit}",
    "exclusiveMaximum": lambda kind: f"< {kind.limit}",
    "multipleOf": lambda kind: f"a multiple of {kind.multiple_of}",
    "minLength": _plural("at least {} character"),
    "maxLength": _plural("at most {} character"),
    "minItems": _plural("at least {} item"),
    "maxItems": _plural("at most {} item"),
    "minProperties": _plural("at least {} field"),
    "maxProperties": _plural("at most {} field"),
    "uniqueItems": lambda kind: "no item twice",
    "contains": lambda kind: "an item that its contract asks for",
    "pattern": lambda kind: f"text matching {kind.pattern}",
    "format": lambda kind: f"a {kind.format}",
    "not": lambda kind: "anything else",
    "falseSchema": lambda kind: "nothing",
    "propertyNames": lambda kind: f"field names that are {_show(kind.error.message)}",
}


def type_at(type_: Type, path: Sequence[str | int]) -> Type:
    """Return the static type at a place inside a value of `type_`."""
    for step in path:
        if isinstance(step, int):
            type_ = union(each.item if isinstance(each, List) else ANY for each in options(type_))
        else:
            type_ = field_type(type_, step)
    return type_


def pointer(path: Iterable[str | int]) -> str:
    """Write a JSON pointer; "" is the whole value."""
    return "".join(f"/{str(each).replace('~', '~0').replace('/', '~1')}" for each in path)


def got(data: Json, path: Sequence[str | int]) -> str:
    """Say in a few words what stands at `path`: `nothing`, `number 3`, `string "abc"`, `list of 3`."""
    value: Any = data
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean {'true' if value else 'false'}"
    if isinstance(value, (int, float)):
        return _cut(f"{'integer' if isinstance(value, int) else 'number'} {value}")
    if isinstance(value, str):
        return _cut(f"string {_show(value[:_MAX_SHOWN])}")
    return f"list of {len(value)}" if isinstance(value, list) else f"object of {len(value)}"


def _show(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else orjson.dumps(value, default=str).decode()


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
