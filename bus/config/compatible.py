"""Whether a new version of a contract accepts all that the old one does, as far as the schemas say.

Whatever this cannot tell counts as a difference: an upcast that does nothing is written in a minute, and a message that
is refused by surprise costs more. So nothing found means: every value that keeps the old one keeps the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import orjson

from bus.core.message import Json

Difference: TypeAlias = "tuple[str, str]"
"""JSON pointer into the value, and what the new version wants there."""

_NOTES = frozenset(
    ("$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
     "readOnly", "writeOnly")
)  # fmt: skip
"""Keywords that refuse nothing."""
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_KNOWN = frozenset(
    ("type", "enum", "const", "properties", "required", "additionalProperties", "items", *_LEAST, *_MOST)
)
_MAX_DEPTH = 32


def without_notes(schema: Json) -> Json:
    """The schema without what refuses nothing: titles, descriptions and the like; fields of these names stay."""
    if isinstance(schema, list):
        return [without_notes(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Json] = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
            found[key] = (
                {name: without_notes(each) for name, each in value.items()} if isinstance(value, dict) else value
            )
        elif key in ("enum", "const"):
            found[key] = value
        elif key not in _NOTES:
            found[key] = without_notes(value)
    return found


def same(one: Json, other: Json) -> bool:
    """Whether two schemas say the same, notes apart."""
    return _text(without_notes(one)) == _text(without_notes(other))


def _text(value: Json) -> bytes:
    """One text for each JSON value: in Python, 1 and true are equal."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def differences(old: Json, new: Json) -> list[Difference]:
    """What the new version refuses, or may refuse, of that which the old one accepts."""
    return list(_Comparison(old, new).compare(old, new, "", 0))


class _Comparison:
    def __init__(self, old: Json, new: Json) -> None:
        self._old, self._new = old, new

    def compare(self, old: Json, new: Json, at: str, depth: int) -> Iterator[Difference]:
        """Differences between two schemas for the value at a pointer."""
        same_parts = same(self._old, self._new)
        if new is True or new == {} or old is False:
            return
        if same(old, new) and (same_parts or not _refers(new)):
            return
        old, new = _followed(old, self._old), _followed(new, self._new)
        if depth > _MAX_DEPTH or not isinstance(new, dict):
            yield at, "something else"
            return
        old = old if isinstance(old, dict) else {}
        unknown = sorted(
            key
            for key in new.keys() - _KNOWN - _NOTES
            if key not in old or not same(old[key], new[key]) or _refers(new[key])
        )
        if unknown:
            yield at, f"what its `{unknown[0]}` says"
        yield from _values(old, new, at)
        yield from self._object(old, new, at, depth)
        if "items" in new:
            yield from self.compare(old.get("items", True), new["items"], f"{at}/0", depth + 1)

    def _object(self, old: dict[str, Json], new: dict[str, Json], at: str, depth: int) -> Iterator[Difference]:
        had, has = _mapping(old.get("properties")), _mapping(new.get("properties"))
        needed, needs = _names(old.get("required")), _names(new.get("required"))
        for name in sorted(needs - needed):
            yield f"{at}/{name}", f"`{name}`, which may be absent in the old one"
        rest = old.get("additionalProperties", True)
        patterns = _mapping(old.get("patternProperties")) or _mapping(new.get("patternProperties"))
        for name, schema in has.items():
            before = had.get(name, rest)
            if name not in had and patterns:
                before = True
            yield from self.compare(before, schema, f"{at}/{name}", depth + 1)
        more = new.get("additionalProperties", True)
        if more is not True and more != {}:
            for name in sorted(had.keys() - has.keys()):
                yield from self._gone(had[name], more, f"{at}/{name}", depth)
            if rest is not False or patterns:
                yield from self._gone(True if patterns else rest, more, at, depth)

    def _gone(self, old: Json, new: Json, at: str, depth: int) -> Iterator[Difference]:
        if new is False and old is not False:
            yield at, "no such field" if at.rpartition("/")[2] else "no further fields"
        else:
            yield from self.compare(old, new, at, depth + 1)


def _values(old: dict[str, Json], new: dict[str, Json], at: str) -> Iterator[Difference]:
    """What is said of the value itself."""
    allowed = _allowed(old)
    if "const" in new or "enum" in new:
        wanted = _allowed(new) or []
        if allowed is None or not {_text(each) for each in allowed} <= {_text(each) for each in wanted}:
            yield at, "one of fewer values"
    if "type" in new:
        wanted_types = _types(new["type"])
        if allowed is not None:
            kept = all(_of(value) & wanted_types for value in allowed)
        else:
            kept = "type" in old and all(_within(each, wanted_types) for each in _types(old["type"]))
        if not kept:
            yield at, f"type {' or '.join(sorted(_types(new['type'])))}"
    for keyword, sign in (*((each, 1) for each in _LEAST), *((each, -1) for each in _MOST)):
        bound, before = new.get(keyword), old.get(keyword)
        if isinstance(bound, (int, float)) and not (isinstance(before, (int, float)) and before * sign >= bound * sign):
            yield at, f"{keyword} {bound}"


def _allowed(schema: dict[str, Json]) -> list[Json] | None:
    """The only values that it takes, if it lists them."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _types(said: Json) -> frozenset[str]:
    return frozenset(map(str, said)) if isinstance(said, list) else frozenset((str(said),))


def _within(type_: str, wanted: frozenset[str]) -> bool:
    return type_ in wanted or (type_ == "integer" and "number" in wanted)


def _of(value: Json) -> frozenset[str]:
    if isinstance(value, bool):
        return frozenset(("boolean",))
    if isinstance(value, int):
        return frozenset(("integer", "number"))
    word = {type(None): "null", float: "number", str: "string", list: "array", dict: "object"}[type(value)]
    return frozenset((word,))


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _names(value: Json) -> frozenset[str]:
    return frozenset(map(str, value)) if isinstance(value, list) else frozenset()


def _refers(schema: Json) -> bool:
    if isinstance(schema, dict):
        return "$ref" in schema or "$dynamicRef" in schema or any(_refers(each) for each in schema.values())
    return isinstance(schema, list) and any(_refers(each) for each in schema)


def _followed(schema: Json, root: Json) -> Json:
    """The schema behind a `$ref` into the same file that stands alone; anything else stays as it is."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, dict) or schema.keys() - _NOTES != {"$ref"}:
            return schema
        reference = str(schema["$ref"])
        if not reference.startswith("#/"):
            return schema
        target: Json = root
        for step in reference[2:].split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        if target is None:
            return schema
        schema = target
    return schema
