"""The steps that change content: what they write, what they leave alone, what they cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.errors import StepFailed
from bus.core.message import Json
from bus.core.pipeline import decide
from bus.core.registry import STEPS
from bus.core.table import RouteTable
from tests.config.written import sound, written
from tests.core.test_steps import do, work
from tests.core.world import FACTS, opened, structured

KEYS = st.sampled_from("abc")
LEAVES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(), st.none(), st.booleans())
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(tuple)


def at(value: Json, path: tuple[str, ...]) -> Iterator[Json]:
    """What a path means, lists gone through."""
    if isinstance(value, list):
        for item in value:
            yield from at(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from at(value[path[0]], path[1:])


def redacted(value: Json, path: tuple[str, ...], how: str, secret: bytes = b"k" * 32) -> Json:
    on = work(value)
    on.secret = secret
    do("redact", {("data", *path): how}, on)
    return on.names["data"]


@given(TREES, PATHS)
def test_nothing_is_left_at_a_redacted_path(tree: Json, path: tuple[str, ...]) -> None:
    before = repr(tree)
    assert all(value in ("***", None) for value in at(redacted(tree, path, "mask"), path))
    assert list(at(redacted(tree, path, "drop"), path)) == []
    hashed = list(at(redacted(tree, path, "hash"), path))
    assert all(value is None or (isinstance(value, str) and len(value) == 32) for value in hashed)
    assert len(hashed) == len(list(at(tree, path)))
    assert repr(tree) == before
    if not list(at(tree, path)):
        assert redacted(tree, path, "mask") == tree


def test_a_hash_is_keyed_and_tells_equal_values_only() -> None:
    def hashed(value: Json, secret: bytes = b"k" * 32) -> Json:
        return redacted({"a": value}, ("a",), "hash", secret)

    assert hashed("DE89") == hashed("DE89")
    others: list[Json] = ["DE89", "DE88", 7, "7", True, {"a": 1}]
    assert len({str(hashed(each)) for each in others}) == 6
    assert hashed("DE89") != hashed("DE89", b"l" * 32)


def test_everything_cannot_be_redacted() -> None:
    with pytest.raises(ValueError, match="`data` is everything"):
        STEPS["redact"].build({("data",): "mask"})


@given(TREES)
def test_what_is_wrapped_is_unwrapped(tree: Json) -> None:
    msg: Json = {"specversion": "1.0", "id": "m", "type": "t", "source": "s", "replyto": "agent:s", "hopsleft": 3}
    on = work(tree, msg=msg)
    do("wrap", {}, on)
    assert on.names["data"] == {"specversion": "1.0", "id": "m", "type": "t", "source": "s", "data": tree}
    do("unwrap", {}, on)
    assert on.names["data"] == tree
    assert on.names["msg"] == msg


@pytest.mark.parametrize("data", [None, 7, {"data": 1}, {"specversion": "0.3", "data": 1}])
def test_only_an_envelope_is_unwrapped(data: Json) -> None:
    with pytest.raises(StepFailed) as caught:
        do("unwrap", {}, work(data))
    assert caught.value.failure == "contract"


INTEGRATION = "integration: shop\ntypes: {asked: {contract: any}, done: {contract: any, unrouted: ok}}\n"
AGENTS = """
agents:
  desk: {adapter: external, publishes: [asked]}
  clerk: {adapter: external, subscribes: [done]}
"""
ROUTE = """
route: r
match: {type: asked}
steps: [{enrich: {from: FILE, key: data.id, into: data.found}}]
to: {event: done}
"""


def enriched(folder: Path, key: Json, **file: str) -> Any:
    name = next(iter(file)).replace("__", ".")
    shop = sound(folder, integration=INTEGRATION, agents=AGENTS, route=ROUTE.replace("FILE", name), **file)
    decision = decide(structured("asked", {"id": key}), RouteTable(shop), FACTS)
    return opened(decision.outputs[0])["data"]["found"] if decision.end == "routed" else decision.reason


CSV = 'id,name\r\n7,"Ada, ""Countess\u2028"""\r\n08,\r\n'


@pytest.mark.parametrize(
    ("key", "found"),
    [(7, {"id": "7", "name": 'Ada, "Countess\u2028"'}), ("08", {"id": "08", "name": ""}), (8, None), ("", None)],
)
def test_a_csv_file_enriches(tmp_path: Path, key: Json, found: Json) -> None:
    assert enriched(tmp_path, key, customers__csv=CSV) == found


def test_a_json_file_enriches(tmp_path: Path) -> None:
    assert enriched(tmp_path, "x", customers__json='{"x": [1, {"a": 2}]}') == [1, {"a": 2}]
    assert "neither a text nor a whole number" in enriched(tmp_path, None, customers__json="{}")


def test_the_file_belongs_to_the_configuration(tmp_path: Path) -> None:
    files = {"integration": INTEGRATION, "agents": AGENTS, "route": ROUTE.replace("FILE", "a.csv")}
    one = written(tmp_path, **files, a__csv="id\n1\n")
    other = written(tmp_path, **files, a__csv="id\n2\n")
    assert one.catalog is not None
    assert other.catalog is not None
    assert one.catalog.version != other.catalog.version
    assert {path.name for path in other.files} >= {"a.csv"}
    assert replace(one.catalog, version="") != replace(other.catalog, version="")


@pytest.mark.parametrize(
    ("name", "text", "place", "words"),
    [
        ("a__csv", "", "1:1", "the table is empty"),
        ("a__csv", "id,id\n", "1:1", "two columns have one name"),
        ("a__csv", "id,the name\n", "1:1", "`the name` is no name of a column"),
        ("a__csv", "id,name\n1,a\n\n2\n", "4:1", "1 cells under 2 columns"),
        ("a__csv", 'id,name\n1,"a\nb"\n1,c\n', "4:1", "the key `1` is there twice"),
        ("a__csv", 'id\n"a"b\n', "2:1", "this is no CSV"),
        ("a__json", "[]", "1:1", "no JSON object"),
        ("a__json", '{"a": 1, "a": 2}', "1:1", "twice"),
        ("a__json", '{"a": "' + "x" * 4 * 1024**2 + '"}', "1:1", "more than 4 MiB"),
    ],
)  # fmt: skip
def test_a_bad_table_is_found_at_its_place(tmp_path: Path, name: str, text: str, place: str, words: str) -> None:
    route = ROUTE.replace("FILE", name.replace("__", "."))
    (finding,) = written(tmp_path, integration=INTEGRATION, agents=AGENTS, route=route, **{name: text}).findings
    assert (f"{finding.line}:{finding.col}", finding.code) == (place, "bad-table")
    assert words in finding.what
