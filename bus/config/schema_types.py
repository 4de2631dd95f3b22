"""Static types from JSON Schemas, as far as a schema fixes them; what it leaves open is Any.

An object whose schema declares properties has those: reading another one is a mistake unless the schema welcomes it
with `additionalProperties` or `patternProperties`. Keywords that depend on the instance (`if`, `dependentSchemas`,
`$dynamicRef`) open the object, since they may speak of further fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from bus.config.types import ANY, BOOL, DOUBLE, INT, NULL, STRING, List, Object, Type, of_value, options, union
from bus.core.message import Json

Resolve: TypeAlias = "Callable[[str, str], tuple[str, Json] | None]"
"""Follows a reference from a base URI: the base and schema that it leads to, or None when it leads out of sight."""

_SCALARS: dict[str, Type] = {"null": NULL, "boolean": BOOL, "integer": INT, "number": DOUBLE, "string": STRING}
_OPENING = ("if", "dependentSchemas", "$dynamicRef", "unevaluatedProperties")
_MAX_DEPTH = 12  # recursion in a schema ends here, and is Any below
_MAX_TYPES = 20_000  # so that references cannot multiply without end


def from_schema(schema: Json, base: str, name: str, resolve: Resolve) -> Type:
    """Return the static type of what a schema accepts.

    Args:
        schema: the schema.
        base: its URI.
        name: the contract's name, for messages.
        resolve: follows references.
    """
    return _Reader(resolve).read(schema, base, name, 0)


class _Reader:
    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._left = _MAX_TYPES

    def read(self, schema: Json, base: str, name: str, depth: int) -> Type:
        self._left -= 1
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or self._left < 0:
            return ANY
        found = self._own(schema, base, name, depth)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            target = self._resolve(reference, base)
            found = both(found, self.read(target[1], target[0], name, depth + 1) if target else ANY)
        parts = schema.get("allOf")
        for part in parts if isinstance(parts, list) else ():
            found = both(found, self.read(part, base, name, depth + 1))
        for keyword in ("anyOf", "oneOf"):
            choices = schema.get(keyword)
            if isinstance(choices, list) and choices:
                found = both(found, union(self.read(each, base, name, depth + 1) for each in choices))
        if any(keyword in schema for keyword in _OPENING):
            found = union(replace(each, rest=ANY) if isinstance(each, Object) else each for each in options(found))
        return found

    def _own(self, schema: dict[str, Json], base: str, name: str, depth: int) -> Type:
        """Read the keywords that speak of the value itself."""
        if "const" in schema:
            return _loose(of_value(schema["const"]))
        values = schema.get("enum")
        if isinstance(values, list):
            return union(_loose(of_value(each)) for each in values)
        kinds = schema.get("type")
        if kinds is None:
            kinds = "object" if "properties" in schema or "required" in schema else "array" if "items" in schema else []
        return (
            union(
                self._kind(str(kind), schema, base, name, depth)
                for kind in (kinds if isinstance(kinds, list) else [kinds])
            )
            if kinds
            else ANY
        )

    def _kind(self, kind: str, schema: dict[str, Json], base: str, name: str, depth: int) -> Type:
        if kind == "object":
            return self._object(schema, base, name, depth)
        if kind == "array":
            first = schema.get("prefixItems")
            items = [*first] if isinstance(first, list) else []
            if schema.get("items") is not False:
                items.append(schema.get("items", True))
            return List(union(self.read(each, base, f"an item of {name}", depth + 1) for each in items))
        return _SCALARS.get(kind, ANY)

    def _object(self, schema: dict[str, Json], base: str, name: str, depth: int) -> Type:
        declared, needed = schema.get("properties"), schema.get("required")
        declared = declared if isinstance(declared, dict) else {}
        required = frozenset(str(each) for each in needed) if isinstance(needed, list) else frozenset()
        fields = {each: self.read(part, base, f"`{each}` of {name}", depth + 1) for each, part in declared.items()}
        more = schema.get("additionalProperties")
        rest: Type | None = None
        if "patternProperties" in schema or more is True or (not declared and not required and more is None):
            rest = ANY
        elif isinstance(more, dict):
            rest = self.read(more, base, f"a field of {name}", depth + 1)
        for each in required - fields.keys():
            fields[each] = rest or ANY
        return Object(fields, required, rest, exact=more is False and rest is None, name=name)


def _loose(type_: Type) -> Type:
    """A constant object says what is in it by value; its type need not repeat that."""
    if isinstance(type_, Object):
        return Object(rest=ANY)
    return List(ANY) if isinstance(type_, List) else type_


def both(left: Type, right: Type) -> Type:
    """Return the type of what is of both types; when that cannot be told, the left one."""
    if left == ANY:
        return right
    if right == ANY or left == right:
        return left
    fits = [met for one in options(left) for two in options(right) if (met := _meet(one, two)) is not None]
    return union(fits) if fits else left


def _meet(left: Type, right: Type) -> Type | None:
    if left == ANY or right == ANY:
        return right if left == ANY else left
    if isinstance(left, Object) and isinstance(right, Object):
        fields = dict(left.fields)
        for name, type_ in right.fields.items():
            fields[name] = both(fields[name], type_) if name in fields else type_
        open_sides = [each.rest for each in (left, right) if each.fields or each.exact or each.rest is None]
        rest = None if None in open_sides else left.rest
        return Object(fields, left.required | right.required, rest, left.exact or right.exact, left.name or right.name)
    if isinstance(left, List) and isinstance(right, List):
        return List(both(left.item, right.item))
    if {left, right} == {INT, DOUBLE}:
        return INT
    return left if left == right else None
