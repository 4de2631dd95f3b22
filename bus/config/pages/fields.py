"""A contract as rows of a table: each field with its type, whether it must be there, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bus.core.message import Json

_DEEPEST = 6  # levels of fields that are shown; the schema itself stands below the table
_LIMITS = {
    "minLength": "length at least {}", "maxLength": "length at most {}", "pattern": "fits {}",
    "minimum": "at least {}", "maximum": "at most {}", "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}", "multipleOf": "a multiple of {}", "minItems": "at least {} items",
    "maxItems": "at most {} items", "format": "{}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldRow:
    """Args:
    path: `customer.name`, `lines[].id`.
    part: name of the part that a reference leads to, or "".
    """

    path: str
    type: str
    required: bool
    doc: str
    part: str = ""


def field_rows(name: str, parts: Mapping[str, Json], root: str) -> tuple[FieldRow, ...]:
    """List the fields of a part. What it refers to inside of itself is followed, other parts are named.

    Args:
        parts: schemas by the name that references give them.
        root: JSON pointer under which references find parts.
    """
    return tuple(_Fields(name, parts[name], f"{root}/").rows(parts[name], "", 0))


@dataclass(frozen=True, slots=True)
class _Fields:
    name: str
    whole: Json
    root: str

    def rows(self, schema: Json, path: str, depth: int) -> Iterable[FieldRow]:
        schema, part = self._followed(schema)
        if not isinstance(schema, dict) or part or depth > _DEEPEST:
            return
        required = schema.get("required")
        properties = schema.get("properties")
        for name, each in properties.items() if isinstance(properties, dict) else ():
            here = f"{path}.{name}" if path else name
            yield self._row(each, here, isinstance(required, list) and name in required)
            yield from self.rows(each, here, depth + 1)
        items = schema.get("items")
        if isinstance(items, dict):
            if not path:
                yield self._row(items, "[]", False)
            yield from self.rows(items, f"{path}[]", depth + 1)
        for keyword in ("allOf", "anyOf", "oneOf"):
            choices = schema.get(keyword)
            for each in choices if isinstance(choices, list) else ():
                yield from self.rows(each, path, depth + 1)

    def _followed(self, schema: Json) -> tuple[Json, str]:
        """What a reference leads to: a schema of this part, or the name of another part."""
        for _ in range(_DEEPEST):
            reference = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(reference, str) or not reference.startswith(self.root):
                return schema, ""
            name, _, pointer = reference.removeprefix(self.root).partition("/")
            if name != self.name or not pointer:
                return schema, name
            schema = self.whole
            for step in pointer.split("/"):
                key = step.replace("~1", "/").replace("~0", "~")
                schema = schema.get(key, True) if isinstance(schema, dict) else True
        return schema, ""

    def _row(self, schema: Json, path: str, required: bool) -> FieldRow:
        schema, part = self._followed(schema)
        if not isinstance(schema, dict):
            return FieldRow(path, "never" if schema is False else "any", required, "")
        said = [str(schema["description"])] if "description" in schema else []
        said += [words.format(schema[key]) for key, words in _LIMITS.items() if key in schema]
        return FieldRow(path, type_words(schema), required, "; ".join(said), part)


def type_words(schema: Json) -> str:
    """The type that a schema asks for, in words."""
    if not isinstance(schema, dict):
        return "any"
    if "const" in schema:
        return f"`{schema['const']}`"
    values = schema.get("enum")
    if isinstance(values, list):
        return "one of " + ", ".join(f"`{each}`" for each in values[:12]) + (", ..." if len(values) > 12 else "")
    kind = schema.get("type")
    if kind == "array":
        inner = type_words(schema.get("items", True))
        return "list" if inner == "any" else f"list of {inner}"
    if isinstance(kind, list):
        return " or ".join(str(each) for each in kind)
    if isinstance(kind, str):
        return kind
    for keyword in ("anyOf", "oneOf"):
        choices = schema.get(keyword)
        if isinstance(choices, list):
            return " or ".join(dict.fromkeys(type_words(each) for each in choices))
    return "object" if "properties" in schema else "any"
