"""Values of a route: YAML trees whose strings may hold `{{ CEL }}`.

One rule: exactly one `{{ CEL }}` and nothing else gives the typed value; text around it makes a string. Trees are
compiled to closures that build a new tree for every message, so nothing that a step changes is shared between
messages. A mapping of plain paths, the usual payload, reads its fields directly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from bus.config.expressions import Compiled, Scope, compile_expression, named
from bus.config.mismatch import mismatches
from bus.config.problem import Found, Problem
from bus.config.text_form import text_form
from bus.config.types import ANY, NULL, STRING, List, Object, Type, an, field_type, of_value, options, union
from bus.core.errors import ExpressionFailed
from bus.core.expression import Names
from bus.core.message import Json
from bus.core.plain import Form, form_of, meaning

_PATH = re.compile(r"([a-z_]\w*)((?:\.\??[A-Za-z_]\w*|\[[^\[\]]*\])+)(?:\([^()]*\))?")
_QUOTES = re.compile(r"""[rRbB]{0,2}("{3}|'{3}|"|')""")


def compile_leaf_string(text: str, scope: Scope) -> Compiled | tuple[Problem, ...]:
    """Compile one string of a value tree.

    Args:
        text: the YAML string.
        scope: what its expressions may read.

    Returns:
        The compiled value, with warnings such as `bare-expression`; or its errors, with offsets in `text`.
    """
    try:
        parts = _split(text)
        if not parts or (len(parts) == 1 and isinstance(parts[0], str)):
            return _plain_text(text, scope)
        if len(parts) == 1 and isinstance(parts[0], tuple):
            return _expression(parts[0], scope)
        return _template(text, parts, scope)
    except Found as found:
        return found.problems


def expressions_in(text: str) -> list[str]:
    """The expressions of a string that compiles: the texts between its braces."""
    return [part[0] for part in _split(text) if isinstance(part, tuple)]


# --- strings ------------------------------------------------------------------------------------------------------

_Part = str | tuple[str, int]
"""Literal text, or an expression with its offset."""


def _split(text: str) -> list[_Part]:
    """Take a string apart at its `{{ }}`."""
    parts: list[_Part] = []
    at = 0
    while True:
        opening, closing = text.find("{{", at), text.find("}}", at)
        if closing >= 0 and (opening < 0 or closing < opening):
            raise Found(Problem(closing, "unbalanced-braces", "`}}` closes nothing", '`{{ "}}" }}` for braces as text'))
        if opening < 0:
            if at < len(text):
                parts.append(text[at:])
            return parts
        if opening > at:
            parts.append(text[at:opening])
        end = _end(text, opening + 2)
        inner = text[opening + 2 : end]
        parts.append((inner.strip(), opening + 2 + len(inner) - len(inner.lstrip())))
        at = end + 2


def _end(text: str, at: int) -> int:
    """Find the `}}` that ends an expression: not inside of a string, nor of a map literal."""
    start, depth = at, 0
    while at < len(text):
        quote = _QUOTES.match(text, at)
        if quote:
            at = _after_string(text, quote)
        elif text[at] == "{":
            depth, at = depth + 1, at + 1
        elif text[at] == "}" and depth:
            depth, at = depth - 1, at + 1
        elif text.startswith("}}", at):
            return at
        else:
            at += 1
    instead = '`{{ "{{" }}` for braces as text' if "}" not in text[start:] else "`}}` at its end"
    raise Found(Problem(start - 2, "unbalanced-braces", "`{{` is never closed", instead))


def _after_string(text: str, quote: re.Match[str]) -> int:
    """Return the place behind a CEL string literal; the end of the text when it does not end."""
    mark, raw, at = quote[1], "r" in quote[0].lower().split(quote[1])[0], quote.end()
    while at < len(text):
        if text.startswith(mark, at):
            return at + len(mark)
        at += 2 if text[at] == "\\" and not raw else 1
    return len(text)


def _plain_text(text: str, scope: Scope) -> Compiled:
    compiled = literal(text)
    tag = text.find("{%")
    if tag >= 0:
        what, instead = (
            "`{%` is literal text here",
            "`{{ condition ? a : b }}`, or the step `render` with a `*.j2` file",
        )
        warned = (Problem(tag, "bare-expression", what, instead, severity="warning"),)
        return Compiled(compiled.expression, compiled.type, compiled.names, warned)
    found = _PATH.fullmatch(text)
    if found is None or found[1] not in scope.names:
        return compiled
    first = re.match(r"\.\??(\w+)", found[2])
    root = scope.names[found[1]]
    if first and isinstance(root, Object) and root.fields and first[1] not in root.fields and root.rest is None:
        return compiled  # reads like a path but leads nowhere, e.g. a file name
    what, instead = f"`{text}` is literal text here", f'`"{{{{ {text} }}}}"`'
    warning = Problem(0, "bare-expression", what, instead, severity="warning")
    return Compiled(compiled.expression, compiled.type, compiled.names, (warning,))


def _expression(part: tuple[str, int], scope: Scope) -> Compiled:
    text, offset = part
    compiled = compile_expression(text, scope)
    if isinstance(compiled, tuple):
        raise Found(*(Problem(offset + each.offset, each.code, each.what, each.instead) for each in compiled))
    return compiled


def _template(text: str, parts: Sequence[_Part], scope: Scope) -> Compiled:
    problems: list[Problem] = []
    pieces: list[Callable[[Names], Json]] = []
    names: frozenset[str] = frozenset()
    for part in parts:
        if isinstance(part, str):
            pieces.append(literal(part).expression)
            continue
        try:
            compiled = _expression(part, scope)
        except Found as found:
            problems.extend(found.problems)
            continue
        problems.extend(_no_text(part, compiled.type))
        pieces.append(compiled.expression)
        names |= compiled.names
    if problems:
        raise Found(*problems)
    makers = tuple(pieces)

    def fill(values: Names) -> Json:
        try:
            return "".join([text_form(make(values)) for make in makers])
        except ExpressionFailed as error:
            raise ExpressionFailed(f"`{text[:80]}`: {error}") from error

    return Compiled(meaning(named(text, fill), _said("text", makers)), STRING, names)


def _no_text(part: tuple[str, int], type_: Type) -> list[Problem]:
    if any(each != NULL and not isinstance(each, (List, Object)) for each in options(type_)):
        return []
    text, offset = part
    instead = f'`{text}.join(", ")`' if isinstance(type_, List) else "one of its fields"
    return [Problem(offset, "wrong-type", f"`{text}` is {an(type_)}, which cannot stand inside of a text", instead)]


# --- trees --------------------------------------------------------------------------------------------------------


def literal(value: Json) -> Compiled:
    """A value without expressions; lists and objects are made anew for every message."""
    if isinstance(value, dict):
        return mapping({name: literal(each) for name, each in value.items()})
    if isinstance(value, list):
        return sequence([literal(each) for each in value])
    constant = meaning(named("", lambda names: value), {"const": value})
    return Compiled(constant, of_value(value), frozenset())


def mapping(children: Mapping[str, Compiled]) -> Compiled:
    """An object of compiled values."""
    type_ = Object({name: each.type for name, each in children.items()}, frozenset(children), exact=True)
    build = _fields_of_one_root(children) or _object(children)
    forms = {name: form_of(each.expression) for name, each in children.items()}
    said: Form | None = None if None in forms.values() else {"object": [[name, form] for name, form in forms.items()]}
    made = meaning(named("{...}", build), said)
    return Compiled(made, type_, _names(children.values()), _warnings(children.values()))


def sequence(children: Sequence[Compiled]) -> Compiled:
    """A list of compiled values."""
    makers = tuple(each.expression for each in children)

    def build(names: Names) -> Json:
        return [make(names) for make in makers]

    type_ = List(union(each.type for each in children))
    made = meaning(named("[...]", build), _said("list", makers))
    return Compiled(made, type_, _names(children), _warnings(children))


def _said(kind: str, parts: Iterable[object]) -> Form | None:
    """What a list or a text means, when all of its parts say it."""
    forms = [form_of(each) for each in parts]
    return None if None in forms else {kind: [*forms]}


def _object(children: Mapping[str, Compiled]) -> Callable[[Names], Json]:
    items = tuple((name, each.expression) for name, each in children.items())

    def build(names: Names) -> Json:
        return {name: make(names) for name, make in items}

    return build


def _fields_of_one_root(children: Mapping[str, Compiled]) -> Callable[[Names], Json] | None:
    """Return a closure for a mapping of `data.a`, `data.b.c`, ..., or None when it is not one."""
    paths = {name: each.path for name, each in children.items() if each.path is not None and len(each.path) in (2, 3)}
    roots = {path[0] for path in paths.values()}
    if len(paths) != len(children) or len(roots) != 1:
        return None
    root = roots.pop()
    fields = tuple((name, path[1], path[2] if len(path) == 3 else None) for name, path in paths.items())
    slowly = _object(children)

    def build(names: Names) -> Json:
        try:
            values = names[root]
            return {
                name: values[field] if inner is None else values[field][inner]  # type: ignore[index,call-overload]
                for name, field, inner in fields
            }
        except (KeyError, TypeError, IndexError):
            return slowly(names)  # which says what is absent

    return build


def _names(children: Iterable[Compiled]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for each in children:
        found |= each.names
    return found


def _warnings(children: Iterable[Compiled]) -> tuple[Problem, ...]:
    return tuple(problem for each in children for problem in each.warnings)


__all__ = ["ANY", "compile_leaf_string", "field_type", "literal", "mapping", "mismatches", "sequence"]
