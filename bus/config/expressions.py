"""Compiles expressions: text and what the names mean in, a callable or findings out.

The engine parses and checks the text (`cel_engine`); what it refuses is said again in a route author's words
(`cel_faults`). Its tree is checked once more against the contracts' types (`cel_check`), weighed so that no message
can make it run long (`cel_cost`), and compiled: to a closure when it is a path or a simple condition (`cel_fast`),
else to a call of the engine that hands over only the names that the expression mentions.

Limits: a text has at most 4 KiB, the parser nests at most 32 deep (a chain of 32 operators counts as well), macros
such as `map` nest at most 2 deep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from bus.config import cel_cost, cel_engine, cel_faults, cel_numbers
from bus.config.cel_check import Checker, as_bool, default_of, start
from bus.config.cel_fast import compile_fast, plain_path
from bus.config.cel_plain import form
from bus.config.cel_text import render
from bus.config.cel_tree import Fold, Ident, Node, children
from bus.config.problem import Found, Problem
from bus.config.types import (
    ANY,
    BOOL,
    BYTES,
    DURATION,
    INT,
    NEVER,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    List,
    Object,
    Optional,
    Plain,
    Type,
    an,
    options,
    union,
)
from bus.core.errors import ExpressionFailed
from bus.core.expression import Expression, Names
from bus.core.message import Json
from bus.core.plain import meaning
from bus.core.spec import ExprType

MAX_TEXT_BYTES = 4096

_KINDS: Mapping[str, type] = {"bool": bool, "list": list, "string": str}


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that an expression may read, and what is known of each.

    Args:
        names: static types by name: data, msg, request, vars, config, ...
    """

    names: Mapping[str, Type]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled expression or value; `expression` serves as `Expression` and as `Leaf`.

    Args:
        expression: evaluates.
        type: what it gives, as far as known.
        names: the names that it reads.
        warnings: findings that do not refuse it.
        path: the fields when it is only a path, so that trees of values can read it directly.
    """

    expression: Expression
    type: Type
    names: frozenset[str]
    warnings: tuple[Problem, ...] = field(default=())
    path: tuple[str, ...] | None = None


def named(text: str, evaluate: Callable[[Names], Json]) -> Expression:
    """Give a closure the text that it came from; a plain function is called faster than an object."""
    cast(Any, evaluate).text = text
    return cast(Expression, evaluate)


def compile_expression(
    text: str, scope: Scope, want: ExprType = "any", slot: str = ""
) -> Compiled | tuple[Problem, ...]:
    """Compile one bare CEL expression.

    Args:
        text: the expression.
        scope: what it may read.
        want: the type that its value must have.
        slot: the key it stands under, for messages; "" is called "this".

    Returns:
        The compiled expression, or its errors; offsets count characters of `text`.
    """
    try:
        return _compile(text, scope, want, slot)
    except Found as found:
        return found.problems


def _compile(text: str, scope: Scope, want: ExprType, slot: str) -> Compiled:
    cel_faults.refuse_early(text, slot, MAX_TEXT_BYTES)
    names = frozenset(scope.names)
    try:
        checked = cel_engine.check(text, names)
    except cel_engine.EngineRefused as refused:
        raise Found(*_refused(text, scope, refused.faults)) from refused
    type_, problems = _problems(text, checked.tree, scope)
    if problems:
        raise Found(*problems)
    cost = cel_cost.weigh(checked.tree)
    _refuse_expensive(cost)
    json_type = _deliverable(checked.tree, type_)
    _check_wanted(checked.tree, json_type, want, slot)
    used = frozenset(_free(checked.tree, frozenset())) & names
    fast = compile_fast(checked.tree)
    evaluate = fast or _with_engine(text, checked, scope, used, cost)
    if want != "any" and json_type != {"bool": BOOL, "string": STRING}.get(want):
        evaluate = _ensure(text, evaluate, want)
    said = form(checked.tree) if fast is not None and want in ("any", "bool") else None
    expression = meaning(named(text, evaluate), said)
    return Compiled(expression, json_type, used, path=plain_path(checked.tree) if want == "any" else None)


def _refused(text: str, scope: Scope, faults: tuple[cel_engine.Fault, ...]) -> tuple[Problem, ...]:
    """Say what the engine refuses: as syntax when the text does not even parse, else together with our own checks."""
    try:
        tree = cel_engine.parse(text, frozenset(scope.names))
    except cel_engine.EngineRefused as refused:
        return (cel_faults.syntax(text, refused.faults),)
    return cel_faults.meaning(text, faults, scope.names, _problems(text, tree, scope)[1])


def _problems(text: str, tree: Node, scope: Scope) -> tuple[Type, tuple[Problem, ...]]:
    checker = Checker(text)
    found = checker.infer(tree, scope.names)
    return found, tuple(sorted(checker.problems, key=lambda each: each.offset))


def _free(node: Node, bound: frozenset[str]) -> set[str]:
    """Return the names that are read from outside; macro variables are not."""
    if isinstance(node, Ident):
        return set() if node.name in bound else {node.name}
    inner = bound | {node.variable, node.accu} if isinstance(node, Fold) else bound
    free: set[str] = set()
    for each in children(node):
        outside = isinstance(node, Fold) and (each is node.range or each is node.init)
        free |= _free(each, bound if outside else inner)
    return free


def _refuse_expensive(cost: cel_cost.Cost) -> None:
    if cost.macros > cel_cost.MAX_NESTING:
        what = f"macros nest {cost.macros} deep; at most {cel_cost.MAX_NESTING} are allowed"
        raise Found(Problem(0, "bad-cel", what, "a step that prepares one of the lists in `vars`"))
    if cost.growth > cel_cost.MAX_GROWTH:
        raise Found(Problem(0, "bad-cel", "this may make texts thousands of times longer", "a shorter expression"))


# --- the result ---------------------------------------------------------------------------------------------------


def _deliverable(tree: Node, type_: Type) -> Type:
    """Return the type of the value as JSON, in which times and durations are strings."""
    if isinstance(type_, Optional):
        better = f"`{render(tree)}.orValue({default_of(type_.inner)})`"
        raise Found(Problem(start(tree), "wrong-type", "an optional is no value", better))
    if type_ == BYTES:
        raise Found(Problem(start(tree), "wrong-type", "bytes are no JSON value", f"`base64.encode({render(tree)})`"))
    if type_ == Plain("type"):
        raise Found(Problem(start(tree), "wrong-type", "a type is no JSON value", f"`string({render(tree)})`"))
    return as_json(type_)


def as_json(type_: Type) -> Type:
    """Return the type that a value has once it is JSON."""
    if type_ in (TIMESTAMP, DURATION):
        return STRING
    if type_ == UINT:
        return INT
    if isinstance(type_, List):
        return List(as_json(type_.item))
    if isinstance(type_, Object) and not type_.name:
        fields = {name: as_json(each) for name, each in type_.fields.items()}
        return Object(fields, type_.required, type_.rest, type_.exact)
    return union(as_json(each) for each in type_.options) if len(options(type_)) > 1 else type_  # type: ignore[union-attr]


def _check_wanted(tree: Node, type_: Type, want: ExprType, slot: str) -> None:
    here = f"`{slot}`" if slot else "this"
    parts = options(type_)
    if want == "any" or ANY in parts or type_ == NEVER:
        return
    if want == "bool" and BOOL not in parts:
        raise Found(Problem(start(tree), "not-bool", f"{here} gets {an(type_)}, not a bool", as_bool(tree, type_)))
    if want == "list" and not any(isinstance(each, List) for each in parts):
        raise Found(Problem(start(tree), "wrong-type", f"{here} gets {an(type_)}, not a list", f"`[{render(tree)}]`"))
    if want == "string" and STRING not in parts:
        better = "" if isinstance(type_, (List, Object)) or type_ == NULL else f"`string({render(tree)})`"
        raise Found(Problem(start(tree), "wrong-type", f"{here} gets {an(type_)}, not a string", better))


def _ensure(text: str, evaluate: Callable[[Names], Json], want: ExprType) -> Callable[[Names], Json]:
    """Check at run time what could not be known at load."""
    kind = _KINDS[want]

    def ensured(names: Names) -> Json:
        value = evaluate(names)
        if not isinstance(value, kind):
            raise ExpressionFailed(f"`{text}` gave {type(value).__name__}, not a {want}")
        return value

    return ensured


def _with_engine(
    text: str, checked: cel_engine.Checked, scope: Scope, used: frozenset[str], cost: cel_cost.Cost
) -> Callable[[Names], Json]:
    run, mentioned = checked.run, tuple(sorted(used))
    check = None if cost.free else cel_cost.guard(cost, text)
    arithmetic = cel_numbers.has_arithmetic(checked.tree)
    converters = {
        name: made
        for name in mentioned
        if arithmetic and (made := cel_numbers.converter(scope.names[name])) is not None
    }

    def evaluate(names: Names) -> Json:
        try:
            values: dict[str, Json] = {name: names[name] for name in mentioned}
        except KeyError as error:
            raise ExpressionFailed(f"`{error.args[0]}` has no value here") from None
        if check is not None:
            check(values.values())
        for name, convert in converters.items():
            values[name] = convert(values[name])
        return run(values)

    return evaluate
