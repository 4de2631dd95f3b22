"""Expressions: what they mean, what is found wrong at load, and that closures mean what the engine means."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.config import cel_engine
from bus.config.cel_fast import compile_fast
from bus.config.expressions import Compiled, Scope, compile_expression
from bus.config.types import ANY, BOOL, DOUBLE, INT, OPEN, STRING, List, Object, Type, describe, of_value, union
from bus.core.errors import ExpressionFailed
from bus.core.message import Json
from bus.core.spec import ExprType

ITEM = Object({"price": DOUBLE, "kind": STRING}, frozenset({"price"}), name="an item of inquiry.v1")
INQUIRY = Object(
    {"text": STRING, "n": INT, "amount": DOUBLE, "phone": STRING, "vip": BOOL, "priority": STRING, "items": List(ITEM)},
    frozenset({"text", "n", "amount", "vip", "priority", "items"}),
    name="inquiry.v1",
)
SCOPE = Scope({"data": INQUIRY, "vars": OPEN, "config": of_value({"limit": 3}), "msg": Object(rest=ANY)})
NAMES: dict[str, Json] = {
    "data": {
        "text": " lost card ",
        "n": 3,
        "amount": 3,
        "vip": True,
        "priority": "high",
        "items": [{"price": 2, "kind": "a"}, {"price": 2.5}],
    },
    "vars": {"a": {"b": 1}},
    "config": {"limit": 3},
}


def compiled(text: str, want: ExprType = "any", scope: Scope = SCOPE) -> Compiled:
    found = compile_expression(text, scope, want, "when")
    assert isinstance(found, Compiled), found
    return found


@pytest.mark.parametrize(
    ("text", "value", "kind", "names"),
    [
        ("data.text", " lost card ", "string", "data"),
        ("data.text.trim()", "lost card", "string", "data"),
        ('data.?phone.orValue("none")', "none", "string", "data"),
        ("has(data.phone) && data.phone == ''", False, "boolean", "data"),
        ("data.phone == '' && has(data.phone)", False, "boolean", "data"),
        ("!has(data.phone) || data.phone == ''", True, "boolean", "data"),
        ("has(data.phone) ? data.phone : data.text.trim()", "lost card", "string", "data"),
        ("data.items.filter(i, has(i.kind)).map(i, i.kind)", ["a"], "list of string", "data"),
        ("data.amount * 2.0", 6.0, "number", "data"),
        ("data.items.map(i, i.price * 2.0)", [4.0, 5.0], "list of number", "data"),
        ("data.n > config.limit || data.priority in ['high', 'low']", True, "boolean", "data config"),
        ("vars.a.b + 1", 2, "integer", "vars"),
        ("{'k': data.n, 'l': [data.vip]}", {"k": 3, "l": [True]}, "object", "data"),
        ("timestamp('2026-01-01T00:00:00Z') + duration('1h')", "2026-01-01T01:00:00Z", "string", ""),
        ("data.vip ? 1 : 2", 1, "integer", "data"),
        ("vars['a']['b']", 1, "any value", "vars"),
        ("data.items[1].price", 2.5, "number", "data"),
        ("{?'p': data.?phone}", {}, "object", "data"),
        ("data.?phone.optMap(p, p + '!').orValue('-')", "-", "string", "data"),
    ],
)
def test_value_type_and_names(text: str, value: Json, kind: str, names: str) -> None:
    found = compiled(text)
    assert found.expression(NAMES) == value
    assert type(found.expression(NAMES)) is type(value)
    assert describe(found.type).replace("bool", "boolean") == kind
    assert found.names == frozenset(names.split())
    assert found.expression.text == text


@pytest.mark.parametrize(
    ("text", "want", "offset", "code", "instead"),
    [
        ("data.prioritty == 'a'", "bool", 5, "unknown-field", "`data.priority`"),
        ("data.items.map(i, i.prise)", "any", 20, "unknown-field", "`i.price`"),
        ("data.phone", "any", 5, "optional-field", '`data.?phone.orValue("")`'),
        ("data.items.map(i, i.kind)", "any", 20, "optional-field", '`i.?kind.orValue("")`'),
        ("data.amount * 2", "any", 12, "number-mix", "`data.amount * 2.0`"),
        ("data.n * 2.5", "any", 7, "number-mix", "`double(data.n) * 2.5`"),
        ("data.n + 1 == 2.0", "bool", 11, "number-mix", "`2.0` for `2`, or `double(...)`"),
        ("data.text", "bool", 0, "not-bool", '`data.text != ""`'),
        ("!data.n", "bool", 1, "not-bool", "`data.n != 0`"),
        ("data.vip && data.items", "bool", 12, "not-bool", "`size(data.items) > 0`"),
        ("data.text and data.vip", "bool", 10, "not-cel", "`&&`"),
        ("not data.vip", "bool", 0, "not-cel", "`!`"),
        ("data.text | trim", "any", 10, "not-cel", "`data.text.trim()`"),
        ("data.n = 3", "bool", 7, "not-cel", "`==`"),
        ("data.vip == True", "bool", 12, "not-cel", "`true`"),
        ("{{ data.n > 3 }}", "bool", 0, "slot-braces", "`when: data.n > 3`"),
        ("credit-check > 1", "bool", 0, "dash-name", "`credit_check`"),
        ("data.credit-check > 1", "bool", 5, "dash-name", "`credit_check`"),
        ("dat.text", "any", 0, "unknown-name", "`data`"),
        ("text == ''", "bool", 0, "unknown-name", "`data.text`"),
        ("data.text.trimm()", "any", 10, "unknown-name", "`trim`"),
        ("data.text +", "any", 11, "bad-cel", ""),
        ("\n 'é' + nope", "any", 8, "unknown-name", "one of config, data, msg, vars"),
        ("data.n == '3'", "bool", 7, "wrong-type", "`3` without quotes"),
        ("data.text + data.n", "any", 10, "wrong-type", "`data.text + string(data.n)`"),
        ("data.n.trim()", "any", 11, "wrong-type", ""),
        ("data.items.price", "any", 11, "wrong-type", ""),
        ("data.?phone", "any", 0, "wrong-type", '`data.?phone.orValue("")`'),
        ("data.n", "string", 0, "wrong-type", "`string(data.n)`"),
        ("data.n", "list", 0, "wrong-type", "`[data.n]`"),
        ("b'abc'", "any", 0, "wrong-type", '`base64.encode(b"abc")`'),
        ("", "any", 0, "bad-cel", "an expression"),
    ],
)
def test_finding_with_place_and_cure(text: str, want: ExprType, offset: int, code: str, instead: str) -> None:
    found = compile_expression(text, SCOPE, want, "when")
    assert isinstance(found, tuple), found
    assert (found[0].offset, found[0].code, found[0].instead) == (offset, code, instead)


def test_every_finding_of_an_expression_is_reported() -> None:
    found = compile_expression("data.nope1 == data.nope2 && data.phone != ''", SCOPE, "bool")
    assert isinstance(found, tuple)
    assert [(each.offset, each.code) for each in found] == [
        (5, "unknown-field"),
        (19, "unknown-field"),
        (33, "optional-field"),
    ]


@pytest.mark.parametrize("text", ["data.text", "vars.flag", "vars.a.b"])
def test_type_that_is_unknown_at_load_is_checked_at_run_time(text: str) -> None:
    scope = Scope({"data": OPEN, "vars": OPEN})
    with pytest.raises(ExpressionFailed):
        compiled(text, "bool", scope).expression({"data": {"text": "x"}, "vars": {"flag": 1, "a": {"b": None}}})


@given(st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6))
def test_numbers_of_a_contract_mix_with_double_literals(number: float) -> None:
    names: dict[str, Json] = {"data": {"amount": number, "items": [{"price": number}]}}
    assert compiled("data.amount * 2.0").expression(names) == number * 2.0
    assert compiled("data.items.map(i, i.price + 0.5)").expression(names) == [number + 0.5]


def test_integer_written_as_3_point_0_is_an_integer() -> None:
    assert compiled("data.n * 2").expression({"data": {"n": 3.0}}) == 6


# --- closures mean what the engine means --------------------------------------------------------------------------

_FIELDS = ["a", "b", "c"]
_SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5, -1.0, 2.0**53])
    | st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63 - 1]) | st.sampled_from(["", "a", "b", "é", "1"])
)  # fmt: skip
_JSON: st.SearchStrategy[Any] = st.recursive(
    _SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), each), max_leaves=8
)
_LITERALS = st.sampled_from(
    ["null", "true", "false", "0", "1", "-1", "2", "1.0", "2.5", "9007199254740993", "''", "'a'", "'b'"]
)
_PATHS = st.lists(st.sampled_from([*(f".{each}" for each in _FIELDS), "[0]", "[1]", "[-1]", '["a"]']), max_size=3).map(
    lambda steps: "data" + "".join(steps)
)
_OPTIONALS = st.builds(
    lambda path, rest, default: f"data{''.join(f'.{each}' for each in path)}.?{'.?'.join(rest)}.orValue({default})",
    st.lists(st.sampled_from(_FIELDS), max_size=1),
    st.lists(st.sampled_from(_FIELDS), min_size=1, max_size=2),
    _LITERALS,
)
_MIXED = st.builds(lambda a, b, c: f"data.?{a}.{b}.orValue({c})", *(st.sampled_from(_FIELDS),) * 2, _LITERALS)
_HAS = st.builds(lambda path, field: f"has(data{''.join(f'.{e}' for e in path)}.{field})",
                 st.lists(st.sampled_from(_FIELDS), max_size=1), st.sampled_from(_FIELDS))  # fmt: skip
_OPERANDS = _PATHS | _OPTIONALS | _MIXED | _LITERALS.map(lambda each: f"dyn({each})")
_BARE = _PATHS | _OPTIONALS | _MIXED


def _compare(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sign = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    listed = st.lists(_LITERALS, max_size=3).map(lambda each: f"[{', '.join(each)}]")
    return (
        st.builds(lambda a, s, b: f"({a} {s} {b})", _BARE, sign, _BARE | _LITERALS)
        | st.builds(lambda a, s, b: f"({a} {s} {b})", _LITERALS, sign, _BARE)
        | st.builds(lambda a, b: f"({a} in {b})", _BARE, listed)
        | st.builds(lambda a, s, b: f"({a} {s} {b})", inner, st.sampled_from(["&&", "||"]), inner)
        | st.builds(lambda a: f"!{a}", inner)
        | st.builds(lambda a, b, c: f"({a} ? {b} : {c})", inner, inner, inner)
    )


_CONDITIONS: st.SearchStrategy[str] = st.recursive(_HAS | _PATHS | _OPTIONALS, _compare, max_leaves=5)


_ABORTING = re.compile(r"\.\?\w\.\w.*(&&|\|\|)|(&&|\|\|).*\.\?\w\.\w")
"""A field of an optional that turns out to be no object, e.g. null: an error that no operator sees."""


def _outcome(evaluate: Any, names: dict[str, Json]) -> Any:
    try:
        value = evaluate(names)
    except ExpressionFailed:
        return "failed"
    return _tagged(value)


def _tagged(value: Any) -> Any:
    """Tell 1, 1.0 and true apart, deep inside too."""
    if isinstance(value, list):
        return [_tagged(each) for each in value]
    if isinstance(value, dict):
        return {name: _tagged(each) for name, each in value.items()}
    return (type(value), value)


@settings(max_examples=800, deadline=None)
@given(_CONDITIONS, _JSON)
def test_closures_mean_what_the_engine_means(text: str, data: Any) -> None:
    names: dict[str, Json] = {"data": data}
    try:
        checked = cel_engine.check(text, frozenset({"data"}))
    except cel_engine.EngineRefused:
        return
    fast = compile_fast(checked.tree)
    if fast is None:
        return
    wanted = _outcome(checked.run, names)
    if wanted == "failed" and _ABORTING.search(text):
        return  # here the engine gives up where the language says that `&&` and `||` may forgive
    assert _outcome(fast, names) == wanted, text


def test_usual_conditions_need_no_engine() -> None:
    for text in (
        "data.n > 2",
        "has(data.a) && data.a.b in ['x']",
        "data.?a.b.orValue(1) != 2",
        "!data.vip || data.t == ''",
    ):
        assert compile_fast(cel_engine.check(text, frozenset({"data"})).tree) is not None, text
    assert compile_fast(cel_engine.check("data.t.trim() == ''", frozenset({"data"})).tree) is None


# --- bounds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[1].map(x, [1].map(y, [1].map(z, 1)))",
        "1" + " + 1" * 40,
        "(" * 40 + "1" + ")" * 40,
        "data" + ".a" * 1500,
        "'" + "a" * 5000 + "'",
        "'a'" + ".replace('a', 'aaaaaaaaaaaaaaaa')" * 6,
        "[vars.t]" + ".map(x, x + x + x + x + x + x + x + x)" * 6,
        "\ud800",
    ],
)
def test_expression_bombs_are_refused_at_load(text: str) -> None:
    found = compile_expression(text, SCOPE)
    assert isinstance(found, tuple)
    assert found[0].code in ("bad-cel", "unknown-name")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("data.xs.all(x, x in data.xs)", {"xs": list(range(9_000))}),
        ("data.xs.all(x, x >= 0)", {"xs": list(range(100_000))}),
        ("data.xs.map(x, data.xs.map(y, x + y))", {"xs": list(range(2_000))}),
        ("data.a.replace(data.b, data.c)", {"a": "a" * 100_000, "b": "a", "c": "c" * 100_000}),
        ("data.xs.join(data.s)", {"xs": ["", *[""] * 50_000], "s": "s" * 100_000}),
        ("data.xs.map(x, data.s + x)", {"xs": ["x"] * 9_000, "s": "s" * 100_000}),
        ("data.s.split('').map(c, data.s)", {"s": "s" * 100_000}),
        ("[data, data, data, data].map(x, data)", {"xs": list(range(100_000))}),
        ("data.s.matches('^(a+)+$')", {"s": "a" * 100_000 + "b"}),
    ],
)
def test_hostile_messages_cannot_make_an_expression_run_long(text: str, data: Json) -> None:
    evaluate = compiled(text, "any", Scope({"data": OPEN})).expression
    started = time.monotonic()
    try:
        evaluate({"data": data})
    except ExpressionFailed:
        pass
    assert time.monotonic() - started < 5.0


@given(st.text(max_size=40) | st.text(alphabet="data.ab?[](){}'\"\\&|!=<>+-*/% 12,:", max_size=30))
def test_no_text_crashes_the_compiler(text: str) -> None:
    found = compile_expression(text, SCOPE)
    if isinstance(found, tuple):
        assert found
        assert all(0 <= each.offset <= len(text) for each in found)


def test_union_keeps_types_simple() -> None:
    cases: list[tuple[list[Type], Type]] = [
        ([INT, DOUBLE], DOUBLE), ([STRING, ANY], ANY), ([List(INT), List(STRING)], List(union((INT, STRING))))
    ]  # fmt: skip
    for given_, wanted in cases:
        assert union(given_) == wanted
