"""Reads JSON Schema files: strictly, each once, and only from below one folder.

References are resolved against the file that they stand in. Whatever points anywhere else is refused, so that a
contract is what the folder says and nothing is ever fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import orjson

from bus.config import nodes
from bus.config.problem import Found, Problem, did_you_mean
from bus.core import strict_json
from bus.core.errors import Refused
from bus.core.facts import Limits
from bus.core.message import Json

_LIMITS = Limits(body_bytes=1 << 20, depth=64)
_REFERENCE = re.compile(r'"\$(?:dynamicRef|ref)"\s*:\s*("(?:[^"\\]|\\.)*")')

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')  # and strings, so that brackets in them are passed over


def pointer_step(value: Json, step: str) -> Json:
    """Follow one step of a JSON pointer; None when there is nothing."""
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdigit() and int(step) < len(value):
        return value[int(step)]
    return None


class SchemaFiles:
    """Schema files below `root`, by their file URI."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._texts: dict[str, str] = {}
        self._schemas: dict[str, Json] = {}
        self._refused: list[Problem] = []

    def read(self, path: Path) -> tuple[str, Json]:
        """Return a file's URI and content.

        Raises:
            Found: it is missing, outside of the folder, or no strict JSON.
        """
        path = (self._root / path).resolve()
        if not path.is_relative_to(self._root):
            raise Found(
                Problem(0, "missing-file", f"{path.name} is outside of this folder", "a path below it", file=path)
            )
        uri = path.as_uri()
        if uri not in self._schemas:
            self._schemas[uri] = self._load(path, uri)
        return uri, self._schemas[uri]

    def _load(self, path: Path, uri: str) -> Json:
        try:
            body = path.read_bytes()
        except OSError as error:
            near = [each.name for each in path.parent.glob("*.json")] if path.parent.is_dir() else []
            close = did_you_mean(path.name, near)
            shown = path.relative_to(self._root)
            instead = f"`{shown.with_name(close)}`" if close else "a schema file that exists"
            raise Found(Problem(0, "missing-file", f"there is no file {shown}", instead, file=path)) from error
        try:
            schema = strict_json.parse(body, _LIMITS)
        except Refused as refused:
            offset = _offset(body, refused)
            reason = refused.reason.removeprefix("the body is not JSON: ")
            raise Found(Problem(offset, refused.code, f"{path.name}: {reason}", file=path)) from refused
        if not isinstance(schema, (dict, bool)):
            at = len(body) - len(body.lstrip())
            raise Found(Problem(at, "bad-schema", f"{path.name} holds no schema", "a JSON object", file=path))
        self._texts[uri] = body.decode()
        return schema

    def retrieve(self, uri: str) -> Json:
        """Give the validator a referenced file; what may not be read is remembered for `refused`.

        Raises:
            ValueError: the reference is not to a file below the folder.
        """
        parts = urlsplit(uri)
        if parts.scheme != "file":
            self._refused.append(
                self._at(uri, "remote-ref", f"`{uri}` is not in this folder", "the path of a file here")
            )
            raise ValueError(f"{uri} is remote")
        try:
            return self.read(Path(unquote(parts.path)))[1]
        except Found as found:
            problem = found.problems[0]
            code = "remote-ref" if "outside" in problem.what else problem.code
            at = self._at(uri, code, problem.what, problem.instead)
            self._refused.append(problem if problem.code not in ("missing-file",) else at)
            raise ValueError(problem.what) from found

    @property
    def refused(self) -> tuple[Problem, ...]:
        """References that could not be followed."""
        return tuple(dict.fromkeys(self._refused))

    def schema(self, uri: str) -> Json:
        """Return a file that has been read; None when it has not."""
        return self._schemas.get(uri)

    def contents(self) -> dict[str, Json]:
        """All files that have been read, by their path below the folder, in the order of reading."""
        paths = ((Path(unquote(urlsplit(uri).path)), schema) for uri, schema in self._schemas.items())
        return {path.relative_to(self._root).as_posix(): schema for path, schema in paths}

    def by_uri(self) -> dict[str, Json]:
        """All files that have been read, by their URIs."""
        return dict(self._schemas)

    def locate(self, uri: str, path: Iterable[str | int]) -> int:
        """Return where a path of keys and indexes leads in a file's text: to its last key, or its last item."""
        documents = nodes.parse(uri, self._texts.get(uri, "").encode()).documents  # JSON is YAML
        node = documents[0] if documents else None
        at = 0 if node is None else node.start
        for step in path:
            if isinstance(node, nodes.Mapping) and (key := node.key(str(step))) is not None:
                at, node = key.start, node.get(str(step))
            elif isinstance(node, nodes.Sequence) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
                at = node.start
            else:
                break
        return at

    def _at(self, uri: str, code: str, what: str, instead: str) -> Problem:
        """Find the `$ref` that led to `uri`."""
        for file, text in self._texts.items():
            for found in _REFERENCE.finditer(text):
                target = str(orjson.loads(found[1])).partition("#")[0]
                if target and uri.endswith(target.lstrip("./")):
                    return Problem(found.start(), code, what, instead, file=Path(unquote(urlsplit(file).path)))
        return Problem(0, code, what, instead)


def _offset(body: bytes, refused: Refused) -> int:
    """Return the character at which strict JSON ended."""
    if refused.code == "not-utf8":
        return body.decode(errors="replace").index("\ufffd")
    cause = refused.__cause__
    if isinstance(cause, orjson.JSONDecodeError):
        return cause.pos
    if refused.code == "too-deep":
        return _depth_passed(body.decode())
    named = {"duplicate-key": r'"(?:[^"\\]|\\.)*"', "number-too-big": r"-?[0-9]{16,}"}.get(refused.code)
    found = re.search(named, refused.reason) if named else None
    return max(body.decode().rfind(found[0]), 0) if found else 0


def _depth_passed(text: str) -> int:
    """Return the bracket that opens one level too many."""
    depth = 0
    for token in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > _LIMITS.depth:
            return token.start()
    return 0
