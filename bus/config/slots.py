"""Slots of a route: expressions and values compiled in their scope, with problems put at their place in the file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bus.config.assets import Assets
from bus.config.contracts import LoadedContract
from bus.config.expressions import Compiled, Scope, compile_expression
from bus.config.files import Folder
from bus.config.interpolate import references
from bus.config.leaves import compile_leaf_string, literal, mapping, sequence
from bus.config.mismatch import mismatches
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.places import Names
from bus.config.problem import Problem
from bus.config.reader import Reader
from bus.config.types import Type
from bus.config.watch import Watch
from bus.config.yamlfaults import clip
from bus.core.expression import Expression
from bus.core.spec import ExprType


@dataclass(frozen=True, slots=True)
class Slots:
    """Compiles what stands in the routes of one folder.

    Args:
        watch: notes down what the compiled expressions do; None in a bus that runs.
    """

    reader: Reader
    assets: Assets
    folder: Folder
    watch: Watch | None = None

    def forbid_env(self, node: Node) -> None:
        """Report every `${VAR}` of a route: routes read `config`, which is typed and has a default."""
        if isinstance(node, Scalar):
            for offset, text in references(node.text):
                name = text.strip("${}").split(":")[0].lower()
                what = f"`{clip(text)}` in a route"
                self.reader.report(
                    node, "env-in-route", what, f"`config.{name}`, declared in the integration", offset=offset
                )
        elif isinstance(node, Sequence):
            for item in node.items:
                self.forbid_env(item)
        else:
            for _, value in node.pairs:
                self.forbid_env(value)

    def env(self, node: Scalar) -> bool:
        """Whether a scalar has an `env-in-route` already, so that nothing more need be said about it."""
        return bool(references(node.text))

    def expression(self, node: Node, slot: str, names: Names, want: ExprType = "any") -> Expression | None:
        """Compile a bare CEL slot."""
        compiled = self.compiled(node, slot, names, want)
        return None if compiled is None else compiled.expression

    def compiled(self, node: Node, slot: str, names: Names, want: ExprType = "any") -> Compiled | None:
        """Compile a bare CEL slot, with its type."""
        if not isinstance(node, Scalar) or node.value is None:
            self.reader.wrong(node, slot, "an expression", "`data.x == 1`")
            return None
        if node.broken or self.env(node):
            return None
        compiled = compile_expression(node.text, Scope(names), want, slot)
        if isinstance(compiled, tuple):
            self.problems(node, compiled)
            return None
        self.problems(node, compiled.warnings)
        if self.watch is not None:
            watched = self.watch.condition(compiled.expression, slot, _place(node), frozenset(names))
            return replace(compiled, expression=watched)
        return compiled

    def value(self, node: Node, names: Names) -> Compiled | None:
        """Compile a YAML value whose strings may be `{{ CEL }}`."""
        if isinstance(node, Scalar):
            return self._scalar(node, names)
        if isinstance(node, Sequence):
            items = [self.value(item, names) for item in node.items]
            good = [item for item in items if item is not None]
            return sequence(good) if len(good) == len(items) else None
        fields = [(key.text, self.value(item, names)) for key, item in node.pairs]
        found = {key: item for key, item in fields if item is not None}
        return mapping(found) if len(found) == len(fields) else None

    def _scalar(self, node: Scalar, names: Names) -> Compiled | None:
        if node.broken or self.env(node):
            return None
        if not isinstance(node.value, str):
            return literal(node.value)
        compiled = compile_leaf_string(node.text, Scope(names))
        if isinstance(compiled, tuple):
            self.problems(node, compiled)
            return None
        self.problems(node, compiled.warnings)
        if self.watch is not None and compiled.names:
            watched = self.watch.value(compiled.expression, node.text, _place(node), frozenset(names))
            return replace(compiled, expression=watched, path=None)  # a path would be read past the watch
        return compiled

    def problems(self, node: Scalar, problems: tuple[Problem, ...]) -> None:
        """Report what is wrong in a scalar's text, at the token."""
        for each in problems:
            self.reader.report(node, each.code, each.what, each.instead, offset=each.offset, severity=each.severity)

    def check(self, node: Node, produced: Type, contract: LoadedContract) -> None:
        """Report where a produced value cannot keep a contract.

        Args:
            node: the value, or the name of a target that gets the current data.
        """
        for each in mismatches(produced, contract):
            at = self._at(node, each.pointer)
            self.reader.report(at, each.code, each.what, each.instead, severity=each.severity)

    def _at(self, node: Node, pointer: str) -> Node:
        """The node that a JSON pointer names, or the nearest above it."""
        for segment in pointer.split("/")[1:]:
            if not isinstance(node, MappingNode):
                break
            name = segment.replace("~1", "/").replace("~0", "~")
            key = node.key(name)
            if key is None:
                break
            value = node.get(name)
            node = value if isinstance(value, MappingNode) else key
        return node


def _place(node: Scalar) -> str:
    line, col = node.source.position(node.start)
    return f"{node.source.path}:{line}:{col}"
