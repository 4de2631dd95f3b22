"""YAML as nodes with positions: the first of the loader's passes, and the only one that knows YAML.

PyYAML's C parser gives events; from them come frozen nodes of our own, because a finding needs to name the place of
every key and value, and because values follow YAML 1.2 (`yes`, `on` and `2024-01-01` are strings). Anchors, aliases,
tags and duplicate keys are refused: each makes a file mean something else than what a reader sees. Nothing here raises
for what stands in a file: what cannot be read becomes a finding, and the documents around it are still read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias, Union

import yaml

from bus.config import yamlfaults
from bus.config.finding import ConfigFinding
from bus.config.marks import Style, align
from bus.config.source import Source
from bus.core.message import Json

MAX_BYTES = 1024 * 1024  # no hand-written file comes near; bounds the time of a load
MAX_DEPTH = 64  # the same as for message bodies

_STYLES: dict[str | None, Style] = {"'": "single", '"': "double", "|": "literal", ">": "folded"}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Json] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_DOCUMENT = re.compile(r"^---(?=\s|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A scalar.

    Args:
        text: its text after unfolding and unescaping.
        value: its YAML 1.2 value; a string unless it is plain.
        broken: it already has a finding; readers pass over it in silence.
    """

    source: Source
    start: int
    end: int
    text: str
    value: Json
    style: Style = "plain"
    broken: bool = False

    def index(self, offset: int = 0) -> int:
        """Index in the file of the character `offset` of `text`; the scalar's start where that cannot be told."""
        places = align(self.source.text, self.start, self.end, self.style, self.text)
        if places is None:
            return self.start
        return places[max(0, min(offset, len(places) - 1))]


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    source: Source
    start: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A mapping; keys are unique and kept in file order."""

    source: Source
    start: int
    pairs: tuple[tuple[Scalar, Node], ...]
    flow: bool = False

    def get(self, key: str) -> Node | None:
        return next((value for name, value in self.pairs if name.text == key), None)

    def key(self, key: str) -> Scalar | None:
        """The node of the key itself, for findings about it."""
        return next((name for name, _ in self.pairs if name.text == key), None)


Node: TypeAlias = Union[Scalar, Sequence, Mapping]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's documents, and for each chunk that could not be read the first key it shows."""

    documents: tuple[Node, ...]
    findings: tuple[ConfigFinding, ...]
    broken: tuple[str, ...] = ()


def parse(path: str, data: bytes) -> Parsed:
    """Read the YAML documents of a file.

    Args:
        path: the file as findings name it.
        data: its bytes.
    """
    if len(data) > MAX_BYTES:
        what = f"the file has {len(data)} bytes, more than {MAX_BYTES}"
        return Parsed((), (ConfigFinding(path, 1, 1, "too-big", what, "several files"),), ("",))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Parsed((), (ConfigFinding(path, line, 1, "not-utf8", "the file is not UTF-8", "it as UTF-8"),), ("",))
    source = Source(path, text)
    character = yamlfaults.bad_character(source)
    if character is not None:
        return Parsed((), (character,), ("",))
    whole = _Composer(source)
    fault = whole.read(0, len(text))
    if fault is None:
        return Parsed(tuple(whole.documents), tuple(whole.findings))
    return _parse_apart(source)


def _parse_apart(source: Source) -> Parsed:
    """Read document by document, so that one syntax error does not hide the others."""
    cuts = sorted({0, *(match.start() for match in _DOCUMENT.finditer(source.text)), len(source.text)})
    composer = _Composer(source)
    broken: list[str] = []
    for start, end in pairwise(cuts):
        kept = len(composer.documents)
        fault = composer.read(start, end)
        if fault is not None:
            place = (fault.line, fault.col)
            composer.findings = [each for each in composer.findings if (each.line, each.col) != place]
            composer.findings.append(fault)
            broken.append(yamlfaults.first_key(source.text[start:end]))
            del composer.documents[kept:]
    return Parsed(tuple(composer.documents), tuple(composer.findings), tuple(broken))


class _TooDeep(Exception):
    """The author's fault: nesting beyond MAX_DEPTH; carries the index of where."""


@dataclass(slots=True)
class _Composer:
    """Builds nodes from parser events. `base` shifts the marks of a chunk to the whole file."""

    source: Source
    documents: list[Node] = field(default_factory=list)
    findings: list[ConfigFinding] = field(default_factory=list)
    base: int = 0

    def read(self, start: int, end: int) -> ConfigFinding | None:
        """Read the documents between two indices; return the fault that stopped it, if any."""
        self.base = start
        try:
            events = yaml.parse(self.source.text[start:end], Loader=yaml.CSafeLoader)
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    node = self._node(next(events), events, 0)
                    if not (isinstance(node, Scalar) and node.value is None and not node.broken):
                        self.documents.append(node)
        except _TooDeep as error:
            at = int(error.args[0])
            return self.source.finding(at, "too-deep", f"nested deeper than {MAX_DEPTH} levels", "it flatter")
        except yaml.YAMLError as error:
            return yamlfaults.explain(self.source, start, error)
        return None

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        start = event.start_mark.index + self.base
        if depth > MAX_DEPTH:
            raise _TooDeep(start)
        if isinstance(event, yaml.AliasEvent):
            what = f"`*{yamlfaults.clip(str(event.anchor))}` is a YAML alias"
            return self._refused(event, "yaml-alias", what, "the value itself")
        if event.anchor is not None:
            what = f"`&{yamlfaults.clip(event.anchor)}` is a YAML anchor"
            self._refused(event, "yaml-alias", what, "the value without it")
        if event.tag is not None and not isinstance(event, yaml.ScalarEvent):
            self._refused(event, "yaml-tag", f"`{yamlfaults.clip(event.tag)}` is a YAML tag", "the value without it")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(each := next(events), yaml.SequenceEndEvent):
                items.append(self._node(each, events, depth + 1))
            return Sequence(self.source, start, tuple(items))
        return self._mapping(event, events, depth)

    def _mapping(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        start = event.start_mark.index + self.base
        pairs: dict[str, tuple[Scalar, Node]] = {}
        brace = False
        while not isinstance(each := next(events), yaml.MappingEndEvent):
            key = self._node(each, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar):
                brace = brace or (bool(event.flow_style) and isinstance(key, Mapping) and key.flow)
                if not brace:
                    what = "a key is a list or a mapping"
                    self.findings.append(self.source.finding(key.start, "bad-key", what, "a plain name"))
            elif key.text in pairs:
                self.findings.append(yamlfaults.duplicate(self.source, pairs[key.text][0].start, key.start, key.text))
            elif not key.broken:
                pairs[key.text] = (key, value)
        if brace:
            end = _index(each.end_mark) + self.base
            self.findings.append(yamlfaults.brace(self.source, start, end))
            return Scalar(self.source, start, end, "", None, broken=True)
        return Mapping(self.source, start, tuple(pairs.values()), bool(event.flow_style))

    def _scalar(self, event: Any) -> Scalar:
        start, end = event.start_mark.index + self.base, event.end_mark.index + self.base
        if event.tag is not None:
            self.findings.append(yamlfaults.tag(self.source, start, event.tag))
            return Scalar(self.source, start, end, "", None, broken=True)
        style = _STYLES.get(event.style or None, "plain")
        value, problem = _resolve(event.value) if style == "plain" else (event.value, "")
        if problem:
            self.findings.append(self.source.finding(start, "number-range", problem, f'`"{event.value[:40]}"`'))
        return Scalar(self.source, start, end, event.value, value, style)

    def _refused(self, event: Any, code: str, what: str, instead: str) -> Scalar:
        start, end = event.start_mark.index + self.base, event.end_mark.index + self.base
        self.findings.append(self.source.finding(start, code, what, instead))
        return Scalar(self.source, start, end, "", None, broken=True)


def _index(mark: Any) -> int:
    return int(mark.index)


def _resolve(text: str) -> tuple[Json, str]:
    """Read a plain scalar by the core schema of YAML 1.2; the second is what is wrong with it, or ""."""
    if text in _WORDS:
        return _WORDS[text], ""
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        if len(text) > 25 or not -(2**63) <= (number := int(text, base)) < 2**63:
            return text, "the number needs more than 64 bits"
        return number, ""
    if _SPECIAL.fullmatch(text):
        return text, f"JSON has no `{text}`"
    if _FLOAT.fullmatch(text):
        real = float(text)
        return (text, "the number is too large") if real in (float("inf"), float("-inf")) else (real, "")
    return text, ""


def to_json(node: Node) -> Json:
    """The plain value of a node."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [to_json(each) for each in node.items]
    return {key.text: to_json(value) for key, value in node.pairs}
