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

from bus.config.nodes import MAX_BYTES, Node, parse, to_json
from bus.config.nodes import Mapping as MappingNode
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
_WORDS = (Expr, PathTo, SchemaFile, TemplateFile, Text, Integer, Choice, Duration, Size)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A target: its kind and name, and the name of the branch that it belongs to, or ""."""

    kind: str
    name: str
    label: str = ""


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
    found: list[RouteSketch] = []
    for path in files:
        if path.suffix != ".yaml":
            continue
        with path.open("rb") as file:
            documents = parse(str(path), file.read(MAX_BYTES + 1)).documents
        integration = path.resolve().parent.name
        found += [_route(_mapping(to_json(node)), integration, steps) for node in documents if _is_route(node)]
    return tuple(found)


def _is_route(node: Node) -> bool:
    return isinstance(node, MappingNode) and bool(node.pairs) and node.pairs[0][0].text in ("route", "process")


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _route(document: dict[str, Json], integration: str, steps: Mapping[str, Spec]) -> RouteSketch:
    match = _mapping(document.get("match"))
    conditions = [f"source {match['source']}"] if "source" in match else []
    conditions += [_line(match["when"])] if "when" in match else []
    flow = _flow(document, steps)
    rules = tuple(_rules(document.get("on_error"), steps))
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


def _flow(document: dict[str, Json], steps: Mapping[str, Spec]) -> Sketch:
    blocks = tuple(_block(_mapping(each), steps) for each in _list(document.get("steps")))
    return Sketch(blocks, tuple(arrow for each in _list(document.get("to")) for arrow in _arrow(each, "")))


def _arrow(value: Json, label: str) -> list[Arrow]:
    body = _mapping(value)
    return [Arrow(kind, str(body[kind]), label) for kind in TARGET_KINDS if kind in body][:1]


def _block(body: dict[str, Json], steps: Mapping[str, Spec]) -> Block:
    kind = next((key for key in body if key in steps), next(iter(body), ""))
    value = body.get(kind)
    walk = _Walk(steps)
    if kind in steps:
        walk.visit(steps[kind].shape, value, "")
    for rule in _rules(body.get("on_error"), steps):
        walk.branches.append(rule)
    text = ", ".join(_words(steps[kind].shape, value)) if kind in steps else ""
    return Block(kind, _line(text), _line(body.get("when", "")), tuple(walk.branches), tuple(walk.arrows))


def _rules(value: Json, steps: Mapping[str, Spec]) -> Iterable[Branch]:
    """Error rules as branches: what follows after which failure."""
    for each in _list(value):
        rule = _mapping(each)
        classes = ", ".join(str(one) for one in _list(rule.get("class"))) or "any failure"
        then = rule.get("then")
        label = f"on {classes}" + (f" when {_line(rule['when'])}" if "when" in rule else "")
        if isinstance(then, dict):
            yield Branch(label, _flow(then, steps))
        else:
            yield Branch(f"{label}: {then}", Sketch())


class _Walk:
    """Finds the branches and arrows under a step's key, along its shape."""

    def __init__(self, steps: Mapping[str, Spec]) -> None:
        self.steps = steps
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
                self.branches.append(Branch(label, _flow(_mapping(value), self.steps)))
            case Record():
                self._record(shape, _mapping(value), label)
            case (
                Leaves()
                | Expr()
                | PathTo()
                | SchemaFile()
                | TemplateFile()
                | TableFile()
                | Number()
                | Text()
                | Integer()
                | Choice()
                | Duration()
                | Size()
            ):
                return  # no way through the step
            case _:
                assert_never(shape)

    def _target(self, value: dict[str, Json], label: str, flow: bool) -> None:
        condition = f" when {_line(value['when'])}" if "when" in value else ""
        if flow and "steps" in value:
            self.branches.append(Branch(f"{label}{condition}", _flow(value, self.steps)))
        else:
            self.arrows += _arrow(value, f"{label}{condition}".strip())

    def _record(self, shape: Record, value: dict[str, Json], label: str) -> None:
        if shape.flow:
            condition = next((name for name, each in shape.fields.items() if isinstance(each.shape, Expr)), None)
            said = _line(value[condition]) if condition in value else ""
            words = f"{condition} {said}" if said else ""
            self.branches.append(Branch(": ".join(filter(None, (label, words))), _flow(value, self.steps)))
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
