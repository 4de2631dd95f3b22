"""Numbers as the contract means them, for the engine.

JSON has one kind of number, CEL has two that do not mix in arithmetic: with a plain conversion `data.amount * 2.0`
works for 2.5 and fails for 3. So before an expression with arithmetic is evaluated, the fields that its contracts
declare as `number` are handed over as doubles, and those declared as `integer` as ints (JSON Schema calls 3.0 one).
Only declared fields are touched, and only what holds some is copied. Without arithmetic there is nothing to do:
comparisons cross the types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from bus.config.cel_tree import Call, Node, walk
from bus.config.types import DOUBLE, INT, List, Object, OneOf, Type

Convert: TypeAlias = Callable[[Any], Any]

_ARITHMETIC = frozenset({"_+_", "_-_", "_*_", "_/_", "_%_", "-_"})


def has_arithmetic(tree: Node) -> bool:
    """Tell whether the kind of a number can matter to the expression."""
    return any(
        isinstance(node, Call) and (node.function in _ARITHMETIC or node.function.startswith("math."))
        for node in walk(tree)
    )


def converter(type_: Type) -> Convert | None:
    """Return what gives the numbers in a value of this type their declared kind; None when there are none."""
    if type_ == DOUBLE:
        return _to_double
    if type_ == INT:
        return _to_int
    if isinstance(type_, List):
        return _list(converter(type_.item))
    if isinstance(type_, Object):
        return _object({name: made for name, each in type_.fields.items() if (made := converter(each))})
    if isinstance(type_, OneOf):
        return _one_of([made for each in type_.options if (made := converter(each))])
    return None


def _to_double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _to_int(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 2**63 else value


def _list(item: Convert | None) -> Convert | None:
    if item is None:
        return None
    return lambda value: [item(each) for each in value] if isinstance(value, list) else value


def _object(fields: Mapping[str, Convert]) -> Convert | None:
    if not fields:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {**value, **{name: make(value[name]) for name, make in fields.items() if name in value}}

    return convert


def _one_of(converters: list[Convert]) -> Convert | None:
    """Each option leaves values of other kinds alone, so they can be applied in turn."""
    if not converters:
        return None

    def convert(value: Any) -> Any:
        for each in converters:
            value = each(value)
        return value

    return convert
