"""What the engine says is wrong, said so that a route author knows what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bus.config.cel_engine import Fault
from bus.config.problem import Found, Problem, did_you_mean
from bus.config.types import Object, Type, options

_STRING = re.compile(
    r"""[rRbB]{0,2}("{3}(?:\\.|.)*?"{3}|'{3}(?:\\.|.)*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""", re.S
)
_DASHED = re.compile(r"[A-Za-z_]\w*(?:-[A-Za-z_]\w*)+")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")
_UNEXPECTED = re.compile(r"(?:mismatched input|extraneous input|no viable alternative at input|missing .* at) '(.*)'")

_FOREIGN: Sequence[tuple[re.Pattern[str], str]] = (  # what other languages write, and what CEL does
    (re.compile(r"(?<![\w.])(?P<token>and)(?!\w)"), "`&&`"),
    (re.compile(r"(?<![\w.])(?P<token>or)(?!\w)"), "`||`"),
    (re.compile(r"(?<![\w.])(?P<token>not)(?!\w)"), "`!`"),
    (re.compile(r"(?P<left>[\w.?]+)\s*(?P<token>(?<!\|)\|(?!\|))\s*(?P<right>\w+)"), "`{left}.{right}()`"),
    (re.compile(r"(?P<token>(?<!\|)\|(?!\|))"), "`||`"),
    (re.compile(r"(?P<token>(?<!&)&(?!&))"), "`&&`"),
    (re.compile(r"(?P<token>===)"), "`==`"),
    (re.compile(r"(?P<token><>)"), "`!=`"),
    (re.compile(r"(?P<token>(?<![=!<>])=(?!=))"), "`==`"),
    (re.compile(r"(?<![\w.])(?P<token>is)(?!\w)"), "`==`"),
    (re.compile(r"(?P<token>\?\?)"), "`.?field.orValue(default)`"),
)
_SPELLED = {"True": "true", "False": "false", "None": "null", "nil": "null", "undefined": "null", "len": "size"}
FUNCTIONS = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "split",
    "join",
    "replace",
    "trim",
    "lowerAscii",
    "upperAscii",
    "substring",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "format",
    "quote",
    "reverse",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "string",
    "int",
    "double",
    "bool",
    "timestamp",
    "duration",
    "orValue",
    "optMap",
    "optFlatMap",
    "hasValue",
    "value",
    "getFullYear",
    "getMonth",
    "getDate",
    "getHours",
    "getMinutes",
    "getSeconds",
    "dyn",
    "type",
]
_ELSEWHERE = {"upper": "upperAscii", "lower": "lowerAscii", "strip": "trim", "length": "size", "len": "size"}
_FILTERS = {
    "upper": "{left}.upperAscii()", "lower": "{left}.lowerAscii()", "length": "size({left})", "count": "size({left})",
    "int": "int({left})", "float": "double({left})", "string": "string({left})", "default": "{left}.orValue(...)",
    "join": '{left}.join(", ")', "first": "{left}[0]", "abs": "math.abs({left})", "round": "math.round({left})",
}  # fmt: skip
"""Filters of template languages, for `x | upper`; others are taken for methods of the same name."""


def refuse_early(text: str, slot: str, max_bytes: int) -> None:
    """Refuse what need not be parsed.

    Raises:
        Found: the text is empty, too long, or in braces.
    """
    stripped = text.strip()
    if not stripped:
        raise Found(Problem(0, "bad-cel", "the expression is empty", "an expression"))
    if len(text.encode("utf-8", "replace")) > max_bytes or (not text.isascii() and _unprintable(text)):
        raise Found(Problem(0, "bad-cel", f"an expression has at most {max_bytes} bytes of text", "a shorter one"))
    if stripped.startswith("{{") and stripped.endswith("}}"):
        inner = stripped[2:-2].strip()
        here = f"`{slot}`" if slot else "this"
        instead = f"`{slot}: {inner}`" if slot else f"`{inner}`"
        raise Found(Problem(text.index("{{"), "slot-braces", f"{here} is already an expression", instead))


def _unprintable(text: str) -> bool:
    return any("\ud800" <= each <= "\udfff" for each in text)


def syntax(text: str, faults: Sequence[Fault]) -> Problem:
    """Return the first thing that is no CEL."""
    blank = _STRING.sub(lambda found: "_" * len(found[0]), text)
    for pattern, instead in _FOREIGN:
        found = pattern.search(blank)
        if found:
            groups = found.groupdict()
            filtered = _FILTERS.get(groups.get("right", ""))
            instead = f"`{filtered}`" if filtered else instead
            return Problem(found.start("token"), "not-cel", f"`{found['token']}` is not CEL", instead.format(**groups))
    quote = re.search("[\"']", blank)
    if quote:
        return Problem(quote.start(), "bad-cel", "a string that does not end", f"the missing `{quote[0]}`")
    fault = faults[0]
    if "recursion" in fault.message:
        return Problem(0, "bad-cel", "the expression nests deeper than 32 levels", "several steps with `vars`")
    unexpected = _UNEXPECTED.search(fault.message)
    instead = ""
    if unexpected and unexpected[1].startswith("<EOF>"):
        what = "the expression ends too early"
        missing = [close for open_, close in ("()", "[]", "{}") if blank.count(open_) > blank.count(close)]
        instead = f"the missing `{missing[0]}`" if missing else ""
    elif unexpected:
        what = f"`{unexpected[1].partition(chr(39))[0][:40]}` is not expected here"
    elif "token recognition error" in fault.message:
        rest = fault.message.partition("at: ")[2].strip("'")
        what = f"`{rest.strip()[:40]}` is no token of CEL"
        instead = "the expression without it"
    else:
        what = fault.message.removeprefix("Syntax error: ")[:120]
    return Problem(fault.offset, "bad-cel", what, instead)


def meaning(
    text: str, faults: Sequence[Fault], names: Mapping[str, Type], ours: Sequence[Problem]
) -> tuple[Problem, ...]:
    """Return what the engine's checker refuses; `ours` is what our own checker says of the same text."""
    dashes = _dashes(text, faults, names)
    if dashes:
        return dashes
    problems = list(ours)
    for fault in faults:
        undeclared = _UNDECLARED.search(fault.message)
        if undeclared:
            problems.append(_unknown(text, fault.offset, undeclared[1], names))
        elif not ours:
            problems.append(_mismatch(fault))
    return tuple(sorted(set(problems), key=lambda each: each.offset))


def _dashes(text: str, faults: Sequence[Fault], names: Mapping[str, Type]) -> tuple[Problem, ...]:
    """Find names that were meant to contain a dash: an unknown name right behind one or in front of one."""
    blank = _STRING.sub(lambda found: '"' * len(found[0]), text)
    unknown = [fault.offset for fault in faults if _UNDECLARED.search(fault.message)]
    problems = []
    for found in _DASHED.finditer(blank):
        if not any(found.start() <= offset < found.end() for offset in unknown):
            continue
        name, before = found[0], re.search(r"([A-Za-z_]\w*)\.$", blank[: found.start()])
        fields = {
            field
            for type_ in names.values()
            for each in options(type_)
            if isinstance(each, Object)
            for field in each.fields
        }
        better = f'`{before[1]}["{name}"]`' if before and name in fields else f"`{name.replace('-', '_')}`"
        problems.append(Problem(found.start(), "dash-name", f"`{name}` reads as minus", better))
    return tuple(problems)


def _unknown(text: str, offset: int, name: str, names: Mapping[str, Type]) -> Problem:
    if text[offset : offset + 1] == "(":
        close = did_you_mean(name, (*FUNCTIONS, *_ELSEWHERE))
        close = _ELSEWHERE.get(close or "", close)
        at = max(text.rfind(name, 0, offset), 0)
        return Problem(at, "unknown-name", f"there is no function `{name}`", f"`{close}`" if close else "")
    if "." in name:  # the engine takes `dat.text` for one qualified name
        name = name.partition(".")[0]
        offset = max((each.start() for each in re.finditer(rf"(?<![\w.]){name}\b", text[: offset + 1])), default=offset)
    if name in _SPELLED:
        return Problem(offset, "not-cel", f"`{name}` is not CEL", f"`{_SPELLED[name]}`")
    for root, type_ in names.items():
        if any(isinstance(each, Object) and name in each.fields for each in options(type_)):
            return Problem(offset, "unknown-name", f"there is no name `{name}`", f"`{root}.{name}`")
    close = did_you_mean(name, names)
    instead = f"`{close}`" if close else f"one of {', '.join(sorted(names))}"
    return Problem(offset, "unknown-name", f"there is no name `{name}` here", instead)


def _mismatch(fault: Fault) -> Problem:
    overload = _OVERLOAD.search(fault.message)
    if overload is None:
        return Problem(fault.offset, "bad-cel", fault.message[:160])
    function = overload[1].strip("_@").replace("_", " ")
    kinds = [each.strip() for each in overload[2].strip("()").split(",")]
    if len(kinds) == 2 and set(kinds) in ({"int", "double"}, {"uint", "double"}, {"int", "uint"}):
        what = f"`{function}` does not mix {kinds[0]} and {kinds[1]}"
        instead = "`2.0` for `2`, or `double(...)`" if "double" in kinds else "`int(...)`"
        return Problem(fault.offset, "number-mix", what, instead)
    return Problem(fault.offset, "wrong-type", f"`{function}` does not take {overload[2]}")
