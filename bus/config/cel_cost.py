"""What an expression may cost, so that no message can make an innocent expression run for minutes or fill the memory.

The engine itself gives up after 10,000 iterations and bounds nothing else: `xs.all(x, x in ys)` scans, and
`data.template.replace("{name}", data.name)` multiplies two texts that a sender chooses. So an expression with a
macro or with a multiplying function is weighed at load, and before each evaluation the longest list and the longest
text among the values it reads are put into that weight. Work is counted in characters or list items touched.

At load: macros nest at most MAX_NESTING deep, and a chain of macros and replacements may not double texts endlessly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bus.config.cel_tree import Call, Const, Fold, ListOf, MapOf, Node, children, walk
from bus.core.errors import ExpressionFailed

MAX_NESTING = 2
MAX_GROWTH = 4096
MAX_WORK = 1 << 26  # some seconds in the very worst case, far less in any usual one
_REPLACE_WEIGHT = 8  # the engine replaces at a tenth of the speed at which it copies


@dataclass(frozen=True, slots=True)
class Cost:
    """Args:
    nesting: how deep macros and scans nest.
    macros: how deep macros alone nest.
    texts: how many texts are multiplied with one another, at least 1.
    growth: factor by which literals and repeated `+` may lengthen a text.
    splits: a text may become a list.
    """

    nesting: int
    macros: int
    texts: int
    growth: int
    splits: bool

    @property
    def free(self) -> bool:
        """Nothing multiplies: the cost is bounded by the length of the expression and of the message."""
        return self.nesting == 0 and self.texts == 1 and self.growth == 1


def weigh(tree: Node) -> Cost:
    """Weigh an expression."""
    macros, nesting = _nesting(tree, inside=False)
    texts, growth, splits = 1, 1, False
    for node in walk(tree):
        if isinstance(node, Fold):
            growth *= 1 + sum(isinstance(each, Call) and each.function == "_+_" for each in walk(node))
        elif isinstance(node, Call) and node.function == "replace":
            new, old = node.args[1], node.args[0]
            if isinstance(new, Const) and isinstance(new.value, str) and isinstance(old, Const):
                growth *= max(1, (len(new.value) + (not old.value)) // max(1, len(str(old.value))))
            else:
                texts, growth = texts + 1, growth * _REPLACE_WEIGHT
        elif isinstance(node, Call) and node.function == "join" and node.args and not isinstance(node.args[0], Const):
            nesting += 1
        elif isinstance(node, Call) and node.function == "split":
            splits = True
    return Cost(nesting, macros, texts, growth, splits)


def _nesting(node: Node, *, inside: bool) -> tuple[int, int]:
    """Return how deep macros nest, and macros together with scans."""
    if isinstance(node, Fold) and node.variable != "#unused":  # that one is optMap, which never loops
        inner = [_nesting(each, inside=True) for each in (node.init, node.condition, node.step, node.result)]
        outer = _nesting(node.range, inside=inside)
        return max(1 + max(each[0] for each in inner), outer[0]), max(1 + max(each[1] for each in inner), outer[1])
    deepest = [_nesting(each, inside=inside) for each in children(node)]
    macros, both = max((each[0] for each in deepest), default=0), max((each[1] for each in deepest), default=0)
    scans = (
        inside and isinstance(node, Call) and node.function == "@in" and not isinstance(node.args[1], (ListOf, MapOf))
    )
    return macros, both + scans


def guard(cost: Cost, text: str) -> Callable[[Iterable[Any]], None]:
    """Return a check of the values that an expression is about to read; it raises ExpressionFailed."""

    def check(values: Iterable[Any]) -> None:
        longest, widest = _measure(values)
        items = max(longest if cost.splits else 0, widest, len(text) // 2)
        if items**cost.nesting * max(longest, 16) ** cost.texts * cost.growth > MAX_WORK:
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise ExpressionFailed(f"`{shown}`: the lists or texts of this message are too long for it")

    return check


def _measure(values: Iterable[Any]) -> tuple[int, int]:
    """Return the longest text and the longest list or object among the values."""
    longest = widest = 0
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            longest = max(longest, len(value))
        elif isinstance(value, list):
            widest = max(widest, len(value))
            stack.extend(value)
        elif isinstance(value, dict):
            widest = max(widest, len(value))
            stack.extend(value.values())
            stack.extend(value)
    return longest, widest
