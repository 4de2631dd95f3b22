"""Contracts: the whole schema suite, the slow oracle, every failing field, and schemas that mean harm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.config.contracts import LoadedContract, build_validator, load_contract
from bus.config.types import INT, STRING, List, Object, describe
from tests.corpora import corpus

INQUIRY: dict[str, Any] = {
    "type": "object",
    "required": ["text", "n"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "minLength": 1},
        "n": {"type": "integer"},
        "priority": {"enum": ["high", "low"]},
        "who": {"$ref": "who.json#/$defs/person"},
        "key": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        "at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "shape": {
            "oneOf": [
                {"properties": {"kind": {"const": "circle"}, "r": {"type": "number"}}, "required": ["kind", "r"]},
                {"properties": {"kind": {"const": "square"}, "a": {"type": "number"}}, "required": ["kind", "a"]},
            ]
        },
    },
}
WHO = {"$defs": {"person": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}}}


def write(folder: Path, **schemas: Any) -> None:
    for name, schema in schemas.items():
        text = schema if isinstance(schema, str) else json.dumps(schema)
        (folder / f"{name}.json").write_text(text)


def loaded(folder: Path, schema: Any) -> LoadedContract:
    write(folder, inquiry=schema, who=WHO)
    found = load_contract(Path("inquiry.json"), folder)
    assert isinstance(found, LoadedContract), found
    return found


# --- the suite ----------------------------------------------------------------------------------------------------


def _suite(optional: bool) -> Iterator[tuple[str, Any, Any, bool]]:
    folder = corpus("json-schema-test-suite") / "tests" / "draft2020-12"
    for file in sorted((folder / "optional").rglob("*.json") if optional else folder.glob("*.json")):
        for group in json.loads(file.read_text("utf-8")):
            for test in group["tests"]:
                name = f"{file.stem}: {group['description']}: {test['description']}"
                yield name, group["schema"], test["data"], test["valid"]


def _remote(uri: str) -> Any:
    prefix = "http://localhost:1234/"
    if not uri.startswith(prefix):
        raise ValueError(f"{uri} is not in the folder")
    return json.loads((corpus("json-schema-test-suite") / "remotes" / uri.removeprefix(prefix)).read_text("utf-8"))


def _failed(optional: bool) -> tuple[int, list[str]]:
    """Run the suite; its required part holds formats to be annotations, its optional part asserts them, as we do."""
    failed, total = [], 0
    for name, schema, data, valid in _suite(optional):
        total += 1
        try:
            got: object = build_validator(schema, _remote, "file:///suite.json", formats=optional).is_valid(data)
        except ValueError as error:
            got = str(error)
        if got is not valid:
            failed.append(f"{name}: {got}")
    return total, failed


def test_required_cases_of_the_schema_suite(record_property: Callable[[str, object], None]) -> None:
    total, failed = _failed(optional=False)
    record_property("passed", f"{total - len(failed)}/{total}")
    assert total > 1200
    assert failed == []


def test_optional_cases_of_the_schema_suite(record_property: Callable[[str, object], None]) -> None:
    total, failed = _failed(optional=True)
    record_property("passed", f"{total - len(failed)}/{total}")
    assert len(failed) / total < 0.1, "\n".join(failed)


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([1.5, 3.0, "", "a", "high", "circle", "abc"]),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "n", "priority", "who", "name", "key", "tags", "shape", "kind", "r"]), each
        )
    ),
    max_leaves=10,
)
_LIKELY = st.fixed_dictionaries(
    {"text": st.sampled_from(["", "a", 1]), "n": st.sampled_from([1, 2.0, 2.5, "1"])},
    optional={
        "priority": st.sampled_from(["high", "x"]),
        "who": st.sampled_from([{"name": "a"}, {"name": 1}, {}]),
        "key": st.sampled_from(["a", 1, None]),
        "tags": st.lists(st.sampled_from(["a", 1]), max_size=3),
        "shape": st.sampled_from(
            [{"kind": "circle", "r": 1}, {"kind": "square", "r": 1}, {"kind": "square", "a": "x"}]
        ),
        "more": st.just(1),
    },
)


@settings(max_examples=300, deadline=None)
@given(_VALUES | _LIKELY)
def test_agrees_with_the_slow_validator_on_what_fails_and_where(value: Any) -> None:
    schema = {**INQUIRY, "properties": {**INQUIRY["properties"], "who": WHO["$defs"]["person"]}}
    fast = build_validator(schema, _remote, "file:///inquiry.json")
    slow = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    assert fast.is_valid(value) == slow.is_valid(value)
    ours = {tuple(error.instance_path) for error in fast.iter_errors(value)}
    assert ours == {tuple(error.absolute_path) for error in slow.iter_errors(value)}


# --- findings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, []),
        ({"text": None}, [("/text", "string", "null")]),
        ({"text": ""}, [("/text", "at least 1 character", 'string ""')]),
        ({"n": 1.5}, [("/n", "integer", "number 1.5")]),
        ({"n": True}, [("/n", "integer", "boolean true")]),
        ({"priority": "urgent"}, [("/priority", "one of high, low", "string urgent")]),
        ({"who": {}}, [("/who/name", "string", "nothing")]),
        ({"key": []}, [("/key", "string or number", "list of 0")]),
        ({"at": "noon"}, [("/at", "a date-time", "string noon")]),
        ({"tags": ["a", 2, 3]}, [("/tags", "at most 2 items", "list of 3"), ("/tags/1", "string", "integer 2"),
                                 ("/tags/2", "string", "integer 3")]),
        ({"shape": {"kind": "square", "a": "x"}}, [("/shape/a", "number", "string x")]),
        ({"prioritty": 1}, [("/prioritty", "no such field; perhaps `priority`", "integer 1")]),
        ({"a~/b": {"x": 1}}, [("/a~0~1b", "no such field", "object of 1")]),
        ({"text": 3, "n": "3"}, [("/n", "integer", 'string "3"'), ("/text", "string", "integer 3")]),
    ],
)  # fmt: skip
def test_every_failing_field_is_told(
    tmp_path: Path, change: dict[str, Any], wanted: list[tuple[str, str, str]]
) -> None:
    found = loaded(tmp_path, INQUIRY).check({"text": "a", "n": 1, **change})
    assert sorted((each.pointer, each.expected, each.got) for each in found) == sorted(wanted)


def test_missing_fields_and_wrong_kinds(tmp_path: Path) -> None:
    contract = loaded(tmp_path, INQUIRY)
    assert [(each.pointer, each.expected, each.got) for each in contract.check([])] == [("", "object", "list of 0")]
    assert {each.pointer for each in contract.check({})} == {"/text", "/n"}


def test_findings_are_bounded(tmp_path: Path) -> None:
    contract = loaded(tmp_path, {"type": "array", "items": {"type": "string"}})
    found = contract.check([*range(5000)])
    assert len(found) == 100
    long = loaded(tmp_path, {"properties": {"t": {"maxLength": 1}}}).check({"t": "x" * 5000})
    assert len(long[0].got) == 80


def test_static_type_follows_references(tmp_path: Path) -> None:
    type_ = loaded(tmp_path, INQUIRY).type
    assert isinstance(type_, Object)
    assert (type_.fields["text"], type_.fields["n"], type_.fields["tags"]) == (STRING, INT, List(STRING))
    assert describe(type_.fields["key"]) == "string or number"
    assert isinstance(type_.fields["who"], Object)
    assert type_.fields["who"].required == {"name"}
    assert type_.exact
    assert type_.required == {"text", "n"}


# --- schemas that are wrong or mean harm --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        ('{"$ref": "https://example.com/x.json"}', "remote-ref", '"$ref"'),
        ('{"properties": {"a": {"$ref": "../secret.json"}}}', "remote-ref", '"$ref"'),
        ('{"properties": {"a": {"$ref": "file:///etc/passwd"}}}', "remote-ref", '"$ref"'),
        ('{"properties": {"a": {"$ref": "nope.json"}}}', "missing-file", '"$ref"'),
        ('{"properties": {"a": {"type": "strin"}}}', "bad-schema", '"type"'),
        ('{"properties": {"a": {"pattern": "(?=x)"}}}', "bad-schema", '"pattern"'),
        ('{"type": "object",\n "type": "object"}', "duplicate-key", '"type": "object"}'),
        ('{"type": "object",}', "not-json", ",}"),
        ('{"type": "object", "properties": {"a": {"type": 7}}}', "bad-schema", '"type": 7'),
        ('{"required": "a",\n "properties": {"required": {}}}', "bad-schema", '"required": "a"'),
        ('{"title": "äö", "allOf": [{"type": "object"}, {"type": "objct"}]}', "bad-schema", '"type": "objct"'),
        ('{"allOf": [true, 7]}', "bad-schema", "7"),
        ('{"x/y": 1, "$defs": {"x/y": {"minimum": "1"}}}', "bad-schema", '"minimum"'),
        (
            '{"title": "1234567890123456789", "maximum": 123456789012345678901234}',
            "number-too-big",
            "123456789012345678901",
        ),
        ('{"const": "[[", "x": ' + "[" * 70 + "]" * 70 + "}", "too-deep", "[" * 7 + "]"),
        ('{"properties": {"a": {"$ref": "#/properties/a"}}}', "bad-schema", '"a"'),
        ('{"$ref": "#"}', "bad-schema", "{"),
        ('{"allOf": [{"$ref": "#"}]}', "bad-schema", "{"),
        (" 3", "bad-schema", "3"),
    ],
)
def test_bad_schema_is_refused_at_its_place(tmp_path: Path, text: str, code: str, at: str) -> None:
    folder = tmp_path / "schemas"
    folder.mkdir()
    write(tmp_path, secret={"type": "string"})
    write(folder, inquiry=text)
    found = load_contract(Path("inquiry.json"), folder)
    assert isinstance(found, tuple)
    assert (found[0].code, found[0].offset) == (code, text.index(at))


def test_a_byte_that_is_not_utf8_is_told_at_its_character(tmp_path: Path) -> None:
    (tmp_path / "inquiry.json").write_bytes('{"title": "äö\udcff"}'.encode("utf-8", "surrogateescape"))
    found = load_contract(Path("inquiry.json"), tmp_path)
    assert isinstance(found, tuple)
    assert (found[0].code, found[0].offset) == ("not-utf8", 13)


def test_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, inquiry={})
    found = load_contract(Path("inquirry.json"), tmp_path)
    assert isinstance(found, tuple)
    assert (found[0].code, found[0].instead) == ("missing-file", "`inquiry.json`")


def test_schema_that_multiplies_itself_is_refused(tmp_path: Path) -> None:
    laughs: dict[str, Any] = {f"d{each}": {"allOf": [{"$ref": f"#/$defs/d{each + 1}"}] * 2} for each in range(30)}
    write(tmp_path, inquiry={"$defs": {**laughs, "d30": {"type": "integer"}}, "$ref": "#/$defs/d0"})
    found = load_contract(Path("inquiry.json"), tmp_path)
    assert isinstance(found, tuple)
    assert found[0].code == "bad-schema"


def _deep(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = {"k": "g", "c": inner}
    return inner


_BRANCH = {"type": "object", "properties": {"k": {"type": "string"}, "c": {"$ref": "#/$defs/n"}}, "required": ["k"]}


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 100_000 + "b"),
        ({"uniqueItems": True}, [{"a": each, "b": [each]} for each in range(5_000)]),
        ({"properties": {"c": {"$ref": "#"}}}, _deep(60, {})),
        (
            {"$defs": {"n": {"oneOf": [_BRANCH, {**_BRANCH, "required": ["c"]}]}}, "$ref": "#/$defs/n"},
            _deep(60, {"k": 1}),
        ),
        (
            {"$defs": {"n": {"anyOf": [_BRANCH, {**_BRANCH, "required": ["c"]}]}}, "$ref": "#/$defs/n"},
            _deep(60, {"k": 1}),
        ),
        ({"multipleOf": 0.01}, 1e308),
    ],
)
def test_hostile_data_cannot_make_a_check_run_long(tmp_path: Path, schema: Any, data: Any) -> None:
    contract = loaded(tmp_path, schema)
    started = time.monotonic()
    contract.check(data)
    assert time.monotonic() - started < 2.0
