"""What a document template may use, and the bounds on it.

Refused at load: `**`, macros and everything else that collects output unseen, recursive loops, filters, methods and
attributes that are not listed here. Bounded at run time, because only then the values are known: the length of
texts and lists that `+`, `~` and `replace` make, and the number of items that loops and `in` touch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from functools import reduce
from typing import Any, cast

import jinja2.filters
from jinja2 import Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.visitor import NodeTransformer

from bus.config.text_form import text_form

BUDGET = "\0budget"
"""Name of the render's budget among the values; no template can spell it."""

_CHARGE, _TEXT = "\0charge", "\0text"
_MAX_STEPS = 100_000  # list items that one rendering may touch
_MAX_RANGE = 10_000
_MAX_TEXT = 256 * 1024
_MAX_LIST = 10_000
_MAX_INDENT = 100

FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int",
    "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select",
    "selectattr", "sort", "string", "striptags", "sum", "title", "tojson", "trim", "truncate", "unique", "upper",
    "wordcount",
)  # fmt: skip
TESTS = (
    "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge", "greaterthan", "gt",
    "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none", "number", "odd", "sequence",
    "string", "true", "undefined", "upper", "==", "!=", "<", "<=", ">", ">=",
)  # fmt: skip
METHODS = frozenset((
    "lower", "upper", "strip", "lstrip", "rstrip", "title", "capitalize", "startswith", "endswith", "split",
    "splitlines", "find", "count", "index", "isdigit", "get",
    "items", "keys", "values", "cycle", "changed",
))  # fmt: skip
_REFUSED: Mapping[type[nodes.Node], tuple[str, str]] = {
    nodes.Pow: ("`**` is not available", "a value computed in a route"),
    nodes.Macro: ("macros are not available", "an `include`"),
    nodes.CallBlock: ("`call` is not available", "an `include`"),
    nodes.FilterBlock: ("`filter` blocks are not available", "the filter on each value"),
    nodes.AssignBlock: ("`set` blocks are not available", "`{% set name = value %}`"),
    nodes.Import: ("`import` is not available", "an `include`"),
    nodes.FromImport: ("`import` is not available", "an `include`"),
    nodes.NSRef: ("`namespace` is not available", "a value computed in a route"),
}


class Unsafe(Exception):
    """A template uses what is not available. Its line, what it uses and what to write instead."""

    def __init__(self, line: int, what: str, instead: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what
        self.instead = instead


class Budget:
    """What is left of the items that one rendering may touch."""

    def __init__(self) -> None:
        self._left = _MAX_STEPS

    def spend(self, items: int) -> None:
        """Count items.

        Raises:
            SecurityError: there were too many.
        """
        self._left -= items
        if self._left < 0:
            raise SecurityError(f"the document touches more than {_MAX_STEPS} list items")


# --- at load ------------------------------------------------------------------------------------------------------


def bounded(tree: nodes.Template) -> nodes.Template:
    """Check a template's tree and return it with its loops counted and `~` made a bounded `+`.

    Raises:
        Unsafe: it uses what is not available.
    """
    for node in tree.find_all(nodes.Node):
        _check(node)
    changed = _Bound().visit(tree)
    changed.set_environment(tree.environment)
    assert isinstance(changed, nodes.Template)
    return changed


def included(tree: nodes.Template) -> set[str]:
    """Return the templates that a tree includes or extends; their names are constants, as `bounded` has checked."""
    found: set[str] = set()
    nodes_: list[nodes.Include | nodes.Extends] = [*tree.find_all(nodes.Include), *tree.find_all(nodes.Extends)]
    for node in nodes_:
        name = node.template.as_const()
        found.update(name if isinstance(name, (list, tuple)) else [name])
    return found


def _check(node: nodes.Node) -> None:
    refused = _REFUSED.get(type(node))
    if refused:
        raise Unsafe(node.lineno, *refused)
    if isinstance(node, nodes.Mul) and any(_repeatable(each) for each in (node.left, node.right)):
        raise Unsafe(node.lineno, "`*` is for numbers", "the text as often as it is wanted")
    if isinstance(node, nodes.Filter) and node.name not in FILTERS and node.name not in BOUNDED_FILTERS:
        raise Unsafe(node.lineno, f"there is no filter `{node.name}`", f"one of {', '.join(sorted(FILTERS))}")
    if isinstance(node, nodes.Test) and node.name not in TESTS:
        raise Unsafe(node.lineno, f"there is no test `{node.name}`", f"one of {', '.join(TESTS[:20])}")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("__"):
        raise Unsafe(node.lineno, f"`{node.attr}` is not available", "a field of the message")
    if isinstance(node, nodes.Name) and node.name == "self":
        raise Unsafe(node.lineno, "`self` is not available", "the block once, where it belongs")
    if isinstance(node, nodes.For) and node.recursive:
        raise Unsafe(node.lineno, "recursive loops are not available", "nested loops")
    if isinstance(node, (nodes.Include, nodes.Extends)) and not _constant_names(node.template):
        raise Unsafe(node.lineno, "the name of an included template must be written out", "its file name in quotes")
    if isinstance(node, nodes.Call):
        _check_call(node)


def _repeatable(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Const):
        return isinstance(node.value, str)
    return isinstance(node, (nodes.List, nodes.Tuple, nodes.Concat))


def _constant_names(node: nodes.Node) -> bool:
    each = node.items if isinstance(node, (nodes.List, nodes.Tuple)) else [node]
    return all(isinstance(one, nodes.Const) and isinstance(one.value, str) for one in each)


def _check_call(node: nodes.Call) -> None:
    called = node.node
    if isinstance(called, nodes.Getattr):
        if called.attr not in METHODS:
            raise Unsafe(node.lineno, f"there is no method `{called.attr}`", f"one of {', '.join(sorted(METHODS))}")
    elif not isinstance(called, nodes.Name) or called.name not in ("range", "super"):
        name = f"`{called.name}`" if isinstance(called, nodes.Name) else "this"
        raise Unsafe(node.lineno, f"{name} is no function here", "`range(...)`, or a filter")
    elif called.name == "range":
        bounds = [each.value for each in node.args if isinstance(each, nodes.Const)]
        if any(isinstance(each, int) and abs(each) > _MAX_RANGE for each in bounds):
            raise Unsafe(node.lineno, f"a range has at most {_MAX_RANGE} items", "a smaller one")


class _Bound(NodeTransformer):
    """Puts the counting into the tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _charged(cast(nodes.Expr, node.iter))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self.generic_visit(node)
        if node.node is not None:
            node.node = _charged(node.node)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        for operand in node.ops:
            if operand.op in ("in", "notin"):
                operand.expr = _charged(operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        texts: list[nodes.Expr] = [_filter(each, _TEXT) for each in node.nodes]
        return reduce(lambda left, right: nodes.Add(left, right, lineno=node.lineno), texts)


def _charged(node: nodes.Expr) -> nodes.Filter:
    return _filter(node, _CHARGE)


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


# --- at run time --------------------------------------------------------------------------------------------------


@pass_context
def _charge(context: Any, value: Any) -> Any:
    budget: Budget = context.resolve(BUDGET)
    if isinstance(value, Undefined):
        return value  # what is done with it says what is absent
    if isinstance(value, str):
        budget.spend(len(value) // 64 + 1)
    elif isinstance(value, Sized):
        budget.spend(len(value) + 1)
    elif isinstance(value, Iterator):
        return _counted(value, budget)
    return value


def _counted(values: Any, budget: Budget) -> Iterator[Any]:
    for each in values:
        budget.spend(1)
        yield each


def bounded_range(*args: int) -> range:
    """`range` of bounded length."""
    found = range(*args)
    if len(found) > _MAX_RANGE:
        raise SecurityError(f"a range has at most {_MAX_RANGE} items")
    return found


def _replace(value: Any, old: Any, new: Any) -> str:
    text, old, new = str(value), str(old), str(new)
    if len(text) + text.count(old) * len(new) > _MAX_TEXT:
        raise SecurityError("the text becomes too long")
    return text.replace(old, new)


@pass_context
def _join(context: Any, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    items = list(_charge(context, value))
    text = str(jinja2.filters.sync_do_join(context.eval_ctx, items, "", attribute))
    if len(text) + len(items) * len(str(d)) > _MAX_TEXT:
        raise SecurityError("the text becomes too long")
    return str(jinja2.filters.sync_do_join(context.eval_ctx, items, str(d), attribute))


def _indent(value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    if not isinstance(width, int) or not 0 <= width <= _MAX_INDENT:
        raise SecurityError(f"an indent has at most {_MAX_INDENT} spaces")
    return jinja2.filters.do_indent(str(value), width, first, blank)


def _round(value: Any, precision: Any = 0) -> float:
    if not isinstance(precision, int) or not 0 <= precision <= 20:
        raise SecurityError("a number is rounded to 0 to 20 digits")
    return round(float(value), precision)


BOUNDED_FILTERS: Mapping[str, Callable[..., Any]] = {
    _CHARGE: _charge,
    _TEXT: text_form,
    "replace": _replace,
    "join": _join,
    "indent": _indent,
    "round": _round,
}


def _numbers(left: Any, right: Any) -> None:
    if not all(isinstance(each, (int, float)) and abs(each) < 2**63 for each in (left, right)):
        raise SecurityError("arithmetic is for numbers")


def _add(left: Any, right: Any) -> None:
    if isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > _MAX_TEXT:
            raise SecurityError("the text becomes too long")
    elif isinstance(left, list) and isinstance(right, list):
        if len(left) + len(right) > _MAX_LIST:
            raise SecurityError("the list becomes too long")
    else:
        _numbers(left, right)


OPERATORS: Mapping[str, Callable[[Any, Any], None]] = {
    "+": _add,
    "-": _numbers,
    "*": _numbers,
    "/": _numbers,
    "//": _numbers,
    "%": _numbers,
}
