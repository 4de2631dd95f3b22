"""What a refused sender is told besides what is wrong: the part of the contract, and what may be written there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.config.contracts import LoadedContract, load_contract
from bus.config.hints import MOST_ALTERNATIVES, MOST_EXCERPT_BYTES, MOST_HINTED, hinted
from bus.core import findings
from bus.core.errors import Finding
from bus.core.pipeline import decide
from bus.core.route import MessageType
from bus.core.table import RouteTable
from tests.core.world import FACTS, catalog, opened, structured

ORDER: dict[str, Any] = {
    "type": "object",
    "title": "Order",
    "properties": {
        "id": {"type": "string", "description": "The order's number.", "pattern": "^[0-9]+$"},
        "channel": {"enum": ["web", "phone", "shop"]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "customer": {"$ref": "parts.json#/customer"},
        "paid": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"by": {"enum": ["card", "bill"]}}}]},
    },
    "required": ["id", "channel"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku", "count"]}},
}
PARTS = {"customer": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}}}
GOOD: dict[str, Any] = {"id": "1", "channel": "web"}


@pytest.fixture
def order(tmp_path: Path) -> LoadedContract:
    (tmp_path / "order.v1.json").write_text(json.dumps(ORDER))
    (tmp_path / "parts.json").write_text(json.dumps(PARTS))
    loaded = load_contract(Path("order.v1.json"), tmp_path)
    assert isinstance(loaded, LoadedContract)
    return loaded


def told(contract: LoadedContract, data: Any) -> dict[str, Any]:
    return {each["pointer"]: each for each in map(findings.as_data, contract.check(data))}  # type: ignore[misc]


def test_the_values_that_are_listed_the_nearest_first(order: LoadedContract) -> None:
    found = told(order, {**GOOD, "channel": "fone"})["/channel"]
    assert found["alternatives"] == ["phone", "web", "shop"]
    assert found["excerpt"] == {"enum": ["web", "phone", "shop"]}


def test_the_fields_that_there_are_the_nearest_first(order: LoadedContract) -> None:
    found = told(order, {**GOOD, "chanel": "web"})["/chanel"]
    assert found["alternatives"] == ["channel", "id", "lines", "customer", "paid"]
    assert found["excerpt"]["required"] == ["id", "channel"]
    assert found["excerpt"]["properties"]["id"]["pattern"] == "^[0-9]+$"


def test_a_field_that_is_missing(order: LoadedContract) -> None:
    found = told(order, {"channel": "web"})["/id"]
    assert found["alternatives"] == ["id", "channel"]
    assert found["excerpt"] == {"type": "string", "pattern": "^[0-9]+$", "description": "The order's number."}


def test_what_is_behind_references_and_within_alternatives(order: LoadedContract) -> None:
    line = told(order, {**GOOD, "lines": [{"sku": "a", "count": 1}, {"sku": 7}]})
    assert line["/lines/1/sku"]["excerpt"] == {"type": "string"}
    assert line["/lines/1/count"]["alternatives"] == ["count", "sku"]
    customer = told(order, {**GOOD, "customer": {"name": "x" * 10}})
    assert customer["/customer/name"]["excerpt"] == {"type": "string", "maxLength": 9}
    paid = told(order, {**GOOD, "paid": {"by": "cash"}})
    assert paid["/paid/by"]["alternatives"] == ["card", "bill"]


def test_what_is_no_object_at_all(order: LoadedContract) -> None:
    assert set(told(order, "x")[""]["excerpt"]["properties"]) == set(ORDER["properties"])


NAMES = st.text("ab/~0", max_size=90)
SCHEMAS: Any = st.recursive(
    st.sampled_from([True, {"type": "string"}, {"enum": ["x" * 300, 1, None]}, {"$ref": "#"}, {"$ref": "#/a/0"}, 7]),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=30),
            "items": inner, "prefixItems": st.lists(inner, max_size=2), "anyOf": st.lists(inner, max_size=9),
            "required": st.lists(NAMES, max_size=20), "additionalProperties": inner,
            "description": st.text(max_size=400), "enum": st.lists(st.text(max_size=90), max_size=20),
        },
    ),
    max_leaves=20,
)  # fmt: skip
DATA = st.recursive(
    st.integers(), lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner), max_leaves=5
)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, DATA, st.lists(st.lists(NAMES, max_size=3), max_size=MOST_HINTED + 2))
def test_hints_are_bounded_whatever_the_contract(schema: Any, data: Any, paths: list[list[str]]) -> None:
    pointers = ["".join("/" + each.replace("~", "~0").replace("/", "~1") for each in path) for path in paths]
    found = hinted([Finding(each, "", "") for each in pointers], data, {"a.json": schema})
    assert [each.pointer for each in found] == pointers
    for each in found[:MOST_HINTED]:
        assert len(each.excerpt.encode()) <= MOST_EXCERPT_BYTES
        assert each.excerpt == "" or orjson.loads(each.excerpt)
        assert len(each.alternatives) <= MOST_ALTERNATIVES
        assert all(len(alternative) <= 60 for alternative in each.alternatives)
        assert findings.read(orjson.loads(orjson.dumps(findings.row(each)))) == each
    assert all(each.excerpt == "" and not each.alternatives for each in found[MOST_HINTED:])


def test_whoever_sent_it_is_told_and_the_dead_letter_stays_short(order: LoadedContract) -> None:
    made = catalog(types={"asked": MessageType("asked", order)})
    refused = decide(structured("asked", {**GOOD, "channel": "fone"}), RouteTable(made), FACTS)
    aside, word = refused.outputs
    (finding,) = opened(word)["data"]["findings"]
    assert (finding["pointer"], finding["alternatives"][0]) == ("/channel", "phone")
    assert finding["excerpt"] == {"enum": ["web", "phone", "shop"]}
    assert json.loads(str(aside.headers["bus-findings"])) == [
        {"pointer": "/channel", "expected": "one of web, phone, shop", "got": "string fone"}
    ]
