"""Writes a checked tree back as text, for messages that say what to write instead. Short forms only."""

from __future__ import annotations

import json

from bus.config.cel_tree import Call, Const, Ident, ListOf, MapOf, Node, Select, Uint

_BINARY = {f"_{op}_": op for op in ("+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||")}
_BINARY["@in"] = "in"


def literal(value: None | bool | int | float | str | bytes | Uint) -> str:
    """Write a literal as CEL."""
    if isinstance(value, Uint):
        return f"{value.value}u"
    if isinstance(value, bytes):
        return f"b{json.dumps(value.decode('latin-1'))}"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def render(node: Node) -> str:
    """Write the node as CEL; macros, which come expanded, become `...`."""
    if isinstance(node, Const):
        return literal(node.value)
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select):
        text = f"{render(node.operand)}.{_field(node.field)}"
        return f"has({text})" if node.test else text
    if isinstance(node, Call):
        return _call(node)
    if isinstance(node, ListOf):
        return f"[{', '.join(render(each) for each in node.items)}]"
    if isinstance(node, MapOf):
        return f"{{{', '.join(f'{render(key)}: {render(value)}' for key, value, _ in node.entries)}}}"
    return "..."


def _field(name: str) -> str:
    return name if name.replace("_", "a").isalnum() else f"`{name}`"


def _inner(node: Node) -> str:
    text = render(node)
    return f"({text})" if isinstance(node, Call) and (node.function in _BINARY or node.function == "_?_:_") else text


def _call(node: Call) -> str:
    args = [render(each) for each in node.args]
    if node.function in _BINARY and len(node.args) == 2:
        return f"{_inner(node.args[0])} {_BINARY[node.function]} {_inner(node.args[1])}"
    if node.function in ("!_", "-_"):
        return f"{node.function[0]}{_inner(node.args[0])}"
    if node.function == "_?_:_":
        return f"{_inner(node.args[0])} ? {args[1]} : {args[2]}"
    if node.function in ("_[_]", "_[?_]"):
        return f"{args[0]}[{'?' if '?' in node.function else ''}{args[1]}]"
    if node.function == "_?._":
        field = node.args[1]
        return f"{args[0]}.?{_field(str(field.value)) if isinstance(field, Const) else args[1]}"
    name = node.function.replace("math.@max", "math.greatest").replace("math.@min", "math.least")
    return f"{'' if node.target is None else render(node.target) + '.'}{name}({', '.join(args)})"
