"""Which types the operators and functions of CEL take, and what they give: one table each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bus.config.cel_text import literal, render
from bus.config.cel_tree import Call, Const, Node
from bus.config.types import (
    ANY,
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    NEVER,
    NULL,
    NUMBERS,
    STRING,
    TIMESTAMP,
    UINT,
    List,
    Object,
    Plain,
    Type,
    an,
    options,
    union,
)

_ARITHMETIC = {"_+_": "+", "_-_": "-", "_*_": "*", "_/_": "/", "_%_": "%"}
_ORDER = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_EQUALITY = {"_==_": "==", "_!=_": "!="}
_SPECIAL: dict[tuple[str, Type, Type], Type] = {
    ("_+_", STRING, STRING): STRING,
    ("_+_", BYTES, BYTES): BYTES,
    ("_+_", TIMESTAMP, DURATION): TIMESTAMP,
    ("_+_", DURATION, TIMESTAMP): TIMESTAMP,
    ("_+_", DURATION, DURATION): DURATION,
    ("_-_", TIMESTAMP, TIMESTAMP): DURATION,
    ("_-_", TIMESTAMP, DURATION): TIMESTAMP,
    ("_-_", DURATION, DURATION): DURATION,
}
_ORDERED = frozenset({BOOL, STRING, BYTES, TIMESTAMP, DURATION})
_OF_STRINGS = frozenset(
    [
        "trim",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "split",
        "replace",
        "lowerAscii",
        "upperAscii",
        "substring",
        "charAt",
        "indexOf",
        "lastIndexOf",
        "format",
        "quote",
        "reverse",
    ]
)


@dataclass(frozen=True, slots=True)
class Clash:
    """An operator or function that does not take these types."""

    at: int
    code: str
    what: str
    instead: str = ""


def result(node: Call, target: Type | None, args: list[Type]) -> Type | Clash:
    """Return the type of a call, or why there can be none."""
    if node.function in _ARITHMETIC:
        return _arithmetic(node, args[0], args[1])
    if node.function in _ORDER:
        return BOOL if _any_pair(_ordered, args[0], args[1]) else _clash(node, _ORDER[node.function], args)
    if node.function in _EQUALITY:
        return BOOL if _any_pair(_equatable, args[0], args[1]) else _unequal(node, args)
    if node.function == "-_":
        return args[0]
    if node.function == "@in":
        return _contained(node, args[1])
    if node.function == "dyn":
        return ANY
    if node.function == "size":
        return _sized(node, target if target is not None else args[0])
    if node.function in _OF_STRINGS and target is not None and _surely_not(target, STRING):
        where = render(node.target) if node.target is not None else node.function
        return Clash(node.at, "wrong-type", f"`{where}` is {an(target)}; `{node.function}` is for strings")
    return node.type


def _surely_not(type_: Type, wanted: Type) -> bool:
    return all(each not in (ANY, wanted, NEVER) for each in options(type_))


def _any_pair(test: object, left: Type, right: Type) -> bool:
    assert callable(test)
    return any(test(one, two) for one in options(left) for two in options(right))


def _ordered(left: Type, right: Type) -> bool:
    if ANY in (left, right) or NEVER in (left, right):
        return True
    return (left in NUMBERS and right in NUMBERS) or (left == right and left in _ORDERED)


def _equatable(left: Type, right: Type) -> bool:
    if {ANY, NEVER, NULL} & {left, right} or left == right or (left in NUMBERS and right in NUMBERS):
        return True
    return isinstance(left, (List, Object)) and type(left) is type(right)


def _arithmetic(node: Call, left: Type, right: Type) -> Type | Clash:
    found = [_sum(node.function, one, two) for one in options(left) for two in options(right)]
    fits = [each for each in found if each is not None]
    if fits:
        return union(fits)
    if left in NUMBERS and right in NUMBERS:
        return _number_mix(node, left, right)
    return _clash(node, _ARITHMETIC[node.function], [left, right])


def _sum(function: str, left: Type, right: Type) -> Type | None:
    if left in (ANY, NEVER) or right in (ANY, NEVER):
        known = right if left in (ANY, NEVER) else left
        return known if known in (INT, DOUBLE, UINT, STRING) else ANY
    if (function, left, right) in _SPECIAL:
        return _SPECIAL[function, left, right]
    if function == "_+_" and isinstance(left, List) and isinstance(right, List):
        return List(union((left.item, right.item)))
    if left == right and left in NUMBERS and not (function == "_%_" and left == DOUBLE):
        return left
    return None


def _number_mix(node: Call, left: Type, right: Type) -> Clash:
    """Say which side is which, and write the integer side as a number."""
    say: dict[Type, str] = {DOUBLE: "a number", INT: "an int", UINT: "an unsigned int"}
    args = [_as_double(arg) if kind == INT else arg for arg, kind in zip(node.args, (left, right), strict=True)]
    one, two = (render(each) for each in node.args)
    better = render(replace(node, args=tuple(args)))
    what = f"`{one}` is {say[left]}, `{two}` {say[right]}; they do not mix in arithmetic"
    return Clash(node.at, "number-mix", what, "" if "..." in better else f"`{better}`")


def _as_double(node: Node) -> Node:
    if isinstance(node, Const) and isinstance(node.value, int):
        return replace(node, value=float(node.value))
    return Call(node.at, DOUBLE, "double", None, (node,))


def _clash(node: Call, sign: str, args: list[Type]) -> Clash:
    left, right = args
    what = f"`{sign}` does not take {an(left)} and {an(right)}"
    instead = ""
    if sign == "+" and STRING in (left, right):
        other = [f"string({render(n)})" if t != STRING else render(n) for n, t in zip(node.args, args, strict=True)]
        instead = f"`{other[0]} + {other[1]}`"
    return Clash(node.at, "wrong-type", what, instead)


def _unequal(node: Call, args: list[Type]) -> Clash:
    one, two = (render(each) for each in node.args)
    what = f"`{one}` is {an(args[0])} and `{two}` {an(args[1])}: they are never equal"
    literals = [each for each in node.args if isinstance(each, Const)]
    instead = ""
    if len(literals) == 1 and isinstance(literals[0].value, str):
        other = args[1] if literals[0] is node.args[0] else args[0]
        number = literals[0].value
        if (other in NUMBERS and number.lstrip("-").replace(".", "", 1).isdigit()) or (
            other == BOOL and number in ("true", "false")
        ):
            instead = f"`{number}` without quotes"
    elif len(literals) == 1 and STRING in args:
        instead = f'`"{literal(literals[0].value)}"` in quotes'
    return Clash(node.at, "wrong-type", what, instead)


def _contained(node: Call, container: Type) -> Type | Clash:
    if any(each in (ANY, NEVER) or isinstance(each, (List, Object)) for each in options(container)):
        return BOOL
    text = render(node.args[1])
    instead = f"`{text}.contains({render(node.args[0])})`" if container == STRING else ""
    return Clash(node.at, "wrong-type", f"`{text}` is {an(container)}, not a list or object", instead)


def _sized(node: Call, of: Type) -> Type | Clash:
    fits = (ANY, NEVER, STRING, BYTES)
    if any(each in fits or isinstance(each, (List, Object)) for each in options(of)):
        return INT
    return Clash(node.at, "wrong-type", f"`size` does not take {an(of)}")


__all__ = ["Clash", "Plain", "result"]
