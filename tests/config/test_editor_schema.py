"""The editor schema: what lint accepts it accepts, and the keys that lint does not know it does not know either."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from bus.config import route_tests
from bus.config.editor_schema import editor_schema
from bus.config.loading import KINDS
from bus.config.nodes import Node, parse, to_json
from bus.config.reference import shape_words
from bus.config.shape_schema import example_of, of_shape
from bus.core import spec
from bus.core.message import Json
from bus.core.registry import STEPS
from tests.config.corpus_cases import CORPUS, cases, expected
from tests.corpora import ROOT

SCHEMA = editor_schema(STEPS)
VALIDATOR = Draft202012Validator(SCHEMA)
GOOD = [*sorted((ROOT / "routes").glob("*/*.yaml")), *sorted((CORPUS / "base").glob("*.yaml"))]
ELSEWHERE = re.compile(
    "in `upcast`|the first key|files of their own|and nothing else"
)  # it knows no order, nor names of files
UNKNOWN = ("unknown-key", "unknown-step", "unknown-kind", "unknown-class", "unit", "dash-name")

TESTS = """
tests:
- test: slow specialist is left out
  config: {limit: 100}
  agents: {understanding: {reply: {intent: refund}, after: 1s}, knowledge: {never: true}, small: [{fail: timeout}]}
  do: [{send: {type: customer.inquiry.received, data: {text: Money}}}, {advance: 48h}]
  order: exact
  expect:
  - {sent: {capability: response}, at: 8s, data: {found: {missing: [knowledge], completeness: {$near: [0.667, 0.001]}}}}
  - {reply: ok, data: {text: {$match: ^Sor}}}
  - {channel: invalid, error: {findings: [{pointer: /text}]}}
  - {calls: {gpt-large: 2, small: 1}}
  - {never: {event: claim.rejected}}
"""


def nodes(path: Path) -> tuple[Node, ...]:
    return parse(str(path), path.read_bytes()).documents


def wrong(document: Json) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(document)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_shipped_is_valid(path: Path) -> None:
    for node in nodes(path):
        assert wrong(to_json(node)) == []


@pytest.mark.parametrize("kind", STEPS)
def test_the_example_of_a_step_is_valid(kind: str) -> None:
    step: dict[str, Json] = {kind: example_of(STEPS[kind])}
    assert wrong({"route": "r", "match": {"type": "a"}, "steps": [step]}) == []
    assert wrong({"route": "r", "match": {"type": "a"}, "steps": [{**step, "whne": "true"}]})


def test_tests_are_valid() -> None:
    (node,) = parse("x.test.yaml", TESTS.encode()).documents
    assert wrong(to_json(node)) == []


def test_tests_have_the_keys_that_their_reader_knows() -> None:
    known: Any = SCHEMA["$defs"]
    readers: dict[str, tuple[str, ...]] = {
        "test": route_tests.TEST_KEYS,
        "stub": route_tests.STUB_KEYS,
        "doing": route_tests.DO_KINDS,
        "expected": (*route_tests.EXPECT_KINDS, *route_tests.EXPECT_KEYS),
    }
    found = {name: set(known[name]["properties"]) - {"description"} for name in readers}
    assert found == {name: set(keys) for name, keys in readers.items()}
    assert set(known["doing"]["properties"]["send"]["properties"]) - {"description"} == set(route_tests.SEND_KEYS)


def mistakes() -> Iterator[Any]:
    """Every document of the corpus in which an unknown key, step, kind or class is planted, or a time without unit."""
    for case in cases():
        for each in expected(case):
            code = each.kind.partition("[")[2].rstrip("]")
            file, line, _ = each.place.split(":")
            if code in UNKNOWN and file.endswith(".yaml") and not ELSEWHERE.search(each.words):
                yield pytest.param(case, file, int(line), id=f"{case}/{each.place} {code}")


@pytest.mark.parametrize(("case", "file", "line"), list(mistakes()))
def test_planted_mistakes_are_invalid(case: str, file: str, line: int) -> None:
    before = [node for node in nodes(CORPUS / case / file) if node.source.position(node.start)[0] <= line]
    assert wrong(to_json(before[-1]))


@pytest.mark.parametrize(
    "path", [path for path in GOOD if ".test." not in path.name], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_an_unknown_key_is_invalid_where_the_keys_are_known(path: Path) -> None:
    """Add a key to each mapping of a valid document: valid again only where the author chooses the keys."""
    free = {
        "config", "types", "agents", "capabilities", "attributes", "data", "set", "vars", "labels", "reply", "error",
        "reason", "where", "requires",
    }  # fmt: skip
    for node in nodes(path):
        document = to_json(node)
        for owner, inner in mappings(document, "document"):
            inner["xyzzy"] = "nonsense"
            assert bool(wrong(document)) or owner in free, f"an unknown key in `{owner}` is valid"
            del inner["xyzzy"]
        assert wrong(document) == []


def mappings(value: Json, owner: str) -> Iterator[tuple[str, dict[str, Json]]]:
    if isinstance(value, dict):
        yield owner, value
        for key, inner in (
            value.items() if owner not in ("data", "reply", "error", "reason") else ()
        ):  # payloads are anything
            yield from mappings(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from mappings(inner, owner)


def test_every_kind_of_document_is_known() -> None:
    assert set(KINDS) <= set(SCHEMA["properties"])  # type: ignore[arg-type]


def test_every_key_is_described() -> None:
    """A reader that learns a key is one line in `bus.config.editor_schema` too: what the key takes."""
    nobody_said = [name for name, value in properties(SCHEMA) if value is True]
    assert nobody_said == [], f"say in bus/config/editor_schema.py what these take: {nobody_said}"


def properties(schema: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(schema, dict):
        known = schema.get("properties")
        yield from known.items() if isinstance(known, dict) else ()
        for inner in schema.values():
            yield from properties(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from properties(inner)


def test_every_shape_has_a_schema_and_words() -> None:
    """A new shape is one line in `bus.config.shape_schema` and one in `bus.config.reference`."""
    made: dict[type, spec.Shape] = {
        spec.Choice: spec.Choice(("a",)),
        spec.Number: spec.Number(0, 1),
        spec.ListOf: spec.ListOf(spec.Text()),
        spec.MapOf: spec.MapOf(spec.Text()),
        spec.Record: spec.Record({}),
        spec.Number: spec.Number(0, 1),
    }
    for kind in get_args(spec.Shape):
        shape = made.get(kind) or kind()
        assert json.dumps(of_shape(shape)) != "{}"
        assert shape_words(shape)


def test_references_lead_somewhere() -> None:
    text = json.dumps(SCHEMA)
    defined = SCHEMA["$defs"]
    assert isinstance(defined, dict)
    used = {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used - defined.keys() == set()
