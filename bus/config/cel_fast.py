"""Expressions that need no engine: paths and simple conditions, compiled to Python closures.

An engine call costs some 20 us, most of it for handing values over; a path costs a tenth of one. What is compiled
here is built only of paths, literals, `==` `!=` `<` `<=` `>` `>=` `&&` `||` `!` `?:`, `has()`, `in` a list of
literals and `.?a.orValue(literal)`; everything else goes to the engine. The closures mean what the engine means,
and a property test holds them to it: numbers compare across int and double as the engine does, a bool is no number,
values of different kinds are unequal but have no order, an absent field is an error, and `&&` and `||` forgive an
error when the other side decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from bus.config.cel_text import render
from bus.config.cel_tree import Call, Const, Ident, ListOf, Node, Select
from bus.core.errors import ExpressionFailed
from bus.core.message import Json

Closure: TypeAlias = Callable[[Mapping[str, Any]], Json]
_Step: TypeAlias = "tuple[str | int, bool]"  # field or index, and whether it is optional

_MISSING = (KeyError, TypeError, IndexError)


class _NeedsEngine(Exception):
    """The expression has a part that is not compiled here."""


def compile_fast(tree: Node) -> Closure | None:
    """Return a closure with the meaning of `tree`, or None when only the engine can evaluate it."""
    try:
        return _compile(tree)
    except _NeedsEngine:
        return None


def plain_path(tree: Node) -> tuple[str, ...] | None:
    """Return the fields of an expression that is only a path, e.g. ("data", "customer", "id"); else None."""
    fields: list[str] = []
    while isinstance(tree, Select) and not tree.test:
        fields.append(tree.field)
        tree = tree.operand
    return (tree.name, *reversed(fields)) if isinstance(tree, Ident) else None


def _compile(node: Node) -> Closure:
    if isinstance(node, Const):
        return _constant(node)
    if isinstance(node, Select) and node.test:
        return _has(node)
    if isinstance(node, (Ident, Select)):
        return _path(node)
    if isinstance(node, Call):
        make = _CALLS.get(node.function)
        if make is not None:
            return make(node)
    raise _NeedsEngine


def _constant(node: Const) -> Closure:
    value = node.value
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise _NeedsEngine
    return lambda names: value


# --- paths --------------------------------------------------------------------------------------------------------


def _path(node: Node) -> Closure:
    path = plain_path(node)
    if path is None:
        return _indexed(node)
    text, root = render(node), path[0]
    fail = _absent(text, path)
    if len(path) == 1:
        return _root(root)
    if len(path) == 2:
        return _two(root, path[1], fail)
    if len(path) == 3:
        return _three(root, path[1], path[2], fail)
    rest = path[1:]

    def long(names: Mapping[str, Any]) -> Json:
        try:
            value = names[root]
            for name in rest:
                value = value[name]
        except _MISSING:
            raise fail(names) from None
        return value  # type: ignore[no-any-return]

    return long


def _root(root: str) -> Closure:
    def one(names: Mapping[str, Any]) -> Json:
        try:
            return names[root]  # type: ignore[no-any-return]
        except KeyError:
            raise ExpressionFailed(f"`{root}` has no value here") from None

    return one


def _two(root: str, name: str, fail: Callable[[Mapping[str, Any]], ExpressionFailed]) -> Closure:
    def two(names: Mapping[str, Any]) -> Json:
        try:
            return names[root][name]  # type: ignore[no-any-return]
        except _MISSING:
            raise fail(names) from None

    return two


def _three(root: str, name: str, last: str, fail: Callable[[Mapping[str, Any]], ExpressionFailed]) -> Closure:
    def three(names: Mapping[str, Any]) -> Json:
        try:
            return names[root][name][last]  # type: ignore[no-any-return]
        except _MISSING:
            raise fail(names) from None

    return three


def _absent(text: str, path: tuple[str, ...]) -> Callable[[Mapping[str, Any]], ExpressionFailed]:
    """Return what says, after the fact, where a path broke off."""

    def fail(names: Mapping[str, Any]) -> ExpressionFailed:
        value: Any = names
        for depth, name in enumerate(path):
            if not isinstance(value, Mapping):
                return ExpressionFailed(f"`{text}`: `{'.'.join(path[:depth])}` is no object")
            if name not in value:
                return ExpressionFailed(f"`{text}`: `{'.'.join(path[: depth + 1])}` is absent")
            value = value[name]
        return ExpressionFailed(f"`{text}` has no value")

    return fail


def _indexed(node: Node) -> Closure:
    """A path with `["name"]` or `[0]` in it, or with `.?` before its end."""
    root, steps, text = *_steps(node), render(node)
    if any(optional for _, optional in steps):
        raise _NeedsEngine  # an optional as the result is for orValue

    def follow(names: Mapping[str, Any]) -> Json:
        value: Any = names.get(root)
        for key, _ in steps:
            if not _holds(value, key):
                raise ExpressionFailed(f"`{text}`: there is no {key!r}")
            value = value[key]
        return value  # type: ignore[no-any-return]

    return follow


def _holds(value: Any, key: str | int) -> bool:
    if isinstance(value, dict):
        return key in value if isinstance(key, str) else False
    return isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value)


def _steps(node: Node) -> tuple[str, list[_Step]]:
    """Take a path apart: its root and its steps in order."""
    steps: list[_Step] = []
    while not isinstance(node, Ident):
        if isinstance(node, Select) and not node.test:
            steps.append((node.field, False))
            node = node.operand
        elif isinstance(node, Call) and node.function in ("_[_]", "_?._") and isinstance(node.args[1], Const):
            key = node.args[1].value
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise _NeedsEngine
            steps.append((key, node.function == "_?._"))
            node = node.args[0]
        else:
            raise _NeedsEngine
    return node.name, steps[::-1]


def _has(node: Select) -> Closure:
    operand, field, text = _compile(node.operand), node.field, render(node)

    def has(names: Mapping[str, Any]) -> Json:
        value = operand(names)
        if not isinstance(value, dict):
            raise ExpressionFailed(f"`{text}`: it is no object")
        return field in value

    return has


def _or_value(node: Call) -> Closure:
    if node.target is None or not isinstance(node.args[0], Const):
        raise _NeedsEngine
    default = _constant(node.args[0])({})
    root, steps = _steps(node.target)
    first = next((at for at, (_, optional) in enumerate(steps) if optional), None)
    if first is None or any(isinstance(key, int) for key, _ in steps):
        raise _NeedsEngine
    text, sure, maybe = render(node), [key for key, _ in steps[:first]], [key for key, _ in steps[first:]]

    def or_value(names: Mapping[str, Any]) -> Json:
        try:
            value = names[root]
            for key in sure:
                value = value[key]
        except _MISSING:
            raise ExpressionFailed(f"`{text}`: the part before `.?` is absent") from None
        for key in maybe:
            if not isinstance(value, dict):
                raise ExpressionFailed(f"`{text}`: the part before `{key}` is no object")
            if key not in value:
                return default
            value = value[key]
        return value  # type: ignore[no-any-return]

    return or_value


# --- conditions ---------------------------------------------------------------------------------------------------


def _comparable(left: object, right: object) -> bool:
    return not isinstance(left, bool) and not isinstance(right, bool)


def equal(left: Any, right: Any) -> bool:
    """CEL's `==` on JSON values: deep, numbers across types, anything else of different kinds unequal."""
    kind = type(left)
    if kind is not type(right):
        if isinstance(left, (int, float)) and isinstance(right, (int, float)) and _comparable(left, right):
            return float(left) == float(right)
        return False
    if kind is list:
        return len(left) == len(right) and all(map(equal, left, right))
    if kind is dict:
        return left.keys() == right.keys() and all(equal(value, right[name]) for name, value in left.items())
    return bool(left == right)


def _equality(node: Call) -> Closure:
    left, right = _compile(node.args[0]), _compile(node.args[1])
    wanted = node.function == "_==_"
    if isinstance(node.args[1], Const) and isinstance(node.args[1].value, str):
        text = node.args[1].value
        return lambda names: (left(names) == text) is wanted  # a string equals nothing but itself in Python too
    return lambda names: equal(left(names), right(names)) is wanted


_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "_<_": lambda left, right: left < right,
    "_<=_": lambda left, right: left <= right,
    "_>_": lambda left, right: left > right,
    "_>=_": lambda left, right: left >= right,
}


def _order(node: Call) -> Closure:
    left, right, holds, text = _compile(node.args[0]), _compile(node.args[1]), _ORDERS[node.function], render(node)

    def compare(names: Mapping[str, Any]) -> Json:
        one, two = left(names), right(names)
        kind = type(one)
        if kind is type(two):
            if kind is not list and kind is not dict and one is not None:
                return holds(one, two)
        elif isinstance(one, (int, float)) and isinstance(two, (int, float)) and _comparable(one, two):
            return holds(float(one), float(two))
        raise ExpressionFailed(f"`{text}`: {_kind(one)} and {_kind(two)} have no order")

    return compare


def _kind(value: object) -> str:
    kinds = {bool: "a bool", int: "an int", float: "a double", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null")


def _logic(node: Call) -> Closure:
    left, right, text = _compile(node.args[0]), _compile(node.args[1]), render(node)
    decisive = node.function == "_||_"  # true decides `||`, false decides `&&`

    def logic(names: Mapping[str, Any]) -> Json:
        failure: ExpressionFailed | None = None
        for side in (left, right):
            try:
                value = side(names)
            except ExpressionFailed as error:
                failure = failure or error
                continue
            if value is decisive:
                return decisive
            if not isinstance(value, bool):
                failure = failure or ExpressionFailed(f"`{text}`: {_kind(value)} is no bool")
        if failure is not None:
            raise failure
        return not decisive

    return logic


def _not(node: Call) -> Closure:
    inner, text = _compile(node.args[0]), render(node)

    def negate(names: Mapping[str, Any]) -> Json:
        value = inner(names)
        if not isinstance(value, bool):
            raise ExpressionFailed(f"`{text}`: {_kind(value)} is no bool")
        return not value

    return negate


def _choice(node: Call) -> Closure:
    condition, yes, no = (_compile(each) for each in node.args)
    text = render(node.args[0])

    def choose(names: Mapping[str, Any]) -> Json:
        value = condition(names)
        if not isinstance(value, bool):
            raise ExpressionFailed(f"`{text}`: {_kind(value)} is no bool")
        return yes(names) if value else no(names)

    return choose


def _in(node: Call) -> Closure:
    wanted, listed = node.args
    if not isinstance(listed, ListOf) or not all(isinstance(each, Const) for each in listed.items):
        raise _NeedsEngine
    value, known = _compile(wanted), tuple(_compile(each)({}) for each in listed.items)
    if all(isinstance(each, str) for each in known):
        texts = frozenset(known)
        return lambda names: isinstance(found := value(names), str) and found in texts

    def contained(names: Mapping[str, Any]) -> Json:
        found = value(names)
        return any(equal(found, each) for each in known)

    return contained


_CALLS: Mapping[str, Callable[[Call], Closure]] = {
    "_&&_": _logic,
    "_||_": _logic,
    "!_": _not,
    "_?_:_": _choice,
    "_==_": _equality,
    "_!=_": _equality,
    **dict.fromkeys(_ORDERS, _order),
    "@in": _in,
    "_[_]": _path,
    "_?._": _path,
    "orValue": _or_value,
}
