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
