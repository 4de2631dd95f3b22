"""Versions of a type's contract: messages of older ones reach routes as the newest, and what is published stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bus.config import load
from bus.core.pipeline import decide
from bus.core.registry import STEPS
from bus.core.table import RouteTable
from tests.config.written import sound, written
from tests.core.world import FACTS, opened, structured

AGENTS = """
agents:
  desk: {adapter: external, publishes: [asked]}
  clerk: {adapter: external, subscribes: [asked]}
"""
ROUTE = 'route: r\nmatch: {type: asked, when: "size(data.names) > 0"}\nto: {reply: ok}\n'


def schema(**fields: Any) -> str:
    return json.dumps({"type": "object", "properties": fields, "required": sorted(fields)})


V1 = schema(name={"type": "string"})
V2 = schema(first={"type": "string"}, last={"type": "string"})
V3 = schema(names={"type": "array", "items": {"type": "string"}})
UPCAST = """{v1: {data: {first: "{{ data.name.split(' ')[0] }}", last: "{{ data.name.split(' ')[1] }}"}},
    v2: {data: {names: ["{{ data.first }}", "{{ data.last }}"]}}}"""


def integration(versions: str = "[a.v1.json, a.v2.json, a.v3.json]", upcast: str = UPCAST) -> str:
    rest = f", upcast: {upcast}" if upcast else ""
    return f"integration: shop\ntypes:\n  asked: {{contract: {versions}{rest}}}\n"


FILES = {"agents": AGENTS, "route": ROUTE, "a.v1__json": V1, "a.v2__json": V2, "a.v3__json": V3}


@pytest.mark.parametrize(
    ("data", "seen", "note"),
    [
        ({"names": ["Ada", "L"]}, ["Ada", "L"], None),
        ({"first": "Ada", "last": "L"}, ["Ada", "L"], "upcast from a.v2"),
        ({"name": "Ada L"}, ["Ada", "L"], "upcast from a.v1"),
        ({"name": "Ada L", "names": []}, [], None),
    ],
)
def test_routes_see_the_newest(tmp_path: Path, data: Any, seen: list[str], note: str | None) -> None:
    shop = RouteTable(sound(tmp_path, **FILES, integration=integration()))
    decision = decide(structured("asked", data), shop, FACTS)
    assert opened(decision.outputs[0])["data"]["names"] == seen
    assert (decision.steps[0] if note else None) == note


def test_what_keeps_no_version_is_told_what_the_newest_wants(tmp_path: Path) -> None:
    shop = RouteTable(sound(tmp_path, **FILES, integration=integration()))
    refused = decide(structured("asked", {"nome": "Ada"}), shop, FACTS)
    assert (refused.end, refused.reason) == ("invalid", "breaks a.v3: /names expected list of string, got nothing")
    fails = decide(structured("asked", {"name": "Ada"}), shop, FACTS)
    assert fails.failure is not None
    assert (fails.end, fails.failure.code) == ("invalid", "upcast")


def test_an_upcast_that_makes_nonsense_is_found_out(tmp_path: Path) -> None:
    odd = integration("[a.v2.json, a.v3.json]", '{v2: {data: {names: "{{ msg.?odd.orValue([1]) }}"}}}')
    shop = RouteTable(sound(tmp_path, **FILES, integration=odd))
    refused = decide(structured("asked", {"first": "Ada", "last": "L"}), shop, FACTS)
    assert refused.reason.startswith("the upcast of a.v2 makes what breaks a.v3: /names/0 expected string")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            integration(upcast=""),
            "no-upcast: a.v2 refuses what a.v1 allows: at `/first` it wants `first`, which",
        ),
        (integration("[a.v2.json, a.v1.json]", ""), "version-order: a.v1 stands after a.v2"),
        (integration("[a.v1.json, any.json]", ""), "version-order: `any` is no version of one contract"),
        (integration(upcast=UPCAST.replace("v2:", "v3:")), "unknown-key: unknown key `v3` in `upcast`"),
        (integration(upcast=UPCAST.replace("data.last", "data.lost")), "unknown-field: a.v2 has no `lost`"),
        (integration(upcast=UPCAST.replace("names:", "named:")), "data-mismatch: a.v3 needs `names`, got `named`"),
        (integration("a.v3.json", "{v2: {data: {}}}"), "unknown-key: unknown key `v2` in `upcast`"),
        (integration("[]", ""), "wrong-type: `contract` is an empty list"),
    ],
)
def test_lint(tmp_path: Path, text: str, finding: str) -> None:
    found = written(tmp_path, **FILES, any__json="{}", integration=text).findings
    assert finding in "\n".join(f"{each.code}: {each.what}" for each in found)


def against(tmp_path: Path, before: dict[str, str], now: dict[str, str]) -> list[str]:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, files in ((old, before), (new, now)):
        folder.mkdir()
        written(folder, **{**FILES, "route": "", **files})
    return [
        str(each).rpartition("/shop/")[2] for each in load([new / "shop"], {}, STEPS, published=[old / "shop"]).findings
    ]


ONE = integration("a.v1.json", "")


def test_a_published_version_is_not_edited(tmp_path: Path) -> None:
    edited = {"integration": ONE, "a.v1__json": schema(name={"type": "string", "maxLength": 3})}
    assert against(tmp_path, {"integration": ONE}, edited) == [
        "integration.yaml:3:21: error[edited-version]: a.v1 is published and has changed; write the change into `a.v2`"
    ]


def test_words_for_people_may_be_edited(tmp_path: Path) -> None:
    noted = {"integration": ONE, "a.v1__json": schema(name={"type": "string", "description": "all of it"})}
    assert against(tmp_path, {"integration": ONE}, noted) == []


def test_a_file_that_a_published_version_refers_to_is_not_edited(tmp_path: Path) -> None:
    refers = json.dumps({"properties": {"name": {"$ref": "name.json"}}})
    before = {"integration": ONE, "a.v1__json": refers, "name__json": '{"type": "string"}'}
    (found,) = against(tmp_path, before, {**before, "name__json": '{"type": "integer"}'})
    assert "a.v1 is published, and name.json, which it refers to, has changed" in found


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (integration("[a.v1.json, a.v2.json]", UPCAST.partition(",\n")[0] + "}"), []),
        (integration("a.v2.json", ""), ["incompatible-version"]),
        (integration("[a.v1.json, a.v2.json]", ""), ["no-upcast"]),
        (integration("a.v4.json", ""), []),
        (integration("any", ""), []),
        ("integration: shop\n", []),
    ],
)
def test_a_new_version_takes_what_was_published_or_has_an_upcast(tmp_path: Path, now: str, found: list[str]) -> None:
    files = {"integration": now, "a.v4__json": json.dumps({"properties": {"name": {"type": ["string", "null"]}}})}
    if "types" not in now:
        files["agents"] = "agents: {}\n"
    lines = against(tmp_path, {"integration": ONE}, files)
    assert [each.partition("error[")[2].partition("]")[0] for each in lines] == found


def test_a_capability_keeps_its_contracts(tmp_path: Path) -> None:
    more = (
        "  sum: {adapter: external, capabilities: [sum]}\ncapabilities: {sum: {request: s.v1.json, reply: s.v1.json}}"
    )
    agents = f"{AGENTS}{more}\n"
    before = {"integration": ONE, "agents": agents, "s.v1__json": "{}"}
    lines = against(tmp_path, before, {**before, "s.v1__json": '{"type": "object"}'})
    assert ["s.v1 is published and has changed; write the change into `s.v2`" in each for each in lines] == [True]


def test_what_was_published_may_be_unreadable_today(tmp_path: Path) -> None:
    assert against(tmp_path, {"integration": ONE, "broken": "rout: x\nwhat: {"}, {"integration": ONE}) == []
