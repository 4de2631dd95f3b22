"""The CEL packages against cel-spec's conformance suite, by file: what the choice of the engine rests on.

Counted is every case that needs no protocol buffer message, whether or not the package has the extension.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

from tests.config.textproto import Message, read
from tests.corpora import corpus

FAILED = object()
_NEEDS_MESSAGES = ("TestAllTypes", "google.protobuf", "cel.expr.conformance", "NestedTestAllTypes", "proto.")
_KEYS = ("object_value", "enum_value")
_TYPES = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration", "null_type": "null"}

# Cases passed of cases run with the chosen package. A new release may do better; less is a regression.
EXPECTED = {
    "basic": (43, 43), "bindings_ext": (8, 8), "block_ext": (0, 25), "comparisons": (334, 334),
    "conversions": (109, 109), "dynamic": (0, 0), "encoders_ext": (4, 4), "fields": (58, 60), "fp_math": (30, 30),
    "integer_math": (64, 64), "lists": (39, 39), "logic": (30, 30), "macros": (44, 44), "macros2": (8, 46),
    "math_ext": (199, 199), "namespace": (11, 14), "network_ext": (9, 69), "optionals": (59, 59),
    "parse": (193, 193), "plumbing": (5, 5), "string": (51, 51), "string_ext": (212, 212), "timestamps": (73, 73),
    "type_deduction": (12, 12), "unknowns": (0, 0), "wrappers": (0, 0),
}  # fmt: skip


def _text(message: Message, name: str) -> str:
    value = message.get(name, [b""])[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def _value(message: Message) -> Any:
    """Turn a test value into a Python value; raises KeyError for messages and enums."""
    ((kind, values),) = message.items()
    value = values[0]
    if kind == "list_value":
        return [_value(each) for each in value.get("values", [])]
    if kind == "map_value":
        return {_value(each["key"][0]): _value(each["value"][0]) for each in value.get("entries", [])}
    if kind == "null_value":
        return None
    if kind == "string_value":
        return value.decode()
    if kind == "type_value":
        name = value.decode()
        return ("type", _TYPES.get(name, name))
    if kind in ("bool_value", "int64_value", "uint64_value", "bytes_value"):
        return value
    if kind == "double_value":
        return float(value)
    raise KeyError(kind)


def cases(file: Path) -> Iterator[tuple[str, str, dict[str, Any], bool, Any]]:
    """Yield (name, expression, bindings, checked, expected) of every case that needs no messages."""
    for section in read(file.read_text("utf-8")).get("section", []):
        for test in section.get("test", []):
            text = _text(test, "expr")
            if any(word in text or word in str(test) for word in _NEEDS_MESSAGES) or "unknown" in test:
                continue
            if "disable_macros" in test or "function" in str(test.get("type_env", "")) or test.get("check_only"):
                continue
            try:
                bindings = {
                    _text(each, "key"): _value(each["value"][0]["value"][0]) for each in test.get("bindings", [])
                }
                typed = test.get("typed_result", [{}])[0].get("result")
                expected = _value((test.get("value") or typed or [{"bool_value": [True]}])[0])
            except (KeyError, ValueError):
                continue
            yield (
                _text(test, "name"),
                text,
                bindings,
                "disable_check" not in test,
                FAILED if "eval_error" in test else expected,
            )


@lru_cache(maxsize=256)
def _env(names: frozenset[str]) -> Any:
    extensions = [
        ext_optional.ExtOptional(), ext_strings.ExtStrings(), ext_math.ExtMath(), ext_encoders.ExtEncoders(),
        ext_bindings.ExtBindings(),
    ]  # fmt: skip
    return cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN), extensions=extensions)


def _plain(value: Any) -> Any:
    found = value.value()
    if isinstance(found, list):
        return [_plain(each) for each in found]
    if isinstance(found, dict):
        return {name: _plain(each) for name, each in found.items()}
    if isinstance(found, cel.Type):
        return ("type", found.name().lower().partition("<")[0].replace("null_type", "null"))
    return bytes(found) if isinstance(found, bytearray) else found


def with_cpp(text: str, bindings: dict[str, Any], checked: bool) -> Any:
    """Evaluate with cel-expr-python."""
    try:
        result = _env(frozenset(bindings)).compile(text, disable_check=not checked).eval(data=bindings)
        return FAILED if result.type() == cel.Type.ERROR else _plain(result)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        return FAILED


def with_rust(text: str, bindings: dict[str, Any], checked: bool) -> Any:
    """Evaluate with common-expression-language, which has no checker."""
    try:
        return importlib.import_module("cel").evaluate(text, bindings)
    except BaseException as error:  # its panics are no Exceptions
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return FAILED


def same(got: Any, wanted: Any) -> bool:
    """Compare results; int and uint are not told apart, as one package returns both as int."""
    if isinstance(wanted, bool) or isinstance(got, bool) or wanted is None or got is None:
        return got is wanted
    if isinstance(wanted, float) or isinstance(got, float):
        both_floats = isinstance(got, float) and isinstance(wanted, float)
        return both_floats and (got == wanted or (got != got and wanted != wanted))
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(same, got, wanted))
    if isinstance(wanted, dict):
        return (
            isinstance(got, dict) and got.keys() == wanted.keys() and all(same(got[key], wanted[key]) for key in wanted)
        )
    if isinstance(got, (datetime.datetime, datetime.timedelta)):
        return False
    return bool(got == wanted)


def share(file: Path, evaluate: Callable[[str, dict[str, Any], bool], Any]) -> tuple[int, int, list[str]]:
    """Return cases passed, cases run, and the names of those that failed."""
    failed, total = [], 0
    for name, text, bindings, checked, expected in cases(file):
        total += 1
        got = evaluate(text, bindings, checked)
        if not (got is FAILED if expected is FAILED else got is not FAILED and same(got, expected)):
            failed.append(f"{name}: {text}")
    return total - len(failed), total, failed


def _files() -> list[Path]:
    return sorted(corpus("cel-conformance").glob("*.textproto"))


def test_chosen_engine_keeps_its_conformance(record_property: Callable[[str, object], None]) -> None:
    for file in _files():
        passed, total, failed = share(file, with_cpp)
        record_property(file.stem, f"{passed}/{total}")
        least, of = EXPECTED[file.stem]
        assert (total, passed >= least) == (of, True), f"{file.stem}: {passed} of {total}\n" + "\n".join(failed)


def test_other_engine_for_comparison(record_property: Callable[[str, object], None]) -> None:
    pytest.importorskip("cel", reason="the package that was not chosen is not installed")
    totals = {file.stem: share(file, with_rust)[:2] for file in _files()}
    for name, (passed, total) in totals.items():
        record_property(name, f"{passed}/{total}")
    assert sum(passed for passed, _ in totals.values()) < sum(passed for passed, _ in EXPECTED.values())
