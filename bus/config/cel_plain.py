"""What simple expressions mean, as data: see `bus.core.plain`. Only what `cel_fast` compiles to closures is said."""

from __future__ import annotations

from bus.config.cel_fast import plain_path
from bus.config.cel_tree import Call, Const, Ident, Node, Select
from bus.core.message import Json
from bus.core.plain import Form

_ROOTS = ("data", "request", "config")
_COMPARES = {f"_{each}_": each for each in ("==", "!=", "<", "<=", ">", ">=")}
_LOGIC = {"_&&_": "and", "_||_": "or"}
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class _Unsaid(Exception):
    """It has a part that is not said here."""


def form(tree: Node) -> Form | None:
    """What an expression means, or None."""
    try:
        return _form(tree)
    except _Unsaid:
        return None


def _form(node: Node) -> Form:
    if isinstance(node, Const):
        return {"const": _literal(node)}
    if isinstance(node, Select) and node.test:
        return {"has": [_path(node.operand), node.field]}
    if isinstance(node, (Ident, Select)):
        return {"path": _path(node)}
    if isinstance(node, Call) and node.target is None:
        parts = [_form(each) for each in node.args]
        if node.function in _COMPARES:
            return {"compare": [_COMPARES[node.function], *parts]}
        if node.function in _LOGIC:
            return {_LOGIC[node.function]: [*parts]}
        if node.function == "!_":
            return {"not": parts[0]}
    raise _Unsaid


def _literal(node: Const) -> Json:
    value = node.value
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and _INT_MIN <= value <= _INT_MAX:
        return value
    if isinstance(value, float) and abs(value) < 1e15:
        return value
    raise _Unsaid


def _path(node: Node) -> list[Json]:
    path = plain_path(node)
    if path is None or path[0] not in _ROOTS:
        raise _Unsaid
    return [*path]
