"""Pictures of a configuration: every branch and every arrow of its routes is in them, and nothing else is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bus.config import load
from bus.config.drawing.graph import Edge, Graph, graph_of
from bus.config.drawing.sketch import Sketch, sketches
from bus.config.drawing.svg import svg
from bus.config.drawing.text import text
from bus.core.registry import STEPS

INTEGRATION = """\
integration: shop
types:
  order.placed: {contract: any}
  order.large: {contract: any, unrouted: ok}
  order.small: {contract: any, unrouted: ok}
  order.failed: {contract: any, unrouted: ok}
  audit.seen: {contract: any, unrouted: ok}
gateway: {order: {http: POST /orders, type: order.placed}}
schedules: {nightly: {cron: "0 3 * * *", zone: Europe/Berlin, type: order.placed, data: {}}}
---
agents:
  desk: {adapter: external, publishes: [order.placed]}
  checker: {adapter: external, capabilities: [check]}
  watcher: {adapter: external, subscribes: [order.*, check.replied]}
capabilities:
  check: {request: any.json, reply: any.json}
"""
ROUTE = """\
route: intake
description: "Takes <orders> & sorts them."
match: {type: order.placed, source: desk, when: "data.n < 3 && data.x > 1"}
steps:
- wire_tap: {event: audit.seen}
- choose:
    cases:
    - when: data.amount > 1000
      to: {event: order.large}
    otherwise:
      steps:
      - set: {vars.a: "{{ data.b }}"}
      to: {event: order.small}
  on_error: [{class: timeout, then: {to: {event: order.failed}}}, {then: dead_letter}]
- recipient_list: {each: data.to, allow: [{agent: checker}, {event: audit.seen}]}
  when: data.to != []
to: {capability: check, data: {event: order.large}}
---
route: watch
match: {type: "order.*"}
observe: true
to: {event: audit.seen}
"""


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "any.json").write_text("{}")
    (folder / "integration.yaml").write_text(INTEGRATION)
    (folder / "routes.yaml").write_text(ROUTE)
    loaded = load([folder], {}, STEPS)
    assert loaded.catalog is not None, loaded.findings
    return graph_of(loaded.catalog, sketches(loaded.files, STEPS))


def test_every_edge_is_there_and_no_other(graph: Graph) -> None:
    intake, watch = "route:shop/intake", "route:shop/watch"
    fits = ["type:order.placed", "type:order.large", "type:order.small", "type:order.failed"]
    assert set(graph.edges) == {
        Edge("sender:desk", "type:order.placed", "publishes"),
        Edge("sender:POST /orders", "type:order.placed", "publishes"),
        Edge("sender:shop/nightly", "type:order.placed", "publishes"),
        Edge("type:order.placed", intake, "matches"),
        *(Edge(type_, watch, "observes") for type_ in fits),
        *(Edge(type_, "receiver:watcher", "subscribes") for type_ in [*fits, "type:check.replied"]),
        Edge(intake, "type:audit.seen", "sends", 0),
        Edge(intake, "type:order.large", "sends", 1),
        Edge(intake, "type:order.small", "sends", 2),
        Edge(intake, "type:order.failed", "sends", 3),
        Edge(intake, "capability:check", "asks", 4),
        Edge(intake, "type:audit.seen", "sends", 5),
        Edge(intake, "capability:check", "asks", 6),
        Edge(watch, "type:audit.seen", "sends", 0),
        Edge("capability:check", "type:check.replied", "answers"),
    }
    assert graph.nodes["capability:check"].note == "checker"


def test_a_sketch_has_every_branch_with_its_condition(graph: Graph) -> None:
    _, choose, recipients = graph.routes["route:shop/intake"].flow.steps
    assert [branch.label for branch in choose.branches] == [
        "when data.amount > 1000", "otherwise", "on timeout", "on any failure: dead_letter"
    ]  # fmt: skip
    assert choose.branches[1].flow.steps[0].text == "vars.a"
    assert (recipients.when, recipients.text) == ("data.to != []", "each data.to")
    assert choose.branches[3].flow == Sketch()


def test_a_fragment_is_drawn_where_it_is_used_and_a_name_from_the_message_with_all_it_may_be(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(
        """\
route: outer
match: {type: a}
steps: [{use: {fragment: inner}}]
to: [{event: "{{ data.to }}", allow: [b, c]}, {capability: d, version: ^2, where: {region: [eu, uk], fast: true}}]
---
fragment: inner
steps: [{wire_tap: {event: seen}}]
"""
    )
    (route,) = sketches([file], STEPS)
    assert [(arrow.kind, arrow.name) for arrow in route.arrows()] == [
        ("event", "seen"), ("event", "b"), ("event", "c"), ("capability", "d"),
    ]  # fmt: skip
    assert str(route.flow.to[-1]) == "capability d with version ^2, region eu or uk, fast true"
    assert route.flow.steps[0].branches[0].label == "inner"


def test_as_text(graph: Graph) -> None:
    lines = text(graph).splitlines()
    assert lines[:6] == [
        "order.placed   from desk, POST /orders, shop/nightly",
        "  route shop/intake   when source desk, data.n < 3 && data.x > 1",
        "    wire_tap",
        "      -> event audit.seen",
        "    choose",
        "      when data.amount > 1000",
    ]
    assert "    -> capability check (checker)" in lines
    assert "  observed by shop/watch" in lines


def test_the_picture_is_one_file_that_needs_nothing_else(graph: Graph) -> None:
    drawn = svg(graph)
    root = ET.fromstring(drawn)
    words = "".join(root.itertext())
    for node in graph.nodes.values():
        assert node.name.rpartition("/")[2] in words
    assert "when source desk, data.n < 3 && data.x > 1" in words
    assert "Takes <orders> & sorts them." in words
    assert drawn.count('class="edge') == len(graph.edges)
    assert "href" not in drawn
    assert drawn.replace("http://www.w3.org/2000/svg", "").count("http") == 0
    assert svg(graph) == drawn


def test_without_its_style_it_is_for_a_page_that_has_it(graph: Graph) -> None:
    assert "<style>" not in svg(graph, embedded=True)
