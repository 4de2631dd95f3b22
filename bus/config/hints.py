"""What helps to mend a finding: the part of the contract that speaks of its place, and what may be written there.

All of it is bounded: the first findings get hints, an excerpt has at most 600 bytes, and there are at most eight
alternatives. Agents that make their messages by a model are shown them, so they must fit a prompt.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TypeAlias

import orjson

from bus.config.schema_files import pointer_step
from bus.core.errors import Finding
from bus.core.message import Json

MOST_HINTED = 10
MOST_EXCERPT_BYTES = 600
MOST_ALTERNATIVES = 8
_MOST_LETTERS = 60  # of one alternative
_MOST_FIELDS = 16
_MOST_PARTS = 32  # subschemas that speak of one value
_PLAIN = (
    "type", "const", "format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "description",
)  # fmt: skip

_Part: TypeAlias = "tuple[Json, str]"
"""A subschema, and the file that it stands in."""


def hinted(findings: Sequence[Finding], data: Json, files: Mapping[str, Json]) -> tuple[Finding, ...]:
    """Give findings their excerpts and alternatives.

    Args:
        files: the contract's schema first, then every file that it refers to, by path.
    """
    return tuple(_hinted(each, data, files) if at < MOST_HINTED else each for at, each in enumerate(findings))


def _hinted(finding: Finding, data: Json, files: Mapping[str, Json]) -> Finding:
    parts = _same_value([(next(iter(files.values())), next(iter(files)))], files)
    above: list[_Part] = []
    value: Json = data
    path = [each.replace("~1", "/").replace("~0", "~") for each in finding.pointer.split("/")[1:]]
    there, name = True, ""
    for name in path:
        above, parts = parts, _same_value(list(_below(parts, name, value)), files)
        there = (isinstance(value, dict) and name in value) or (isinstance(value, list) and name.isdigit())
        value = pointer_step(value, name)
    if not path or (there and parts):
        return replace(finding, excerpt=_excerpt(parts, files), alternatives=_values(parts, value))
    if there:  # no such field
        return replace(finding, excerpt=_excerpt(above, files), alternatives=_near(name, _fields(above)))
    return replace(finding, excerpt=_excerpt(parts, files), alternatives=_near(name, _required(above)))


def _same_value(parts: Sequence[_Part], files: Mapping[str, Json]) -> list[_Part]:
    """The subschemas that speak of the same value: what is referred to, and all alternatives."""
    found: list[_Part] = []
    waiting = list(parts)
    while waiting and len(found) < _MOST_PARTS:
        schema, file = waiting.pop(0)
        if not isinstance(schema, dict) or any(schema is each for each, _ in found):
            continue
        found.append((schema, file))
        reference = schema.get("$ref")
        if isinstance(reference, str):
            waiting.append(_referred(reference, file, files))
        for keyword in ("allOf", "anyOf", "oneOf"):
            choices = schema.get(keyword)
            waiting += [(each, file) for each in (choices if isinstance(choices, list) else ())]
    return found


def _referred(reference: str, file: str, files: Mapping[str, Json]) -> _Part:
    name, _, fragment = reference.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(file), name)) if name else file
    schema = files.get(target)
    for step in fragment.split("/")[1:]:
        schema = pointer_step(schema, step.replace("~1", "/").replace("~0", "~"))
    return schema, target


def _below(parts: Sequence[_Part], name: str, value: Json) -> Iterator[_Part]:
    """What speaks of a field or item of the value."""
    for schema, file in parts:
        if not isinstance(schema, dict):
            continue
        fields, more = schema.get("properties"), schema.get("additionalProperties")
        if isinstance(value, list):
            first = schema.get("prefixItems")
            place = int(name) if name.isdigit() else 0
            if isinstance(first, list) and place < len(first):
                yield first[place], file
            elif "items" in schema:
                yield schema["items"], file
        elif isinstance(fields, dict) and name in fields:
            yield fields[name], file
        elif isinstance(more, dict):
            yield more, file


def _fields(parts: Sequence[_Part]) -> list[str]:
    found: dict[str, None] = {}
    for schema, _ in parts:
        fields = schema.get("properties") if isinstance(schema, dict) else None
        found.update(dict.fromkeys(fields if isinstance(fields, dict) else ()))
    return list(found)


def _required(parts: Sequence[_Part]) -> list[str]:
    found: dict[str, None] = {}
    for schema, _ in parts:
        names = schema.get("required") if isinstance(schema, dict) else None
        found.update(dict.fromkeys(map(str, names) if isinstance(names, list) else ()))
    return list(found)


def _near(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """The known names, those like `name` first."""
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    return tuple(each[:_MOST_LETTERS] for each in dict.fromkeys((*near, *known)))[:MOST_ALTERNATIVES]


def _values(parts: Sequence[_Part], value: Json) -> tuple[str, ...]:
    """The values that are listed for this place, as JSON; texts like the one that is there first."""
    listed: list[Json] = []
    for schema, _ in parts:
        if isinstance(schema, dict):
            values = schema.get("enum")
            listed += values if isinstance(values, list) else []
            listed += [schema["const"]] if "const" in schema else []
    texts = [each if isinstance(each, str) else orjson.dumps(each).decode() for each in listed]
    return _near(value, texts) if isinstance(value, str) else _near("", texts)


def _excerpt(parts: Sequence[_Part], files: Mapping[str, Json]) -> str:
    """The first part that says something, cut to what fits; "" when there is none."""
    for schema, file in parts:
        for depth in (2, 1, 0):
            shown = _pruned(schema, file, files, depth)
            text = orjson.dumps(shown).decode()
            if shown and len(text.encode()) <= MOST_EXCERPT_BYTES:
                return text
    return ""


def _pruned(schema: Json, file: str, files: Mapping[str, Json], depth: int) -> Json:
    """A schema as it is, but for what is deep or long."""
    if not isinstance(schema, dict):
        return schema
    shown: dict[str, Json] = {}
    for key in _PLAIN:
        value = schema.get(key)
        if key in schema and (not isinstance(value, str) or depth or key != "description"):
            shown[key] = value[: 2 * _MOST_LETTERS] if isinstance(value, str) else value
    for key, most in (("enum", MOST_ALTERNATIVES), ("required", _MOST_FIELDS)):
        listed = schema.get(key)
        if isinstance(listed, list):
            shown[key] = listed[:most]
    if depth == 0:
        return shown
    inner = _pruned_inside(schema, file, files, depth - 1)
    reference = schema.get("$ref")
    if isinstance(reference, str) and not shown and not inner:
        return _pruned(*_referred(reference, file, files), files, depth - 1)
    return {**shown, **inner}


def _pruned_inside(schema: dict[str, Json], file: str, files: Mapping[str, Json], depth: int) -> dict[str, Json]:
    """What a schema says of parts of the value, and its alternatives."""
    shown: dict[str, Json] = {}
    fields = schema.get("properties")
    if isinstance(fields, dict):
        some = list(fields.items())[:_MOST_FIELDS]
        shown["properties"] = {name[:_MOST_LETTERS]: _pruned(each, file, files, depth) for name, each in some}
    for key in ("items", "additionalProperties"):
        if key in schema:
            shown[key] = _pruned(schema[key], file, files, depth)
    for key in ("anyOf", "oneOf", "allOf"):
        choices = schema.get(key)
        if isinstance(choices, list):
            shown[key] = [_pruned(each, file, files, depth) for each in choices[:MOST_ALTERNATIVES]]
    return shown
