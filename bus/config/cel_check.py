"""The checker: what an expression's values will be, and what cannot work, by the contracts' types.

The engine's own checker knows operators and functions but takes every name of ours for `dyn`. This one walks the
same tree with the types that JSON Schemas declare, and asks the engine's answer only for functions. `Any` silences
it: it reports what is wrong for certain, and fields that may be absent. A guard makes a field present where it
holds: `has(x.a) && ...`, `!has(x.a) || ...`, `has(x.a) ? ... : ...`, in either order of `&&` and `||`, as CEL
forgives the error on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from bus.config import cel_operators
from bus.config.cel_fast import plain_path
from bus.config.cel_text import render
from bus.config.cel_tree import Call, Const, Fold, Ident, ListOf, MapOf, Node, Select
from bus.config.problem import Problem, did_you_mean
from bus.config.types import (
    ANY,
    BOOL,
    DOUBLE,
    INT,
    NEVER,
    NULL,
    STRING,
    List,
    Object,
    OneOf,
    Optional,
    Type,
    an,
    options,
    union,
)

Names: TypeAlias = Mapping[str, Type]

_DEFAULTS: Mapping[Type, str] = {STRING: '""', INT: "0", DOUBLE: "0.0", BOOL: "false"}


def default_of(type_: Type) -> str:
    """Write a default of this type, for `orValue`."""
    if isinstance(type_, List):
        return "[]"
    if isinstance(type_, Object):
        return "{}"
    return _DEFAULTS.get(type_, "null")


def require(type_: Type, path: tuple[str, ...]) -> Type:
    """Return the type with the field at `path` known to be there."""
    if not path or not isinstance(type_, Object):
        return type_
    fields = dict(type_.fields)
    if path[0] in fields:
        fields[path[0]] = require(fields[path[0]], path[1:])
    elif type_.rest is None:
        return type_
    return replace(type_, fields=fields or {path[0]: ANY}, required=type_.required | {path[0]})


def guarded(node: Node, *, holds: bool) -> list[tuple[str, ...]]:
    """Return the paths that are present for certain when `node` is true (`holds`) or false."""
    if isinstance(node, Select) and node.test and holds:
        path = plain_path(replace(node, test=False))
        return [path] if path else []
    if isinstance(node, Call) and node.function == "!_":
        return guarded(node.args[0], holds=not holds)
    if isinstance(node, Call) and node.function == ("_&&_" if holds else "_||_"):
        return [path for each in node.args for path in guarded(each, holds=holds)]
    return []


def narrow(names: Names, paths: list[tuple[str, ...]]) -> Names:
    """Return the names with these paths present."""
    if not paths:
        return names
    narrowed = dict(names)
    for path in paths:
        if path[0] in narrowed:
            narrowed[path[0]] = require(narrowed[path[0]], path[1:])
    return narrowed


class Checker:
    """Infers types over one tree and collects problems on the way.

    Args:
        text: the expression, to find tokens in.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.problems: list[Problem] = []
        self._calls: dict[str, Callable[[Call, Names], Type]] = {
            "_&&_": self._logic,
            "_||_": self._logic,
            "!_": self._not,
            "_?_:_": self._choice,
            "_?._": self._optional_field,
            "_[_]": self._index,
            "_[?_]": lambda call, names: Optional(_inner(self._index(call, names))),
            "orValue": self._or_value,
            "or": self._or_value,
            "value": lambda call, names: _inner(self._target(call, names)),
            "optional.of": lambda call, names: Optional(self.infer(call.args[0], names)),
            "optional.ofNonZeroValue": lambda call, names: Optional(self.infer(call.args[0], names)),
            "optional.none": lambda call, names: Optional(NEVER),
        }

    def report(self, at: int, code: str, what: str, instead: str = "") -> None:
        """Add an error, once per place and code."""
        if not any(each.offset == at and each.code == code for each in self.problems):
            self.problems.append(Problem(at, code, what, instead))

    def infer(self, node: Node, names: Names) -> Type:
        """Return the static type of `node` and collect its problems."""
        if isinstance(node, Ident):
            return names.get(node.name, ANY)
        if isinstance(node, Const):
            return node.type if node.type != ANY else _constant(node)
        if isinstance(node, Select):
            return self._select(node, names)
        if isinstance(node, ListOf):
            return List(union(_inner(self.infer(each, names)) for each in node.items))
        if isinstance(node, MapOf):
            return self._map(node, names)
        if isinstance(node, Fold):
            return self._fold(node, names)
        make = self._calls.get(node.function)
        return make(node, names) if make else self._function(node, names)

    # --- fields ---

    def _select(self, node: Select, names: Names) -> Type:
        base = self.infer(node.operand, names)
        found = self._field(base, node.field, node, node.operand, sure=node.test)
        return BOOL if node.test else found

    def _optional_field(self, node: Call, names: Names) -> Type:
        base = _inner(self.infer(node.args[0], names))
        name = node.args[1]
        if not isinstance(name, Const) or not isinstance(name.value, str):
            return Optional(ANY)
        return Optional(_inner(self._field(base, name.value, node, node.args[0], sure=True)))

    def _field(self, base: Type, name: str, node: Node, operand: Node, *, sure: bool) -> Type:
        """Look a field up; `sure` says that its absence does no harm here."""
        if isinstance(base, Optional):
            return Optional(_inner(self._field(base.inner, name, node, operand, sure=True)))
        objects = [each for each in options(base) if isinstance(each, Object)]
        if not objects or ANY in options(base):
            if base not in (ANY, NEVER, NULL) and ANY not in options(base):
                self.report(
                    self._token(node, name), "wrong-type", f"`{render(operand)}` is {an(base)} and has no fields"
                )
            return ANY
        found = [known for each in objects if (known := _declared(each, name)) is not None]
        if not found:
            return self._unknown(objects, name, node, operand)
        if not sure and any(name in each.fields and name not in each.required for each in objects):
            where = f" in {objects[0].name}" if objects[0].name else ""
            optional = f"{render(operand)}.?{name}.orValue({default_of(union(found))})"
            self.report(self._token(node, name), "optional-field", f"`{name}` may be absent{where}", f"`{optional}`")
        return union(found)

    def _unknown(self, objects: list[Object], name: str, node: Node, operand: Node) -> Type:
        known = sorted({field for each in objects for field in each.fields})
        close = did_you_mean(name, known)
        who = objects[0].name or f"`{render(operand)}`"
        instead = f"`{render(operand)}.{close}`" if close else f"one of {', '.join(known[:8])}" if known else ""
        self.report(self._token(node, name), "unknown-field", f"{who} has no `{name}`", instead)
        return ANY

    def _index(self, node: Call, names: Names) -> Type:
        outer, index = self.infer(node.args[0], names), node.args[1]
        self.infer(index, names)
        base = _inner(outer)
        if isinstance(index, Const) and isinstance(index.value, str):
            sure = isinstance(outer, Optional) or node.function == "_[?_]"
            found = self._field(base, index.value, node, node.args[0], sure=sure)
        else:
            items = [each.item for each in options(base) if isinstance(each, List)]
            found = union(items) if items and len(items) == len(options(base)) else ANY
        return Optional(found) if isinstance(outer, Optional) else found

    def _token(self, node: Node, name: str) -> int:
        at = self._text.find(name, node.at)
        return at if at >= 0 else node.at

    # --- operators ---

    def _logic(self, node: Call, names: Names) -> Type:
        left, right = node.args
        holds = node.function == "_&&_"
        for side, other in ((left, right), (right, left)):
            self._must_be_bool(side, self.infer(side, narrow(names, guarded(other, holds=holds))))
        return BOOL

    def _not(self, node: Call, names: Names) -> Type:
        self._must_be_bool(node.args[0], self.infer(node.args[0], names))
        return BOOL

    def _choice(self, node: Call, names: Names) -> Type:
        condition, yes, no = node.args
        self._must_be_bool(condition, self.infer(condition, names))
        one = self.infer(yes, narrow(names, guarded(condition, holds=True)))
        other = self.infer(no, narrow(names, guarded(condition, holds=False)))
        if isinstance(one, Optional) or isinstance(other, Optional):
            return Optional(union((_inner(one), _inner(other))))
        return union((one, other))

    def _must_be_bool(self, node: Node, type_: Type) -> None:
        if ANY not in options(type_) and BOOL not in options(type_) and type_ != NEVER:
            self.report(start(node), "not-bool", f"`{render(node)}` is {an(type_)}, not a bool", as_bool(node, type_))

    def _or_value(self, node: Call, names: Names) -> Type:
        base = self._target(node, names)
        other = _inner(self.infer(node.args[0], names))
        found = union((_inner(base), other))
        return Optional(found) if node.function == "or" else found

    def _target(self, node: Call, names: Names) -> Type:
        return ANY if node.target is None else self.infer(node.target, names)

    def _function(self, node: Call, names: Names) -> Type:
        target = None if node.target is None else self.infer(node.target, names)
        args = [self.infer(each, names) for each in node.args]
        found = cel_operators.result(node, target, args)
        if isinstance(found, cel_operators.Clash):
            self.report(found.at, found.code, found.what, found.instead)
            return ANY
        return found

    # --- literals and macros ---

    def _map(self, node: MapOf, names: Names) -> Type:
        fields: dict[str, Type] = {}
        required: set[str] = set()
        rest: Type | None = None
        for key, value, optional in node.entries:
            self.infer(key, names)
            found = self.infer(value, names)
            if isinstance(key, Const) and isinstance(key.value, str):
                fields[key.value] = _inner(found) if optional else found
                if not optional:
                    required.add(key.value)
            else:
                rest = ANY
        return Object(fields, frozenset(required), rest, exact=rest is None)

    def _fold(self, node: Fold, names: Names) -> Type:
        base = self.infer(node.range, names)
        inner: dict[str, Type] = {
            **names,
            node.variable: self._item(node, base),
            node.accu: self.infer(node.init, names),
        }
        self.infer(node.condition, inner)
        inner[node.accu] = union((inner[node.accu], self.infer(node.step, inner)))
        return self.infer(node.result, inner)

    def _item(self, node: Fold, base: Type) -> Type:
        items: list[Type] = []
        for each in options(base):
            if isinstance(each, List):
                items.append(each.item)
            elif isinstance(each, Object):
                items.append(STRING)
            elif each in (ANY, NULL) or isinstance(each, (Optional, OneOf)):
                items.append(ANY)
        if not items:
            self.report(start(node.range), "wrong-type", f"`{render(node.range)}` is {an(base)}, not a list")
        return union(items) if items else ANY


def _declared(base: Object, name: str) -> Type | None:
    return base.fields.get(name, base.rest)


def _inner(type_: Type) -> Type:
    return type_.inner if isinstance(type_, Optional) else type_


def _constant(node: Const) -> Type:
    value = node.value
    kinds: dict[type, Type] = {bool: BOOL, int: INT, float: DOUBLE, str: STRING, type(None): NULL}
    return kinds.get(type(value), ANY)


def start(node: Node) -> int:
    """Return the offset of the node's first token."""
    while True:
        if isinstance(node, Select):
            node = node.operand
        elif isinstance(node, Call) and node.target is not None:
            node = node.target
        elif isinstance(node, Call) and node.function[0] == "_":
            node = node.args[0]
        else:
            return node.at


def as_bool(node: Node, type_: Type) -> str:
    """Write a condition about a value that is none itself; "" when there is no obvious one."""
    text = render(node)
    if "..." in text:
        return ""
    if isinstance(type_, List):
        return f"`size({text}) > 0`"
    right = None if type_ == BOOL else _DEFAULTS.get(type_)
    return f"`{text} != {right}`" if right else ""
