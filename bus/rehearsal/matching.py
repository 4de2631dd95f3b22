"""Expected data against actual data: maps are partial, lists exact, and a matcher may stand for any value.

One walk over both gives the lines of a diff and how many of them are wrong, so what a person is shown is what was
compared. `ABSENT` stands for a field that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias, Union

from bus.core.errors import ExpressionFailed
from bus.core.expression import Expression
from bus.core.message import Json

_SHORT = 72  # characters of a list that stands on one line
_LONG = 160  # characters of a value in a diff; more hides the difference
_QUIET = 4  # lines of a subtree that is as expected; a longer one becomes a single line


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


ABSENT: Final = _Absent()
"""The value of a field that is not there."""

Actual: TypeAlias = Union[Json, _Absent]
Mark: TypeAlias = Literal[" ", "-", "+", "?"]

TYPES: Mapping[str, Callable[[Actual], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
"""What `$type` may name: the types of JSON Schema."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a diff: `-` expected, `+` actual, `?` points at the difference, ` ` is the same in both."""

    mark: Mark
    depth: int
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Args:
    lines: the diff.
    wrong: how many places differ; 0 when all is as expected.
    """

    lines: tuple[Line, ...]
    wrong: int


# --- matchers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Equal:
    """A value as it stands; 1 and 1.0 are equal, 1 and true are not."""

    value: Json

    def accepts(self, actual: Actual) -> bool:
        return not isinstance(actual, _Absent) and same(self.value, actual)

    def __str__(self) -> str:
        return shown(self.value)


@dataclass(frozen=True, slots=True)
class Anything:
    """`$any`: whatever is there."""

    def accepts(self, actual: Actual) -> bool:
        return actual is not ABSENT

    def __str__(self) -> str:
        return "$any"


@dataclass(frozen=True, slots=True)
class Absent:
    """`$absent`: nothing is there."""

    def accepts(self, actual: Actual) -> bool:
        return actual is ABSENT

    def __str__(self) -> str:
        return "$absent"


@dataclass(frozen=True, slots=True)
class OfType:
    """`$type`: a value of this type of JSON Schema."""

    name: str

    def accepts(self, actual: Actual) -> bool:
        return TYPES[self.name](actual)

    def __str__(self) -> str:
        return f"$type {self.name}"


@dataclass(frozen=True, slots=True)
class Matching:
    """`$match`: a text in which the regular expression is found."""

    pattern: re.Pattern[str]

    def accepts(self, actual: Actual) -> bool:
        return isinstance(actual, str) and self.pattern.search(actual) is not None

    def __str__(self) -> str:
        return f"$match {self.pattern.pattern}"


@dataclass(frozen=True, slots=True)
class Near:
    """`$near`: a number that differs by at most `tolerance`."""

    value: float
    tolerance: float

    def accepts(self, actual: Actual) -> bool:
        return (
            isinstance(actual, (int, float))
            and not isinstance(actual, bool)
            and abs(actual - self.value) <= self.tolerance
        )

    def __str__(self) -> str:
        return f"$near [{self.value:g}, {self.tolerance:g}]"


@dataclass(frozen=True, slots=True)
class Has:
    """`$has`: a list with an item for each of these, or a text with each of these in it."""

    items: tuple[Matcher, ...]

    def accepts(self, actual: Actual) -> bool:
        if isinstance(actual, str):
            return all(
                isinstance(each, Equal) and isinstance(each.value, str) and each.value in actual for each in self.items
            )
        return isinstance(actual, list) and all(any(fits(each, one) for one in actual) for each in self.items)

    def __str__(self) -> str:
        return "$has " + (str(self.items[0]) if len(self.items) == 1 else "[" + ", ".join(map(str, self.items)) + "]")


@dataclass(frozen=True, slots=True)
class Holds:
    """`$cel`: a value for which the expression is true; it reads `value`."""

    expression: Expression

    def accepts(self, actual: Actual) -> bool:
        if isinstance(actual, _Absent):
            return False
        try:
            return self.expression({"value": actual}) is True
        except ExpressionFailed:
            return False

    def __str__(self) -> str:
        return f"$cel {self.expression.text}"


@dataclass(frozen=True, slots=True)
class Every:
    """Several matchers on one value."""

    matchers: tuple[Matcher, ...]

    def accepts(self, actual: Actual) -> bool:
        return all(fits(each, actual) for each in self.matchers)

    def __str__(self) -> str:
        return ", ".join(map(str, self.matchers))


@dataclass(frozen=True, slots=True)
class Fields:
    """A map: each of these fields; others may be there too, unless it is `strict`."""

    fields: Mapping[str, Matcher]
    strict: bool = False

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name}: {each}" for name, each in self.fields.items()) + "}"


@dataclass(frozen=True, slots=True)
class Items:
    """A list: exactly these items, in this order."""

    items: tuple[Matcher, ...]

    def __str__(self) -> str:
        return "[" + ", ".join(map(str, self.items)) + "]"


Leaf: TypeAlias = Union[Equal, Anything, Absent, OfType, Matching, Near, Has, Holds, Every]
Matcher: TypeAlias = Union[Leaf, Fields, Items]


def exactly(value: Json) -> Matcher:
    """`$exactly`: this value and nothing more, with no matchers in it."""
    if isinstance(value, dict):
        return Fields({name: exactly(each) for name, each in value.items()}, strict=True)
    if isinstance(value, list):
        return Items(tuple(exactly(each) for each in value))
    return Equal(value)


# --- comparing ----------------------------------------------------------------------------------------------------


def fits(expected: Matcher, actual: Actual) -> bool:
    """Whether a value is as expected."""
    return compare(expected, actual).wrong == 0


def compare(expected: Matcher, actual: Actual) -> Comparison:
    """Compare, and write the diff."""
    lines: list[Line] = []
    wrong = _walk("", expected, actual, 0, lines)
    return Comparison(tuple(lines), wrong)


def changes(lines: Iterable[Line]) -> list[Line]:
    """Only what differs, with the fields above it."""
    kept: list[Line] = []
    above: list[Line] = []
    for line in lines:
        above = [each for each in above if each.depth < line.depth]
        if line.mark == " ":
            above.append(line)
        else:
            kept += [*above, line]
            above = []
    return kept


def same(one: Json, other: Json) -> bool:
    """Whether two JSON values are equal as JSON sees them."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other if isinstance(one, str) or one is None else one == other


def shown(value: Actual) -> str:
    """A value on one line."""
    return repr(value) if isinstance(value, _Absent) else json.dumps(value, ensure_ascii=False)


def clipped(text: str, length: int = _LONG) -> str:
    """A text of bounded length."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _walk(label: str, expected: Matcher, actual: Actual, depth: int, lines: list[Line]) -> int:
    if isinstance(expected, Fields) and isinstance(actual, dict):
        return _inside(label, depth, lines, lambda at, inner: _fields(expected, actual, at, inner))
    if isinstance(expected, Items) and isinstance(actual, list) and not _on_one_line(expected, actual):
        return _inside(label, depth, lines, lambda at, inner: _items(expected, actual, at, inner))
    if _accepts(expected, actual):
        lines.append(Line(" ", depth, _labelled(label, clipped(shown(actual)))))
        return 0
    said = _texts(expected, actual)
    lines.append(Line("-", depth, _labelled(label, said[0])))
    lines.append(Line("+", depth, _labelled(label, said[1])))
    if len(said) > 2:
        lines.append(Line("?", depth, " " * len(_labelled(label, "")) + said[2]))
    return 1


def _accepts(expected: Matcher, actual: Actual) -> bool:
    if isinstance(expected, Items):
        return (
            isinstance(actual, list) and len(actual) == len(expected.items) and all(map(fits, expected.items, actual))
        )
    return not isinstance(expected, Fields) and expected.accepts(actual)


def _inside(label: str, depth: int, lines: list[Line], walk: Callable[[int, list[Line]], int]) -> int:
    inner: list[Line] = []
    wrong = walk(depth + 1 if label else depth, inner)
    if label and not wrong and len(inner) > _QUIET:
        lines.append(Line(" ", depth, f"{label}: (as expected)"))
        return 0
    if label:
        lines.append(Line(" ", depth, f"{label}:"))
    lines += inner
    return wrong


def _fields(expected: Fields, actual: Mapping[str, Json], depth: int, lines: list[Line]) -> int:
    wrong = 0
    extra = [name for name in actual if name not in expected.fields]
    for name, each in expected.fields.items():
        found: Actual = actual.get(name, ABSENT) if name in actual else ABSENT
        at = len(lines)
        wrong += _walk(name, each, found, depth, lines)
        near = get_close_matches(name, extra, n=1) if found is ABSENT and len(lines) > at + 1 else []
        if near:
            lines[-1] = Line("+", depth, f"{name}: (absent; there is `{near[0]}`)")
    if expected.strict:
        lines += [Line("+", depth, f"{name}: {clipped(shown(actual[name]))}") for name in extra]
        return wrong + len(extra)
    if extra:
        lines.append(Line(" ", depth, f"(not compared: {clipped(', '.join(extra))})"))
    return wrong


def _items(expected: Items, actual: list[Json], depth: int, lines: list[Line]) -> int:
    wrong = 0
    for index, (each, found) in enumerate(zip(expected.items, actual, strict=False)):
        wrong += _walk(f"[{index}]", each, found, depth, lines)
    both = min(len(expected.items), len(actual))
    for index, missing in enumerate(expected.items[both:], both):
        lines.append(Line("-", depth, f"[{index}]: {clipped(str(missing))}"))
    for index, found in enumerate(actual[both:], both):
        lines.append(Line("+", depth, f"[{index}]: {clipped(shown(found))}"))
    return wrong + abs(len(expected.items) - len(actual))


def _on_one_line(expected: Items, actual: list[Json]) -> bool:
    plain = not any(isinstance(each, (dict, list)) for each in actual)
    return plain and len(str(expected)) <= _SHORT and len(shown(actual)) <= _SHORT


def _labelled(label: str, text: str) -> str:
    return f"{label}: {text}" if label else text


def _texts(expected: Matcher, actual: Actual) -> tuple[str, ...]:
    """Expected, actual, and for long texts a mark under the first character that differs."""
    one, other = str(expected), shown(actual)
    if not (isinstance(expected, Equal) and isinstance(expected.value, str) and isinstance(actual, str)):
        return clipped(one), clipped(other)
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if at < 8:
        return clipped(one), clipped(other)
    cut = max(0, at - _LONG // 2) if max(len(one), len(other)) > _LONG else 0
    start = "..." if cut else ""
    pieces = (clipped(start + one[cut:]), clipped(start + other[cut:]))
    return (*pieces, " " * (at - cut + len(start)) + "^")
