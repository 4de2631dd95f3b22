"""Contracts as parts of one document: every file is a part of its own, and references lead to parts.

A part is named by its folder and file, `customer_service.inquiry.v1`, since two integrations may each have an
`inquiry.v1`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from bus.core.message import Json

_VALUES = ("const", "default", "enum", "examples")  # what stands below is data, not schema


@dataclass(slots=True)
class SchemaParts:
    """Args:
    root: JSON pointer of the object that holds the parts.
    """

    root: str
    parts: dict[str, Json] = field(default_factory=dict)
    _names: dict[Path, str] = field(default_factory=dict)

    def ref(self, path: Path) -> dict[str, Json]:
        """A reference to a file's part, which is made with all that it refers to."""
        return {"$ref": f"{self.root}/{self._name(path)}"}

    def _name(self, path: Path) -> str:
        path = path.resolve()
        if path not in self._names:
            folder = path.parent.parent if path.parent.name == "schemas" else path.parent
            wanted = name = f"{folder.name}.{path.name.removesuffix('.json')}"
            while name in self.parts:
                name = f"{wanted}-{len(self.parts)}"
            self._names[path] = name
            self.parts[name] = True  # holds the place: files may refer to each other
            schema: Json = json.loads(path.read_text(encoding="utf-8"))
            self.parts[name] = self._rewritten(schema, path, name, schema)
        return self._names[path]

    def _rewritten(self, value: Json, path: Path, name: str, whole: Json) -> Json:
        if isinstance(value, list):
            return [self._rewritten(each, path, name, whole) for each in value]
        if not isinstance(value, dict):
            return value
        found: dict[str, Json] = {}
        for key, inner in value.items():
            if key in ("$schema", "$id", "$anchor"):
                continue  # they speak of the file that it was
            if key == "$ref" and isinstance(inner, str):
                found[key] = self._target(inner, path, name, whole)
            else:
                found[key] = inner if key in _VALUES else self._rewritten(inner, path, name, whole)
        return found

    def _target(self, reference: str, path: Path, name: str, whole: Json) -> str:
        file, _, fragment = unquote(reference).partition("#")
        if file:
            other = (path.parent / file).resolve()
            name, whole = self._name(other), json.loads(other.read_text(encoding="utf-8"))
        if fragment and not fragment.startswith("/"):
            fragment = _anchor(whole, fragment, "") or ""
        return f"{self.root}/{name}{fragment}"


def _anchor(value: Json, anchor: str, at: str) -> str | None:
    """JSON pointer of the subschema with an `$anchor`."""
    if isinstance(value, dict):
        if value.get("$anchor") == anchor:
            return at
        inner = [(f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}", each) for key, each in value.items()]
    else:
        inner = [(f"{at}/{n}", each) for n, each in enumerate(value)] if isinstance(value, list) else []
    return next((found for place, each in inner if (found := _anchor(each, anchor, place)) is not None), None)
