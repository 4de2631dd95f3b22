"""A step's YAML, read by the shape of its spec.

`ShapeReader.read` follows the shape and gives the parsed value that `bus.core.spec` promises to `build`, or BAD after
adding findings. It knows shapes only; what a step does with them, and what else there is to know about it, it does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bus.config.contracts import LoadedContract
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar
from bus.config.observer import UNOBSERVED, Observer
from bus.config.places import Names, TypeOf, written
from bus.config.slots import Slots
from bus.config.suggest import instead_of, nearest
from bus.config.types import ANY, Type
from bus.config.yamlfaults import clip
from bus.core import spec
from bus.core.expression import Document, Path
from bus.core.work import Flow, Target

BAD: Final = object()
"""Stands for a value that has findings."""

_SEGMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WRITABLE = ("data", "vars")


@dataclass(frozen=True, slots=True)
class FlowRead:
    """A nested flow: its scope at the end, and whether it ends the route."""

    after: Names
    ended: bool


@dataclass(slots=True)
class ShapeReader:
    """Reads one step.

    Args:
        slots: compiles expressions, values and files.
        names: the scope; within a map of paths, each value also sees what those before it wrote.
        flow, target: read a nested flow (of a mapping's `steps` and `to`) and a target.
        within: scopes of fields that are not read in this one, by this one and the fields before; `flow` is that of
            nested steps.
        flows: the nested flows, as they are read.
    """

    slots: Slots
    names: Names
    flow: Callable[[MappingNode, Names], tuple[Flow, FlowRead]]
    target: Callable[[Node, Names, tuple[str, ...]], Target | None]
    within: Mapping[str, Callable[[Names, Any, TypeOf], Names]]
    observer: Observer = UNOBSERVED
    flows: list[FlowRead] = field(default_factory=list)
    _types: dict[int, Type] = field(default_factory=dict)
    _kept: list[object] = field(default_factory=list)

    def type_of(self, parsed: object) -> Type:
        """Static type of a leaf or contract that this reader gave."""
        return parsed.type if isinstance(parsed, LoadedContract) else self._types.get(id(parsed), ANY)

    def typed(self, value: object, type_: Type) -> object:
        """Remember the static type of a parsed value."""
        self._types[id(value)] = type_
        self._kept.append(value)  # keeps the id from being given to another object
        return value

    def read(self, shape: spec.Shape, node: Node, slot: str) -> Any:
        """Read a node by a shape.

        Args:
            slot: the key it stands under, for findings.
        """
        if isinstance(shape, (spec.MapOf, spec.ListOf, spec.Record, spec.FlowShape)):
            return self._branch(shape, node, slot)
        found = self._leaf(shape, node, slot)
        return BAD if found is None else found

    def _leaf(self, shape: spec.Shape, node: Node, slot: str) -> object | None:
        if isinstance(shape, spec.Expr):
            return self._expression(shape, node, slot)
        if isinstance(shape, spec.Leaves):
            value = self.slots.value(node, self.names)
            return None if value is None else self.typed(value.expression, value.type)
        if isinstance(shape, spec.SchemaFile):
            contract = self.slots.assets.contract(node, slot, self.slots.folder)
            return None if contract is None else self.typed(contract, contract.type)
        if isinstance(shape, spec.TableFile):
            table = self.slots.assets.table(node, slot, self.slots.folder)
            return None if table is None else self.typed(table, table.type)
        if isinstance(shape, spec.TemplateFile):
            return self._document(node, slot)
        if isinstance(shape, spec.PathTo):
            return self.path(node, slot)
        if isinstance(shape, spec.TargetShape):
            return self._target(shape, node, slot) if shape.fields else self.target(node, self.names, ())
        return self._plain(shape, node, slot)

    def _plain(self, shape: spec.Shape, node: Node, slot: str) -> object | None:
        """A value in which nothing is evaluated."""
        reader = self.slots.reader
        if isinstance(shape, spec.Duration):
            return reader.duration(node, slot)
        if isinstance(shape, spec.Rate):
            return reader.rate(node, slot)
        if isinstance(shape, spec.Size):
            return reader.size(node, slot)
        if isinstance(shape, spec.Integer):
            return reader.integer(node, slot, shape.minimum)
        if isinstance(shape, spec.Number):
            return reader.number(node, slot, shape.least, shape.most)
        if isinstance(shape, spec.Choice):
            return reader.choice(node, slot, shape.values, "unknown-class" if slot == "class" else "wrong-type")
        return reader.text(node, slot)

    def _expression(self, shape: spec.Expr, node: Node, slot: str) -> object | None:
        compiled = self.slots.compiled(node, slot, self.names, shape.type)
        if compiled is None:
            return None
        expression = compiled.expression
        if shape.type == "bool":
            expression = self.observer.condition(node, expression, f"`{slot}`")
        return self.typed(expression, compiled.type)

    def _target(self, shape: spec.TargetShape, node: Node, slot: str) -> dict[str, Any] | None:
        """A target with fields beside it, or a flow in its place."""
        body = self.slots.reader.mapping(node, slot, "`{capability: ...}`")
        if body is None:
            return None
        found: dict[str, Any] = {}
        if shape.flow and body.get("steps") is not None:
            self.slots.reader.keys(body, (*shape.fields, "steps", "to"), f"`{slot}`")
            found["flow"] = self._nested(body, self.names)
        else:
            found["target"] = self.target(node, self.names, tuple(shape.fields))
        for name, each in shape.fields.items():
            value = body.get(name)
            if value is not None:
                found[name] = self.read(each.shape, value, name)
            elif each.required:
                self._missing(body, name, f"`{slot}`")
                return None
        return None if any(each is None or each is BAD for each in found.values()) else found

    def _document(self, node: Node, slot: str) -> Document | None:
        """A template that reads only names that this place has."""
        document = self.slots.assets.document(node, slot, self.slots.folder)
        unknown = sorted(document.names - self.names.keys()) if document is not None else []
        for name in unknown:
            instead = instead_of(name, self.names)
            self.slots.reader.report(node, "unknown-name", f"the template reads `{name}`, which is not here", instead)
        return None if unknown else document

    def _branch(self, shape: spec.MapOf | spec.ListOf | spec.Record | spec.FlowShape, node: Node, slot: str) -> Any:
        reader = self.slots.reader
        if isinstance(shape, spec.ListOf):
            nodes = reader.items(node, slot, "`[...]`")
            if nodes is None:
                return BAD
            found = [self.read(shape.item, each, slot) for each in nodes]
            return BAD if any(each is BAD for each in found) else tuple(found)
        mapping = reader.mapping(node, slot, _written(shape))
        if mapping is None:
            return BAD
        if isinstance(shape, spec.MapOf):
            return self._map(shape, mapping, slot)
        if isinstance(shape, spec.FlowShape):
            reader.keys(mapping, ("steps", "to"), f"`{slot}`")
            return self._nested(mapping, self.names)
        return self._record(shape, mapping, slot)

    def _map(self, shape: spec.MapOf, node: MappingNode, slot: str) -> Any:
        found: dict[Any, Any] = {}
        good = True
        before = self.names
        for key, value in node.pairs:
            name: Any
            if shape.keys == "path":
                name = self.path(key, slot)
            else:
                name = self.slots.reader.name(key, slot, "expression")
            parsed = self.read(shape.value, value, key.text)
            good = good and name is not None and parsed is not BAD
            if name is not None:
                found[name] = parsed
                if shape.keys == "path":
                    self.names = written(self.names, name, self.type_of(parsed))
        self.names = before
        return found if good else BAD

    def _record(self, shape: spec.Record, node: MappingNode, slot: str) -> Any:
        reader = self.slots.reader
        known = (*shape.fields, "steps", "to") if shape.flow else tuple(shape.fields)
        owner = f"a {slot[:-1]}" if slot.endswith("s") and not slot.endswith("ss") else f"`{slot}`"
        reader.keys(node, known, owner)
        found: dict[str, Any] = {}
        good = True
        for name, each in shape.fields.items():
            value = node.get(name)
            if value is not None:
                before, self.names = self.names, self._scope(name, found)
                if shape.flow and isinstance(each.shape, spec.Expr):  # guards the flow, which is a branch by itself
                    guard = self.slots.compiled(value, name, self.names, each.shape.type)
                    found[name] = BAD if guard is None else self.typed(guard.expression, guard.type)
                else:
                    found[name] = self.read(each.shape, value, name)
                self.names = before
                good = good and found[name] is not BAD
            elif each.required:
                good = False
                self._missing(node, name, owner)
        if shape.flow:
            found["flow"] = self._nested(node, self._scope("flow", found))
        return found if good else BAD

    def _missing(self, node: MappingNode, name: str, owner: str) -> None:
        if name == "allow" and not self.slots.reader.near_miss(node, name):
            each = node.key("each") or node
            self.slots.reader.report(each, "open-target", "target comes from message content", "`allow: [...]`")
        else:
            self.slots.reader.required(node, name, owner)

    def _scope(self, name: str, found: Mapping[str, Any]) -> Names:
        change = self.within.get(name)
        return self.names if change is None else change(self.names, found, self.type_of)

    def _nested(self, node: MappingNode, names: Names) -> Flow:
        flow, read = self.flow(node, names)
        self.flows.append(read)
        self.typed(flow, read.after["data"])
        return flow

    def path(self, node: Node, slot: str) -> Path | None:
        """A place that a step may write."""
        text = self.slots.reader.text(node, slot)
        if text is None or not isinstance(node, Scalar):
            return None
        segments = text.split(".")
        if segments[0] not in _WRITABLE:
            what = f"`{clip(text)}` is no place that a step may write"
            meant = nearest(segments[0], _WRITABLE) if segments[1:] else None
            rest = clip(".".join(segments[1:]))
            instead = f"`{meant}.{rest}`" if meant else f"`data.{clip(text)}` or `vars.{clip(text)}`"
            self.slots.reader.report(node, "bad-path", what, instead)
            return None
        offset = 0
        for segment in segments:
            if not _SEGMENT.fullmatch(segment):
                dashed = "-" in segment and _SEGMENT.fullmatch(segment.replace("-", "_"))
                what = f"`{clip(segment)}` reads as minus" if dashed else f"`{clip(segment)}` is no name of a field"
                instead = f"`{clip(text.replace('-', '_'))}`" if dashed else "letters, digits and `_`"
                self.slots.reader.report(node, "dash-name" if dashed else "bad-path", what, instead, offset=offset)
                return None
            offset += len(segment) + 1
        return tuple(segments)


def _written(shape: spec.MapOf | spec.Record | spec.FlowShape) -> str:
    """What to write where a mapping is wanted."""
    if isinstance(shape, spec.FlowShape):
        return "`{steps: [...]}`"
    if isinstance(shape, spec.MapOf):
        return "`{vars.name: ...}`" if shape.keys == "path" else "`{name: ...}`"
    keys = [name for name, field in shape.fields.items() if field.required] or list(shape.fields)[:1]
    return f"`{{{', '.join(f'{key}: ...' for key in keys)}}}`"
