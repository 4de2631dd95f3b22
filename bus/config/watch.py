"""Watching expressions: what each gave, and the value of every name that it read, for `bus explain`.

A watched configuration decides as any other does; its expressions also note down what they did. Only `explain` loads
one: the bus that runs does not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bus.config import cel_engine
from bus.config.cel_tree import Call, Const, Fold, Ident, Node, Select, children
from bus.config.expressions import named
from bus.config.leaves import expressions_in
from bus.core.errors import ExpressionFailed
from bus.core.expression import Expression, Names
from bus.core.message import Json

ABSENT = object()
"""The value of a name that is not there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One evaluation.

    Args:
        place: `file:line:col`.
        text: as written, with the slot before a condition.
        value: what it gave; None when it failed.
        error: why it failed, or "".
        reads: each name that it reads, with its value or ABSENT.
    """

    place: str
    text: str
    value: Json
    error: str
    reads: tuple[tuple[str, object], ...]


@dataclass(slots=True)
class Watch:
    """Notes down evaluations, in their order."""

    seen: list[Seen] = field(default_factory=list)

    def condition(self, expression: Expression, slot: str, place: str, roots: frozenset[str]) -> Expression:
        """Watch a bare expression.

        Args:
            roots: the names that its place has.
        """
        return self._watched(expression, expression.text, f"{slot} {expression.text}", place, [expression.text], roots)

    def value(self, expression: Expression, text: str, place: str, roots: frozenset[str]) -> Expression:
        """Watch a string with `{{ CEL }}` in it."""
        return self._watched(expression, expression.text, text, place, expressions_in(text), roots)

    def _watched(
        self, expression: Expression, name: str, text: str, place: str, texts: list[str], roots: frozenset[str]
    ) -> Expression:
        trees = [cel_engine.parse(each, roots) for each in texts]
        paths = tuple(dict.fromkeys(path for tree in trees for path in _reads(tree, frozenset()) if path[0] in roots))

        def evaluate(names: Names) -> Json:
            reads = tuple((_shown(path), _find(names, path)) for path in paths)
            try:
                value = expression(names)
            except ExpressionFailed as error:
                self.seen.append(Seen(place, text, None, str(error), reads))
                raise
            self.seen.append(Seen(place, text, value, "", reads))
            return value

        return named(name, evaluate)


_Path = tuple[str | int, ...]


def _reads(node: Node, bound: frozenset[str]) -> Iterator[_Path]:
    """The longest paths that are read; what a macro's variable leads to is part of its list."""
    path = _path(node)
    if path is not None:
        if path[0] not in bound:
            yield path
        return
    inner = bound | {node.variable, node.accu} if isinstance(node, Fold) else bound
    for each in children(node):
        outside = isinstance(node, Fold) and (each is node.range or each is node.init)
        yield from _reads(each, bound if outside else inner)


def _path(node: Node) -> _Path | None:
    """`data.a`, `data.?a` and `data.a[0]` as segments, or None for anything else."""
    if isinstance(node, Ident):
        return (node.name,)
    if isinstance(node, Select):
        before = _path(node.operand)
        return None if before is None else (*before, node.field)
    if isinstance(node, Call) and node.function in ("_[_]", "_?._", "_[?_]") and len(node.args) == 2:
        before, key = _path(node.args[0]), node.args[1]
        if before is not None and isinstance(key, Const) and isinstance(key.value, (str, int)):
            return (*before, key.value)
    return None


def _shown(path: _Path) -> str:
    """A path as it is written."""
    plain = [f".{each}" if isinstance(each, str) and each.isidentifier() else f"[{each!r}]" for each in path[1:]]
    return str(path[0]) + "".join(plain)


def _find(names: Names, path: _Path) -> object:
    value: object = names
    for each in path:
        try:
            value = value[each]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return value
