"""`bus graph`: as text, as edges, as a picture."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Bus


def test_as_text(bus: Bus, hello: Path) -> None:
    ran = bus("graph", hello, "--output", "text")
    assert (ran.code, ran.out) == (0, "hello.asked\n  route hello/hello\n    -> capability greeting (greeter)\n")


def test_what_a_step_says_of_itself_stands_once(bus: Bus, hello: Path) -> None:
    ask = "{circuit_breaker: {failures: 5, window: 30s, reset: 1m, steps: [{call: {capability: greeting}}]}}"
    steps = f"steps:\n- loop: {{while: 'index < 2', max: 2, steps: [{ask}]}}\nto: {{reply: ok}}\n"
    route = (hello / "hello.yaml").read_text().partition("to:")[0]
    (hello / "hello.yaml").write_text(route + steps)
    ran = bus("graph", hello, "--output", "text")
    assert ran.out.splitlines()[2:] == [
        "    loop while index < 2, max 2",
        "      circuit_breaker failures 5, window 30s, reset 1m",
        "        call",
        "          -> capability greeting (greeter)",
        "    -> reply ok",
    ]


def test_as_edges(bus: Bus, hello: Path) -> None:
    assert bus("graph", hello).rows == [
        {"source": "type:hello.asked", "target": "route:hello/hello", "how": "matches"},
        {"source": "route:hello/hello", "target": "capability:greeting", "how": "asks"},
    ]


def test_as_a_picture(bus: Bus, hello: Path, tmp_path: Path) -> None:
    ran = bus("graph", hello, "--svg", tmp_path / "a.svg", "--output", "text")
    assert (ran.code, ran.out) == (0, "")
    assert "1 route, 2 arrows" in ran.err
    assert (tmp_path / "a.svg").read_text().startswith("<svg ")
    refused = bus("graph", hello, "--svg", tmp_path / "no" / "a.svg")
    assert (refused.code, "folder that exists" in refused.err) == (2, True)


def test_a_broken_configuration_is_1(bus: Bus, broken: Path) -> None:
    ran = bus("graph", broken)
    assert (ran.code, ran.out) == (1, "")
    assert "error[unknown-field]" in ran.err
