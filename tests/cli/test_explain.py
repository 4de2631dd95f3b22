"""`bus explain`: the decision, without a broker."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Bus


def test_it_shows_the_route_why_and_what_is_sent(bus: Bus, hello: Path) -> None:
    ran = bus("explain", "hello.asked", '{"name": "Ada"}', "--routes", hello, "--output", "text")
    assert ran.code == 0
    assert "routed: route hello/hello" in ran.out
    assert "hello.yaml:1, exact type" in ran.out
    assert '-> capability:greeting  greeting.requested  {"name":"Ada"}' in ran.out


def test_as_json(bus: Bus, hello: Path) -> None:
    (row,) = bus("explain", "hello.asked", '{"name": "Ada"}', "--routes", hello).rows
    assert (row["end"], row["route"]) == ("routed", "hello/hello")
    (output,) = row["outputs"]
    assert (output["target"], output["type"], output["data"]) == (
        "capability:greeting",
        "greeting.requested",
        {"name": "Ada"},
    )


def test_a_broken_contract_is_1_field_by_field(bus: Bus, hello: Path) -> None:
    ran = bus("explain", "hello.asked", "{}", "--routes", hello, "--output", "text")
    assert ran.code == 1
    assert ran.out.startswith("invalid")
    assert "invalid: /name expected" in ran.out


def test_no_route_is_1_with_a_reason(bus: Bus, hello: Path) -> None:
    (row,) = (ran := bus("explain", "goodbye.asked", "{}", "--routes", hello)).rows
    assert ran.code == 1
    assert row["end"] == "dead_letter"
    assert row["reason"]


def test_data_from_a_file(bus: Bus, hello: Path, tmp_path: Path) -> None:
    file = tmp_path / "ada.json"
    file.write_text('{"name": "Ada"}')
    assert bus("explain", "hello.asked", f"@{file}", "--routes", hello).code == 0


CONDITIONS = """\
route: hello
match: {type: hello.asked, when: size(data.name) > 1}
steps:
- choose:
    cases:
    - when: data.name == "Bob"
      to: {reply: ok}
    - when: data.?title.orValue("none") == "none" && msg.source == "cli"
      steps:
      - set: {vars.a: "{{ data.name }}"}
to: {capability: greeting, data: {name: "Dear {{ vars.a }}"}}
"""


def test_each_expression_of_the_way_with_what_it_read(bus: Bus, hello: Path) -> None:
    schema = hello / "schemas" / "hello.v1.json"
    schema.write_text(schema.read_text().replace('"properties": {', '"properties": {"title": {"type": "string"}, '))
    (hello / "hello.yaml").write_text(CONDITIONS)
    ran = bus("explain", "hello.asked", '{"name": "Ada"}', "--routes", hello, "--output", "text")
    lines = [line.strip().replace(f"{hello}/", "") for line in ran.out.splitlines()]
    assert lines[1:6] == [
        'hello.yaml:2:34  when size(data.name) > 1: true (data.name = "Ada")',
        'hello.yaml:6:13  when data.name == "Bob": false (data.name = "Ada")',
        'hello.yaml:8:13  when data.?title.orValue("none") == "none" && msg.source == "cli": true '
        '(data.title is absent, msg.source = "cli")',
        'hello.yaml:10:23  {{ data.name }}: "Ada"',
        'hello.yaml:11:41  Dear {{ vars.a }}: "Dear Ada" (vars.a = "Ada")',
    ]
    (row,) = bus("explain", "hello.asked", '{"name": "A"}', "--routes", hello).rows
    (seen,) = row["expressions"]
    assert (seen["text"], seen["value"]) == ("when size(data.name) > 1", False)
    assert (seen["reads"], seen["absent"]) == ({"data.name": "A"}, [])


def test_an_expression_that_fails_says_why(bus: Bus, hello: Path) -> None:
    route = hello / "hello.yaml"
    route.write_text(route.read_text().replace("to:", "steps:\n- filter: 1 / (size(data.name) - 3) > 0\nto:"))
    ran = bus("explain", "hello.asked", '{"name": "Ada"}', "--routes", hello, "--output", "text")
    assert "filter 1 / (size(data.name) - 3) > 0: failed, `1 / (size(data.name) - 3) > 0`: divide" in ran.out
    assert '(data.name = "Ada")' in ran.out


def test_a_route_with_memory_is_shown_up_to_where_it_waits(bus: Bus, hello: Path) -> None:
    (hello / "hello.yaml").write_text(MEMORY)
    (row,) = (ran := bus("explain", "hello.asked", '{"name": "Ada"}', "--routes", hello)).rows
    assert (ran.code, row["end"], row["route"]) == (0, "routed", "hello/hello")
    assert [each["text"] for each in row["expressions"]][-2:] == ["serial_by data.name", "{{ data.name }}"]
    assert [(each["target"], each["data"]) for each in row["outputs"]] == [("capability:greeting", {"name": "Ada"})]
    (hello / "hello.yaml").write_text(MEMORY.replace("- call", "- delay: {for: 1h}\n- call"))
    (row,) = (ran := bus("explain", "hello.asked", '{"name": "Ada"}', "--routes", hello)).rows
    assert (ran.code, row["end"], row["outputs"]) == (0, "waiting", [])


MEMORY = """\
route: hello
match: {type: hello.asked}
serial_by: data.name
steps:
- call: {capability: greeting, data: {name: "{{ data.name }}"}, into: vars.said}
- delay: {for: 1h}
to: {reply: ok, data: {text: "{{ vars.said.text }}"}}
"""
