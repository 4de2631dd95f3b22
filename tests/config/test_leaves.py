"""Leaves: strings with `{{ CEL }}`, trees of values, and whether what is sent can keep a contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.config.contracts import LoadedContract, load_contract
from bus.config.expressions import Compiled, Scope
from bus.config.leaves import compile_leaf_string, literal, mapping, mismatches, sequence
from bus.config.types import DOUBLE, INT, OPEN, STRING, List, Object, describe
from bus.core.errors import ExpressionFailed
from bus.core.message import Json
from tests.core.test_strict_json import JSON

INQUIRY = Object(
    {"text": STRING, "n": INT, "amount": DOUBLE, "tags": List(STRING), "phone": STRING},
    frozenset({"text", "n", "amount", "tags"}),
    name="inquiry.v1",
)
SCOPE = Scope({"data": INQUIRY, "vars": OPEN})
NAMES: dict[str, Json] = {
    "data": {"text": "hi", "n": 3, "amount": 2.0, "tags": ["a"]},
    "vars": {"list": [1], "none": None, "f": 1234567.25},
}


def leaf(text: str) -> Compiled:
    found = compile_leaf_string(text, SCOPE)
    assert isinstance(found, Compiled), found
    return found


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("plain", "plain", "string"),
        ("", "", "string"),
        ("a { b } c", "a { b } c", "string"),
        ("{{ data.n }}", 3, "integer"),
        ("{{data.tags}}", ["a"], "list of string"),
        (" {{ data.n }}", " 3", "string"),
        ("{{ data.text }}, {{ data.n }} {{ data.amount }} {{ data.n > 2 }}", "hi, 3 2 true", "string"),
        ("{{ vars.f }} and {{ 1.0e21 }}", "1234567.25 and 1e+21", "string"),
        ('{{ "{{" }}', "{{", "string"),
        ('x {{ "{{ }}" }} y', "x {{ }} y", "string"),
        ("{{ {'a': {'b': data.n}} }}", {"a": {"b": 3}}, "object"),
        ("{{ '}}' + r'\\d' + \"'\" }}", "}}\\d'", "string"),
        ("{{ 'a' }}{{ 'b' }}", "ab", "string"),
    ],
)
def test_one_rule_for_values(text: str, value: Json, kind: str) -> None:
    found = leaf(text)
    assert found.expression(NAMES) == value
    assert describe(found.type) == kind


@pytest.mark.parametrize(
    ("text", "offset", "code"),
    [
        ("{{ data.text", 0, "unbalanced-braces"),
        ("ab {{ {'a': 1} }", 3, "unbalanced-braces"),
        ("a }} b", 2, "unbalanced-braces"),
        ("{{ }}", 3, "bad-cel"),
        ("{{ data.txt }}", 8, "unknown-field"),
        ("Dear {{  data.txt }}", 14, "unknown-field"),
        ("Dear {{ data.tags }}", 8, "wrong-type"),
        ("Dear {{ null }}", 8, "wrong-type"),
        ("Dear {{ {} }}", 8, "wrong-type"),
        ("{{ data.phone }}", 8, "optional-field"),
    ],
)
def test_finding_points_into_the_leaf(text: str, offset: int, code: str) -> None:
    found = compile_leaf_string(text, SCOPE)
    assert isinstance(found, tuple), found
    assert (found[0].offset, found[0].code) == (offset, code)


def test_every_part_of_a_text_is_checked() -> None:
    found = compile_leaf_string("{{ data.a }} {{ data.b }}", SCOPE)
    assert isinstance(found, tuple)
    assert [each.offset for each in found] == [8, 21]


@pytest.mark.parametrize("text", ["x {{ vars.list }}", "x {{ vars.none }}", "x {{ vars.absent }}"])
def test_value_without_text_fails_at_run_time(text: str) -> None:
    with pytest.raises(ExpressionFailed):
        leaf(text).expression(NAMES)


@pytest.mark.parametrize("text", ["data.text", "vars.found.answer", "data.text.trim()", "data.tags[0]"])
def test_path_without_braces_is_warned_of(text: str) -> None:
    found = leaf(text)
    assert [(each.code, each.severity, each.instead) for each in found.warnings] == [
        ("bare-expression", "warning", f'`"{{{{ {text} }}}}"`')
    ]
    assert found.expression(NAMES) == text


@pytest.mark.parametrize("text", ["data", "data.csv", "Hello data.text", "database.text", "a.b"])
def test_other_texts_are_not_warned_of(text: str) -> None:
    assert leaf(text).warnings == ()


def test_trees_build_new_values_with_their_type() -> None:
    tree = mapping({"a": leaf("{{ data.text }}"), "b": sequence([literal({"k": [1]}), leaf("n={{ data.n }}")])})
    wanted = {"a": "hi", "b": [{"k": [1]}, "n=3"]}
    first: Any = tree.expression(NAMES)
    first["b"][0]["k"].append(2)
    assert tree.expression(NAMES) == wanted
    assert tree.names == {"data"}
    assert isinstance(tree.type, Object)
    assert tree.type.exact
    assert tree.type.required == {"a", "b"}


def test_mapping_of_plain_paths_says_which_is_absent() -> None:
    tree = mapping({"a": leaf("{{ vars.f }}"), "b": leaf("{{ vars.nope }}")})
    with pytest.raises(ExpressionFailed, match=r"vars\.nope"):
        tree.expression(NAMES)
    assert tree.expression({"vars": {"f": 1, "nope": None}}) == {"a": 1, "b": None}


@given(JSON)
def test_literals_stay_as_they_are(value: Any) -> None:
    assert literal(value).expression({}) == value


@given(st.text(max_size=30) | st.text(alphabet="{}'\"\\ adt.x", max_size=20))
def test_no_text_crashes_the_compiler(text: str) -> None:
    found = compile_leaf_string(text, SCOPE)
    assert isinstance(found, Compiled) or all(0 <= each.offset <= len(text) for each in found)


# --- contracts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def wanted(tmp_path: Path) -> LoadedContract:
    schema = {
        "type": "object",
        "required": ["text", "k"],
        "additionalProperties": False,
        "properties": {
            "text": {"type": "string"},
            "k": {"type": "integer"},
            "score": {"type": "number"},
            "who": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            "tags": {"type": "array", "items": {"type": ["string", "null"]}},
        },
    }
    (tmp_path / "sentiment.request.v1.json").write_text(json.dumps(schema))
    found = load_contract(Path("sentiment.request.v1.json"), tmp_path)
    assert isinstance(found, LoadedContract)
    return found


@pytest.mark.parametrize(
    ("tree", "wrong"),
    [
        ({"text": "a", "k": 1}, []),
        ({"text": "a", "k": 1, "score": 1, "who": {"name": "x", "more": 1}, "tags": ["a", None]}, []),
        ({"txt": "a", "k": 1}, [("/txt", "sentiment.request.v1 needs `text`, got `txt`", "`text`")]),
        ({"text": "a"}, [("", "sentiment.request.v1 needs `k`, got `text`", "`k`")]),
        ({"text": 1, "k": 1}, [("/text", "sentiment.request.v1 needs `text` as string, got an integer", "a string")]),
        ({"text": "a", "k": 1, "scores": 1}, [("/scores", "sentiment.request.v1 has no `scores`", "`score`")]),
        ({"text": "a", "k": 1, "who": {}}, [("/who", "sentiment.request.v1 needs `name`, got nothing", "`name`")]),
        ({"text": "a", "k": 1, "tags": [1]}, [
            ("/tags/0", "sentiment.request.v1 needs `0` as string or null, got an integer", "a string or null")]),
        ([], [("", "sentiment.request.v1 needs an object, got a list", "an object")]),
    ],
)  # fmt: skip
def test_mismatch_says_which_part(wanted: LoadedContract, tree: Json, wrong: list[tuple[str, str, str]]) -> None:
    found = mismatches(literal(tree).type, wanted)
    assert [(each.pointer, each.what, each.instead) for each in found] == wrong
    assert all(each.code == "data-mismatch" and each.severity == "error" for each in found)


def test_unknown_types_are_not_blamed(wanted: LoadedContract) -> None:
    assert mismatches(mapping({"text": leaf("{{ vars.x }}"), "k": leaf("{{ vars.y }}")}).type, wanted) == ()
    assert mismatches(OPEN, wanted) == ()


def test_field_that_may_be_absent_is_a_warning(wanted: LoadedContract) -> None:
    found = mismatches(Object({"text": STRING, "k": INT}, frozenset({"text"})), wanted)
    assert [(each.severity, each.pointer) for each in found] == [("warning", "/k")]
