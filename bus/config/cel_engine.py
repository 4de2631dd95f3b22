"""The CEL engine: the only file that knows which package evaluates expressions.

Two packages evaluate CEL natively. Chosen is cel-expr-python 0.1 (C++), over common-expression-language 0.10 (Rust):

- Conformance. Of the 1723 cases of cel-spec's suite that need no protocol buffer messages it passes 1595 (93 %), the
  other 1118 (65 %). Cases passed, C++ then Rust, where they differ:

      bindings_ext   8   0 of 8       fields        58  44 of 60      namespace   11   7 of 14
      comparisons  334 332 of 334     integer_math  64  62 of 64      optionals   59  26 of 59
      conversions  109  73 of 109     lists         39  38 of 39      string      51  49 of 51
      encoders_ext   4   0 of 4       macros        44  43 of 44      string_ext 212  49 of 212
      math_ext     199  17 of 199     timestamps    73  48 of 73

  Both pass all of basic, fp_math, logic, parse, plumbing and type_deduction, and fail alike what only other engines
  have: block_ext (0 of 25), network_ext (9 of 69) and the two-variable macros of macros2 (8 of 46).
- Checking. It has a type checker and gives its tree away, from which our own checks and closures are made; the other
  parses only, and has neither `.?` nor most string functions.
- Speed. 17 to 20 us an evaluation; the other takes 4 with a prepared context and 18 when `data` is set for each
  message, as it is here. So neither is fast, and what is frequent does not go through it (`cel_fast`).
- Safety. It stops after 10,000 iterations and at 32 levels of nesting, where the other goes on. What it does not bound
  is in `cel_cost`.

`eval` returns error values instead of raising, so every result is looked at. The extensions for optionals, strings,
math and base64 are on; `cel.bind` is off, because nested bindings double texts without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_encoders, ext_math, ext_optional, ext_strings

from bus.config.cel_tree import Node, read
from bus.core.errors import ExpressionFailed
from bus.core.message import Json

MAX_RESULT_NODES = 65_536
MAX_RESULT_CHARS = 1 << 20  # four times the largest message

_FAULT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_RAISED = (RuntimeError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Fault:
    """What the engine has against a text: character offset and its own words."""

    offset: int
    message: str


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression that the engine accepts: its tree, and a function that evaluates it."""

    tree: Node
    run: Callable[[Mapping[str, Any]], Json]


class EngineRefused(Exception):
    """The engine does not accept a text."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(faults[0].message)
        self.faults = faults


@lru_cache(maxsize=64)
def _environment(names: frozenset[str]) -> Any:
    """Make the environment that declares these names; every one is `dyn`, types are ours to check."""
    extensions = [ext_optional.ExtOptional(), ext_strings.ExtStrings(), ext_math.ExtMath(), ext_encoders.ExtEncoders()]
    return cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN), extensions=extensions)


def parse(text: str, names: frozenset[str]) -> Node:
    """Parse without checking.

    Raises:
        EngineRefused: the text is no CEL.
    """
    return read(_compile(text, names, unchecked=True).serialize())


def check(text: str, names: frozenset[str]) -> Checked:
    """Parse and check with `names` declared.

    Raises:
        EngineRefused: the text is no CEL, or names or operators in it do not exist.
    """
    program = _compile(text, names, unchecked=False)
    evaluate = program.eval

    def run(values: Mapping[str, Any]) -> Json:
        try:
            return _result(evaluate(data=values))
        except ExpressionFailed as error:
            raise ExpressionFailed(f"`{_short(text)}`: {error}") from error
        except _RAISED as error:
            raise ExpressionFailed(f"`{_short(text)}`: {_reason(str(error))}") from error

    return Checked(read(program.serialize()), run)


def _compile(text: str, names: frozenset[str], *, unchecked: bool) -> Any:
    try:
        return _environment(names).compile(text, disable_check=unchecked)
    except _RAISED as error:
        raise EngineRefused(_faults(text, str(error))) from error


def _faults(text: str, message: str) -> tuple[Fault, ...]:
    starts = [0]
    for each in text.split("\n"):
        starts.append(starts[-1] + len(each) + 1)
    found = []
    for fault in _FAULT.finditer(message):
        line, col, what = int(fault[1]), int(fault[2]), fault[3]
        offset = starts[line - 1] + col - 1 if 0 < line < len(starts) and col > 0 else 0
        found.append(Fault(min(offset, len(text)), what.strip()))
    return tuple(found) or (Fault(0, _reason(message)),)


def _reason(message: str) -> str:
    """Take the engine's status words off its message."""
    message = re.sub(r"^[A-Z_]+: ", "", message.splitlines()[0] if message else "no value")
    return re.sub(r" \[[A-Z_]+\]$", "", message)[:200]


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


# --- results ------------------------------------------------------------------------------------------------------


def _result(value: Any) -> Json:
    """Turn an engine value into JSON; the engine returns errors as values, so every result is looked at."""
    return _json(value, [MAX_RESULT_NODES, MAX_RESULT_CHARS])


def _json(value: Any, budget: list[int]) -> Json:
    plain = value.value()
    if plain is None or isinstance(plain, (bool, int)):  # an error comes as a string, so these are none
        return plain
    if isinstance(plain, str):
        if value.type() == cel.Type.ERROR:
            raise ExpressionFailed(_reason(plain))
        budget[1] -= len(plain)
        return plain
    budget[0] -= 1
    if budget[0] < 0 or budget[1] < 0:
        raise ExpressionFailed("the result is too large")
    if isinstance(plain, list):
        budget[0] -= len(plain)
        return [_json(each, budget) for each in plain]
    if isinstance(plain, dict):
        return _object(plain, budget)
    return _scalar(plain)


def _object(plain: dict[Any, Any], budget: list[int]) -> Json:
    budget[0] -= len(plain)
    found: dict[str, Json] = {}
    for name, each in plain.items():
        if not isinstance(name, str):
            raise ExpressionFailed("the result has a key that is not a string")
        budget[1] -= len(name)
        found[name] = _json(each, budget)
    return found


def _scalar(plain: Any) -> Json:
    if isinstance(plain, float):
        if plain - plain != 0.0:
            raise ExpressionFailed("the result is not a finite number")
        return plain
    if isinstance(plain, datetime):
        return plain.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(plain, timedelta):
        return f"{plain.total_seconds():f}".rstrip("0").rstrip(".") + "s"
    raise ExpressionFailed("the result is no JSON value")
