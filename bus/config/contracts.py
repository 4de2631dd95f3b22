"""Contracts: JSON Schemas that say every failing field.

jsonschema-rs validates: draft 2020-12 unless `$schema` names another, formats asserted, nothing fetched
(`schema_files` answers for references and refuses all that leave the folder). Patterns run on its linear-time regex
engine, so `^(a+)+$` is harmless; the price is that look-around and back-references are refused at load. Its
`uniqueItems` hashes, and in recursion it remembers what it has checked. What is left is bounded here: a schema that
multiplies itself through references is refused at load, and a deep value that breaks a recursive schema with
alternatives is told as a whole, since naming its fields would take exponential time.

A message that keeps its contract costs one `is_valid`. Only a broken one is looked at twice, to name each field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeAlias
from urllib.parse import unquote, urljoin

import jsonschema_rs

from bus.config.breaches import MAX_FINDINGS, findings
from bus.config.hints import hinted
from bus.config.problem import Found, Problem
from bus.config.schema_files import SchemaFiles, pointer_step
from bus.config.schema_types import from_schema
from bus.config.types import Type
from bus.core.errors import Finding
from bus.core.message import Json

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
_MAX_APPLIED = 10_000  # subschemas that may apply to one value
_MAX_BRANCHES = 50_000  # alternatives that may be tried to say what fails; a fraction of a second
_LISTS, _SINGLES = ("allOf", "anyOf", "oneOf"), ("not", "if", "then", "else")


class Retrieve(Protocol):
    """Gives the schema behind a URI, or raises ValueError."""

    def __call__(self, uri: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class LoadedContract:
    """A contract from a file; it is a `bus.core.expression.Contract`.

    Args:
        name: the file's name without `.json`, e.g. `inquiry.v1`.
        type: static type of what it accepts.
        path: the file.
        files: it and every file that it refers to, by their path below the folder.
    """

    name: str
    type: Type
    path: Path
    files: Mapping[str, Json] = field(repr=False)
    _validator: Any = field(repr=False)
    _branches: bool = False
    sources: tuple[str, Mapping[str, Json]] = field(default=("", MappingProxyType({})), repr=False)
    """Its URI, and all its files by theirs."""

    @property
    def schema(self) -> Json:
        """The schema as it is written."""
        return next(iter(self.files.values()))

    def check(self, data: Json) -> tuple[Finding, ...]:
        """Return every failing field (the first hundred), or () when `data` keeps the contract."""
        try:
            if self._validator.is_valid(data):
                return ()
            if self._branches and _too_large(data):
                return (Finding("", f"what {self.name} describes", "a value too deep to be told field by field"),)
            found = findings(self._validator.iter_errors(data), data, self.type)[:MAX_FINDINGS]
            return hinted(found, data, self.files)
        except (ValueError, TypeError, OverflowError) as error:
            return (Finding("", f"what {self.name} describes", f"a value that cannot be checked: {str(error)[:80]}"),)


def load_contract(path: Path, root: Path) -> LoadedContract | tuple[Problem, ...]:
    """Load a contract and every file that it refers to.

    Args:
        path: the schema file, absolute or relative to `root`.
        root: folder that no reference may leave.

    Returns:
        The contract, or its problems: `missing-file`, `not-json` and the other codes of strict JSON, `bad-schema`,
        `remote-ref`; offsets are in the text of `Problem.file`.
    """
    files = SchemaFiles(root)
    try:
        uri, schema = files.read(path)
        path = (root / path).resolve()
        name = path.name.removesuffix(".json")
        validator = _compile(files, uri, schema, path)
        _refuse_explosion(files, uri, schema, path)
        resolve = _resolver(files)
        type_, branches = from_schema(schema, uri, name, resolve), _branches_again(schema, uri, resolve)
        sources = uri, files.by_uri()
        return LoadedContract(name, type_, path, files.contents(), validator, branches, sources)
    except Found as found:
        return found.problems


def build_validator(schema: Any, retrieve: Retrieve, base_uri: str, *, formats: bool = True) -> Any:
    """Compile a schema with our settings; `formats` asserts `format`, as every contract does.

    Raises:
        ValueError: it is no valid schema, or a reference could not be followed.
    """
    return jsonschema_rs.validator_for(
        schema, retriever=retrieve, base_uri=base_uri, validate_formats=formats, pattern_options=_PATTERNS
    )


def _compile(files: SchemaFiles, uri: str, schema: Json, path: Path) -> Any:
    try:
        return build_validator(schema, files.retrieve, uri)
    except ValueError as error:
        if files.refused:
            raise Found(*files.refused) from error
        steps = tuple(getattr(error, "instance_path", ()))
        where = "/".join(map(str, steps))
        what = f"{path.name}: {_first_line(str(error))}" + (f", at /{where}" if where else "")
        instead = "a pattern without look-around or back-reference" if '"regex"' in what else "a JSON Schema (2020-12)"
        raise Found(Problem(files.locate(uri, steps), "bad-schema", what, instead, file=path)) from error


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else "no valid schema"


# --- references ---------------------------------------------------------------------------------------------------


def _resolver(files: SchemaFiles) -> Any:
    def resolve(reference: str, base: str) -> tuple[str, Json] | None:
        target, _, fragment = urljoin(base, reference).partition("#")
        schema = files.schema(target)
        for step in re.split("/", fragment)[1:] if fragment.startswith("/") else ():
            schema = pointer_step(schema, unquote(step).replace("~1", "/").replace("~0", "~"))
        if schema is None or (fragment and not fragment.startswith("/")):
            return None
        return target, schema

    return resolve


_Seen: TypeAlias = "dict[int, int]"


def _refuse_explosion(files: SchemaFiles, uri: str, schema: Json, path: Path) -> None:
    """Refuse schemas of which too much applies to one value, or that refer to themselves without going into a field."""
    resolve, counts = _resolver(files), dict[int, int]()

    def refuse(what: str, instead: str, at: tuple[str | int, ...]) -> NoReturn:
        raise Found(Problem(files.locate(uri, at), "bad-schema", what, instead, file=path))

    def applied(part: Json, base: str, above: frozenset[int], at: tuple[str | int, ...]) -> int:
        if not isinstance(part, dict):
            return 1
        key = id(part)
        if key in above:
            refuse(f"{path.name} refers to itself without end", "a `$ref` below a field", at)
        if key not in counts:
            inner = above | {key}
            total = 1
            for each, its_base in _same_value(part, base, resolve):
                total += applied(each, its_base, inner, at)
            counts[key] = min(total, _MAX_APPLIED + 1)
        return counts[key]

    stack: list[tuple[Json, tuple[str | int, ...]]] = [(schema, ())]
    visited = set[int]()
    while stack:
        part, at = stack.pop()
        if id(part) in visited or not isinstance(part, (dict, list)):
            continue
        visited.add(id(part))
        if isinstance(part, dict) and applied(part, uri, frozenset(), at) > _MAX_APPLIED:
            what = f"{path.name}: more than {_MAX_APPLIED} subschemas apply to one value"
            refuse(what, "fewer references to the same parts", at)
        steps = part.items() if isinstance(part, dict) else enumerate(part)
        stack.extend((each, (*at, step)) for step, each in steps)


def _branches_again(schema: Json, uri: str, resolve: Any) -> bool:
    """Tell whether the schema has alternatives and leads back to itself: naming what fails may take 2**depth steps."""
    alternatives = recursion = False
    entered, left = set[int](), set[int]()
    stack: list[tuple[Json, str, bool]] = [(schema, uri, False)]
    while stack:
        part, base, done = stack.pop()
        if not isinstance(part, (dict, list)):
            continue
        if done:
            left.add(id(part))
        elif id(part) in entered:
            recursion = recursion or id(part) not in left
        else:
            entered.add(id(part))
            stack.append((part, base, True))
            stack.extend((each, base, False) for each in (part.values() if isinstance(part, dict) else part))
            if isinstance(part, dict):
                alternatives = alternatives or "anyOf" in part or "oneOf" in part
                recursion = recursion or "$dynamicRef" in part
                target = resolve(part["$ref"], base) if isinstance(part.get("$ref"), str) else None
                stack.extend([(target[1], target[0], False)] if target else [])
    return alternatives and recursion


def _too_large(data: Json) -> bool:
    """Tell whether naming each field of `data` could take long with a schema that branches at every level."""
    level, nodes, depth = [data], 1, 0
    while level and nodes * 3**depth <= _MAX_BRANCHES:
        inner: list[Json] = []
        for each in level:
            if isinstance(each, (dict, list)):
                inner.extend(each.values() if isinstance(each, dict) else each)
        level, nodes, depth = inner, nodes + len(inner), depth + 1
    return bool(level)


def _same_value(part: dict[str, Json], base: str, resolve: Any) -> list[tuple[Json, str]]:
    """Return the subschemas that apply to the same value as `part`."""
    found: list[tuple[Json, str]] = []
    reference = part.get("$ref")
    if isinstance(reference, str):
        target = resolve(reference, base)
        if target:
            found.append((target[1], target[0]))
    for keyword in _LISTS:
        choices = part.get(keyword)
        found.extend((each, base) for each in (choices if isinstance(choices, list) else ()))
    found.extend((part[keyword], base) for keyword in _SINGLES if keyword in part)
    dependent = part.get("dependentSchemas")
    found.extend((each, base) for each in (dependent.values() if isinstance(dependent, dict) else ()))
    return found
