"""Fragments: expanded at load into each route that uses them, with their own variables, values and rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bus.config import load
from bus.core.actions import Decision
from bus.core.pipeline import decide
from bus.core.registry import STEPS
from bus.core.table import RouteTable
from tests.config.written import sound, written
from tests.core.world import FACTS, opened, structured

INTEGRATION = """
integration: shop
config: {name: {type: string, default: shop}}
types:
  asked: {contract: asked.json}
  done: {contract: any, unrouted: ok}
"""
AGENTS = """
agents:
  desk: {adapter: external, publishes: [asked]}
  clerk: {adapter: external, subscribes: [done]}
"""
ASKED = '{"type": "object", "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}, "required": ["text"]}'
GREET = """
fragment: greet
with:
  greeting: {type: string, default: Hello}
  times: {type: integer}
steps:
- set: {vars.line: "{{ vars.greeting }} {{ data.text }} x{{ vars.times }} from {{ config.name }}"}
- set: {data.line: "{{ vars.line }}"}
"""


def route(*steps: str, rest: str = "") -> str:
    listed = "steps:\n" + "".join(f"- {step}\n" for step in steps) if steps else ""
    return f"route: r\nmatch: {{type: asked}}\n{listed}{rest}"


def decided(folder: Path, routes: str, **more: str) -> Decision:
    files = {"integration": INTEGRATION, "agents": AGENTS, "asked__json": ASKED, "greet": GREET}
    shop = sound(folder, **{**files, "routes": routes, **more})
    return decide(structured("asked", {"text": "Ada"}), RouteTable(shop), FACTS)


def found(folder: Path, routes: str, **more: str) -> list[str]:
    files = {"integration": INTEGRATION, "agents": AGENTS, "asked__json": ASKED, "greet": GREET}
    loaded = written(folder, **{**files, "routes": routes, **more})
    return [str(finding).rpartition("/shop/")[2] for finding in loaded.findings]


def test_a_fragment_runs_with_its_values_and_leaves_the_variables_of_the_route(tmp_path: Path) -> None:
    steps = (
        "set: {vars.line: mine}",
        'use: {fragment: greet, with: {times: "{{ 1 + 1 }}"}}',
        "use: {fragment: greet, with: {greeting: Bye, times: 3}}",
        'set: {data.mine: "{{ vars.line }} {{ config.name }}"}',
    )
    decision = decided(tmp_path, route(*steps, rest="to: {event: done}\n"))
    assert opened(decision.outputs[0])["data"] == {
        "text": "Ada", "line": "Bye Ada x3 from shop", "mine": "mine shop",
    }  # fmt: skip
    assert [note for note in decision.steps if note.startswith("use")] == ["use greet", "use greet"]


def test_a_fragment_of_another_integration_has_its_own_values_and_files(tmp_path: Path) -> None:
    common = tmp_path / "common"
    common.mkdir()
    (common / "integration.yaml").write_text("integration: common\nconfig: {name: {type: string, default: common}}\n")
    (common / "greet.yaml").write_text(GREET + "- render: {template: line.j2, into: data.text}\n")
    (common / "line.j2").write_text("<{{ data.line }}>")
    integration = INTEGRATION.replace("integration: shop", "integration: shop\nuses: [common]")
    routes = route("use: {fragment: greet, with: {times: 1}}", rest="to: {event: done}\n")
    decision = decided(
        tmp_path, routes, greet="# elsewhere\n---\nfragment: other\nsteps: []\n", integration=integration
    )
    assert opened(decision.outputs[0])["data"]["text"] == "<Hello Ada x1 from common>"


def test_for_the_rules_of_the_route_it_is_one_step(tmp_path: Path) -> None:
    careful = """
fragment: careful
with: {on_odd: {type: string}}
steps:
- fail: {class: refusal, reason: "{{ vars.on_odd }}"}
"""
    rules = 'on_error:\n- when: vars.seen == "route"\n  then: {to: {event: done, data: "{{ error.reason }}"}}\n'
    steps = ("set: {vars.seen: route}", "use: {fragment: careful, with: {on_odd: odd}}")
    decision = decided(tmp_path, route(*steps, rest=rules), careful=careful)
    assert opened(decision.outputs[0])["data"] == "fail#1: odd"


@pytest.mark.parametrize(
    ("use", "finding"),
    [
        ("{fragment: greet}", "routes.yaml:4:8: error[missing-key]: fragment `greet` wants `times`; "
         "write `with: {times: ...}`"),
        ("{fragment: gret, with: {times: 1}}",
         "routes.yaml:4:19: error[unknown-fragment]: there is no fragment `gret`; "
         "write `greet`"),
        ('{fragment: greet, with: {times: "{{ data.text }}"}}',
         "routes.yaml:4:40: error[wrong-type]: `times` wants an integer, got a string; write an integer"),
        ("{fragment: greet, with: {time: 1, times: 1}}",
         "routes.yaml:4:33: error[unknown-key]: unknown key `time` in the parameters of `greet`; write `times`"),
        ("greet", "routes.yaml:4:8: error[wrong-type]: `use` wants a mapping, got the text \"greet\"; "
             "write `{fragment: ...}`"),
    ],
)  # fmt: skip
def test_what_a_use_gives_is_checked(tmp_path: Path, use: str, finding: str) -> None:
    assert found(tmp_path, route(f"use: {use}", rest="to: {event: done}\n")) == [finding]


def test_findings_inside_are_in_the_file_of_the_fragment_and_come_once(tmp_path: Path) -> None:
    use = "use: {fragment: greet, with: {times: 1}}"
    greet = GREET + "- filter: data.txt == vars.greting\n"
    assert found(tmp_path, route(use, use, rest="to: {event: done}\n"), greet=greet) == [
        "greet.yaml:9:16: error[unknown-field]: asked has no `txt`; write `data.text`",
        "greet.yaml:9:28: error[unknown-field]: vars has no `greting`; write `vars.greeting`",
    ]
    after = route(use, "filter: data.line == 3", rest="to: {event: done}\n")
    assert "never equal" in found(tmp_path, after)[0]


def test_a_fragment_that_is_used_nowhere_is_checked_too(tmp_path: Path) -> None:
    greet = GREET + "- use: {fragment: gret}\n"
    assert [
        each.partition(": error")[0] for each in found(tmp_path, route(rest="to: {event: done}\n"), greet=greet)
    ] == ["greet.yaml:9:19"]


def test_recursion_is_refused(tmp_path: Path) -> None:
    loop = "fragment: a\nsteps: [{use: {fragment: b}}]\n---\nfragment: b\nsteps: [{use: {fragment: a}}]\n"
    lines = found(tmp_path, route("use: {fragment: a}", rest="to: {event: done}\n"), loop=loop)
    assert lines == [
        "loop.yaml:2:26: error[recursive-fragment]: fragment `b` uses itself: b -> a -> b; write steps that end",
        "loop.yaml:5:26: error[recursive-fragment]: fragment `a` uses itself: a -> b -> a; write steps that end",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fragment: f\n", "fragment `f` has no `steps`"),
        ("fragment: f\nwith: {n: {type: int}}\nsteps: []\n", "`type` cannot be `int`"),
        ("fragment: f\nwith: {n: {type: integer, default: x}}\nsteps: []\n", "`n` wants an integer, got a string"),
        ("fragment: f\nwith: {a-b: {type: any}}\nsteps: []\n", "reads as minus"),
        ("fragment: greet\nsteps: []\n", "is fragment `greet` too"),
        ("fragment: f\nsteps: [{set: {data.x: '${HOME}'}}]\n", "in a route"),
        ("fragment: f\nmatch: {type: asked}\nsteps: []\n", "unknown key `match` in a fragment"),
    ],
)
def test_a_bad_fragment(tmp_path: Path, text: str, words: str) -> None:
    (finding,) = found(tmp_path, route(rest="to: {event: done}\n"), more=text)
    assert words in finding


def test_a_value_whose_type_only_the_message_tells_is_checked_then(tmp_path: Path) -> None:
    anything = INTEGRATION.replace("asked.json", "any")
    shown: list[Any] = []
    for value in (2, 2.5, True, None):
        routes = route('use: {fragment: greet, with: {times: "{{ data.n }}"}}', rest="to: {event: done}\n")
        sound(tmp_path, integration=anything, agents=AGENTS, greet=GREET, routes=routes)
        catalog = load([tmp_path / "shop"], {}, STEPS).catalog
        assert catalog is not None
        decision = decide(structured("asked", {"text": "Ada", "n": value}), RouteTable(catalog), FACTS)
        shown.append(decision.reason)
    assert shown == ["", *(f"fragment greet: `times` wants integer, got {got}" for got in ("float", "bool", "null"))]


def test_what_may_be_switched_is_what_detours_look_at_in_fragments_too(tmp_path: Path) -> None:
    inner = "fragment: checked\nsteps:\n- detour: {control: extra, steps: [{set: {vars.a: 1}}]}\n"
    steps = ("detour: {control: premium, steps: [{set: {vars.b: 1}}]}", "use: {fragment: checked}")
    shop = sound(tmp_path, integration=INTEGRATION, agents=AGENTS, asked__json=ASKED, checked=inner,
                 routes=route(*steps, rest="to: {event: done}\n"))  # fmt: skip
    assert shop.controls == {"premium", "extra"}
