"""Routes as people draw them: steps with their branches, and where messages go.

A compiled route is closures, so the sketch is made of the documents, read along the shapes of the steps' specs: every
nested flow becomes a branch, every target an arrow, and what the author wrote in a line becomes the step's text. A step
that comes later is drawn without a word about it here; a new shape is a line in `_Walk.visit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from bus.config.nodes import MAX_BYTES, parse, to_json
from bus.core.message import Json
from bus.core.spec import (
    Choice,
    Duration,
    Expr,
    FlowShape,
    Integer,
    Leaves,
    ListOf,
    MapOf,
    Number,
    PathTo,
    Rate,
    Record,
    SchemaFile,
    Shape,
    Size,
    Spec,
    TableFile,
    TargetShape,
    TemplateFile,
    Text,
)

TARGET_KINDS = ("agent", "capability", "event", "reply")
_WORDS = (Expr, PathTo, SchemaFile, TemplateFile, TableFile, Text, Integer, Number, Choice, Duration, Rate, Size)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A target.

    Args:
        label: the branch that it belongs to, or "".
        choice: which of the agents may have it, or "".
    """

    kind: str
    name: str
    label: str = ""
    choice: str = ""

    def __str__(self) -> str:
        label = f"{self.label}: " if self.label else ""
        return f"{label}{self.kind} {self.name}" + (f" with {self.choice}" if self.choice else "")


@dataclass(frozen=True, slots=True)
class Sketch:
    """A flow: steps, then arrows."""

    steps: tuple[Block, ...] = ()
    to: tuple[Arrow, ...] = ()

    def arrows(self) -> Iterable[Arrow]:
        """All arrows of it and of its branches, in order."""
        for step in self.steps:
            yield from step.arrows
            for branch in step.branches:
                yield from branch.flow.arrows()
        yield from self.to


@dataclass(frozen=True, slots=True)
class Branch:
    """One way through a step: its label (a condition, a name) and its flow."""

    label: str
    flow: Sketch


@dataclass(frozen=True, slots=True)
class Block:
    """A step: its kind, what it says in a line, its condition or "", its branches and its own arrows."""

    kind: str
    text: str
    when: str
    branches: tuple[Branch, ...] = ()
    arrows: tuple[Arrow, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteSketch:
    """A route.

    Args:
        name: `integration/route`.
        types: what it matches.
        when: with its source, or "".
    """

    name: str
    types: tuple[str, ...]
    when: str
    observe: bool
    flow: Sketch
    description: str = ""

    def arrows(self) -> Iterable[Arrow]:
        return self.flow.arrows()


def sketches(files: Iterable[Path], steps: Mapping[str, Spec]) -> tuple[RouteSketch, ...]:
    """Sketch every route of a configuration that has been loaded without errors.

    Args:
        files: its files; those that are no YAML are passed over.
    """
    routes: list[tuple[str, dict[str, Json]]] = []
    fragments: dict[str, dict[str, Json]] = {}
    for path in files:
        if path.suffix != ".yaml":
            continue
        with path.open("rb") as file:
            documents = parse(str(path), file.read(MAX_BYTES + 1)).documents
        for document in (_mapping(to_json(node)) for node in documents):
            kind = next(iter(document), "")
            if kind in ("route", "process"):
                routes.append((path.resolve().parent.name, document))
            elif kind == "fragment":
                fragments[str(document["fragment"])] = document
    known = _Known(steps, fragments)
    return tuple(_route(document, integration, known) for integration, document in routes)


@dataclass(frozen=True, slots=True)
class _Known:
    """Args:
    fragments: their documents, by name; they are drawn where they are used.
    """

    steps: Mapping[str, Spec]
    fragments: Mapping[str, dict[str, Json]]


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _route(document: dict[str, Json], integration: str, known: _Known) -> RouteSketch:
    match = _mapping(document.get("match"))
    conditions = [f"source {match['source']}"] if "source" in match else []
    conditions += [_line(match["when"])] if "when" in match else []
    flow = _flow(document, known)
    rules = tuple(_rules(document.get("on_error"), known))
    if rules:
        flow = Sketch((*flow.steps, Block("on_error", "", "", rules)), flow.to)
    return RouteSketch(
        f"{integration}/{document.get('route', document.get('process'))}",
        tuple(str(each) for each in _list(match.get("type"))),
        ", ".join(conditions),
        document.get("observe") is True,
        flow,
        str(document.get("description", "")),
    )


def _flow(document: dict[str, Json], known: _Known) -> Sketch:
    blocks = tuple(_block(_mapping(each), known) for each in _list(document.get("steps")))
    return Sketch(blocks, tuple(arrow for each in _list(document.get("to")) for arrow in _arrow(each, "")))


def _arrow(value: Json, label: str) -> list[Arrow]:
    """The arrows of a target: one, or one for each name that the message may give."""
    body = _mapping(value)
    kind = next((kind for kind in TARGET_KINDS if kind in body), None)
    names = [] if kind is None else _list(body["allow"] if "allow" in body else body[kind])
    chosen = [f"version {body['version']}"] if "version" in body else []
    chosen += [f"{key} {' or '.join(map(_line, _list(value)))}" for key, value in _mapping(body.get("where")).items()]
    return [Arrow(str(kind), str(name), label, ", ".join(chosen)) for name in names]


def _block(body: dict[str, Json], known: _Known) -> Block:
    kind = next((key for key in body if key in known.steps), next(iter(body), ""))
    value = body.get(kind)
    walk = _Walk(known)
    if kind in known.steps:
        walk.visit(known.steps[kind].shape, value, "")
    if kind == "use":
        fragment = str(_mapping(value).get("fragment", ""))
        walk.branches.append(Branch(fragment, _flow(known.fragments.get(fragment, {}), known)))
    walk.branches += _rules(body.get("on_error"), known)
    text = ", ".join(_words(known.steps[kind].shape, value)) if kind in known.steps else ""
    return Block(kind, _line(text), _line(body.get("when", "")), tuple(walk.branches), tuple(walk.arrows))


def _rules(value: Json, known: _Known) -> Iterable[Branch]:
    """Error rules as branches: what follows after which failure."""
    for each in _list(value):
        rule = _mapping(each)
        classes = ", ".join(str(one) for one in _list(rule.get("class"))) or "any failure"
        then = rule.get("then")
        label = f"on {classes}" + (f" when {_line(rule['when'])}" if "when" in rule else "")
        if isinstance(then, dict):
            yield Branch(label, _flow(then, known))
        else:
            yield Branch(f"{label}: {then}", Sketch())


class _Walk:
    """Finds the branches and arrows under a step's key, along its shape."""

    def __init__(self, known: _Known) -> None:
        self.known = known
        self.branches: list[Branch] = []
        self.arrows: list[Arrow] = []

    def visit(self, shape: Shape, value: Json, label: str) -> None:
        """Take in a value; `label` says in words which part of the step it is."""
        match shape:
            case ListOf(item=item):
                for each in _list(value):
                    self.visit(item, each, label)
            case MapOf(value=inner):
                for key, each in _mapping(value).items():
                    self.visit(inner, each, key)
            case TargetShape(flow=flow):
                self._target(_mapping(value), label, flow)
            case FlowShape():
                self.branches.append(Branch(label, _flow(_mapping(value), self.known)))
            case Record():
                self._record(shape, _mapping(value), label)
            case Expr() | Leaves() | PathTo() | SchemaFile() | TemplateFile() | TableFile():
                return  # no way through the step
            case Text() | Integer() | Number() | Choice() | Duration() | Rate() | Size():
                return
            case _:
                assert_never(shape)

    def _target(self, value: dict[str, Json], label: str, flow: bool) -> None:
        condition = f" when {_line(value['when'])}" if "when" in value else ""
        if flow and "steps" in value:
            self.branches.append(Branch(f"{label}{condition}", _flow(value, self.known)))
        else:
            self.arrows += _arrow(value, f"{label}{condition}".strip())

    def _record(self, shape: Record, value: dict[str, Json], label: str) -> None:
        if shape.flow:
            condition = next((name for name, each in shape.fields.items() if isinstance(each.shape, Expr)), None)
            said = _line(value[condition]) if condition in value else ""
            words = f"{condition} {said}" if said else ""
            self.branches.append(Branch(": ".join(filter(None, (label, words))), _flow(value, self.known)))
        for name, field in shape.fields.items():
            if name in value:
                # A list of cases is told apart by its conditions, a flow by its key.
                self.visit(field.shape, value[name], name if isinstance(field.shape, FlowShape) else "")


def _words(shape: Shape, value: Json) -> Iterable[str]:
    """What a step says in a line: its expressions, paths, files and words, not its values and flows."""
    match shape:
        case Record(fields=fields) | TargetShape(fields=fields):
            for name, field in fields.items():
                inner = _mapping(value).get(name)
                if inner is not None and isinstance(field.shape, _WORDS):
                    yield f"{name} {inner}"
                elif isinstance(inner, dict) and isinstance(field.shape, Record):
                    yield " ".join(
                        [name, *(str(each) for each in inner.values() if not isinstance(each, (list, dict)))]
                    )
        case MapOf(keys="path"):
            yield from _mapping(value)
        case ListOf(item=item) if isinstance(item, _WORDS):
            yield from (str(each) for each in _list(value))
        case _ if isinstance(shape, _WORDS):
            yield str(value)


def _line(value: Json) -> str:
    """On one line."""
    text = "true" if value is True else "false" if value is False else str(value)
    return " ".join(text.split())


__all__ = ["Arrow", "Block", "Branch", "RouteSketch", "Sketch", "sketches"]
