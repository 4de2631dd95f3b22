"""`bus test`: exit codes, the forms of output, what is run and what must be covered. What tests mean is tested with
bus.rehearsal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Bus

PASSING = """\
tests:
- test: she is greeted
  agents: {greeting: {reply: {text: Hello Ada}}}
  do: [{send: {type: hello.asked, data: {name: Ada}}}]
  expect: [{reply: ok, data: {text: Hello Ada}}]
"""
FAILING = """\
- test: she is greeted in French
  agents: {greeting: {reply: {text: Hello Ada}, after: 2s}}
  do: [{send: {type: hello.asked, data: {name: Ada}}}]
  expect:
  - {reply: ok, data: {text: Bonjour Ada}}
"""


@pytest.fixture
def tested(hello: Path) -> Path:
    """The integration with one test that passes."""
    (hello / "hello.test.yaml").write_text(PASSING)
    return hello


@pytest.fixture
def failing(tested: Path) -> Path:
    """The same with a test that fails."""
    (tested / "hello.test.yaml").write_text(PASSING + FAILING)
    return tested


def test_passing_is_0_with_one_line(bus: Bus, tested: Path) -> None:
    ran = bus("test", tested, "--output", "text")
    assert ran.code == 0
    assert ran.out.startswith("1 passed, branches 100 % (no broker, ")
    assert ran.out.count("\n") == 1


def test_failing_is_1_with_the_difference_and_all_that_happened(bus: Bus, failing: Path) -> None:
    ran = bus("test", failing, "--output", "text")
    assert ran.code == 1
    lines = [line.strip() for line in ran.out.splitlines()]
    file = failing / "hello.test.yaml"
    assert lines[0] == f"FAIL {file}:6  she is greeted in French"
    assert f"expected  answered reply:ok    ({file}:10)" in lines
    assert 'data: text: "Bonjour Ada"' not in lines
    assert '-   text: "Bonjour Ada"' in lines
    assert '+   text: "Hello Ada"' in lines
    assert any("route hello/hello" in line for line in lines)
    assert any("(greeter answers after 2s)" in line for line in lines)
    assert lines[-1].startswith("1 passed, 1 failed")


def test_where_it_went_wrong_every_expression_is_shown_with_its_values(bus: Bus, tested: Path) -> None:
    wrong = PASSING.replace("expect: [{reply", "expect: [{sent: {capability: greeting}, data: {name: Bob}}, {reply")
    (tested / "hello.test.yaml").write_text(wrong)
    ran = bus("test", tested, "--output", "text")
    assert ran.code == 1
    assert f'{tested / "hello.yaml"}:3:41  {{{{ data.name }}}}: "Ada"\n' in ran.out
    (bad, _) = bus("test", tested).rows
    (seen,) = bad["happened"][0]["expressions"]
    assert (seen["text"], seen["value"]) == ("{{ data.name }}", "Ada")


def test_verbose_shows_what_happened_where_all_is_well(bus: Bus, tested: Path) -> None:
    ran = bus("test", tested, "--output", "text", "-v")
    assert ran.code == 0
    assert "what happened in 0s" in ran.out


def test_as_json_lines(bus: Bus, failing: Path) -> None:
    good, bad, summary = bus("test", failing).rows
    assert (good["passed"], bad["passed"], bad["line"]) == (True, False, 6)
    (miss,) = bad["misses"]
    assert (miss["line"], miss["expected"]) == (10, "answered reply:ok")
    assert '-   text: "Bonjour Ada"' in miss["diff"]
    assert [hop["type"] for hop in bad["happened"]] == ["hello.asked", "greeting.replied"]
    assert "happened" not in good
    assert (summary["passed"], summary["failed"]) == (1, 1)
    assert summary["coverage"]["routes"] == {"reached": 1, "of": 1}


def test_as_annotations_of_a_pull_request(bus: Bus, failing: Path) -> None:
    ran = bus("test", failing, "--output", "github")
    assert ran.code == 1
    error, notice = ran.out.splitlines()
    assert error.startswith(
        f"::error file={failing / 'hello.test.yaml'},line=10,col=1,title=she is greeted in French::"
    )
    assert "Bonjour Ada" in error
    assert notice.startswith("::notice title=bus test::1 passed, 1 failed")


def test_as_junit(bus: Bus, failing: Path) -> None:
    ran = bus("test", failing, "--output", "junit")
    assert ran.code == 1
    root = ElementTree.fromstring(ran.out)
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    assert [each.get("name") for each in root.iter("testcase")] == ["she is greeted", "she is greeted in French"]
    (failure,) = root.iter("failure")
    assert "Bonjour Ada" in (failure.text or "")


def test_what_agents_or_authors_write_reaches_no_terminal_raw(bus: Bus, tested: Path) -> None:
    text = PASSING.replace("text: Hello Ada}}}\n", 'text: "\\e[31m"}}}\n', 1)
    (tested / "hello.test.yaml").write_text(text)
    for form in ("text", "junit"):
        ran = bus("test", tested, "--output", form)
        assert ran.code == 1
        assert "\x1b" not in ran.out


def test_a_file_a_name_and_none(bus: Bus, failing: Path) -> None:
    (failing / "other.test.yaml").write_text(PASSING)
    assert bus("test", failing / "other.test.yaml").rows[-1]["passed"] == 1
    assert bus("test", failing / "other.test.yaml", failing).rows[-1]["failed"] == 1
    assert bus("test", failing, "-k", "French").rows[-1]["failed"] == 1
    none = bus("test", failing, "-k", "Latin")
    assert none.code == 2
    assert "there are no tests with `Latin` in their name" in none.err


def test_mistakes_in_tests_are_findings(bus: Bus, tested: Path) -> None:
    (tested / "hello.test.yaml").write_text(PASSING.replace("expect:", "expcet:"))
    ran = bus("test", tested, "--output", "text")
    assert ran.code == 1
    assert "hello.test.yaml:5:3: error[unknown-key]: unknown key `expcet` in a test; write `expect`" in ran.out
    assert bus("lint", tested).code == 1


def test_secrets_are_not_needed(bus: Bus, tested: Path) -> None:
    agents = tested / "agents.yaml"
    settings = (
        "adapter: stdio, command: [x, '${NO_SUCH_KEY}', '${file:/no/such/file}'], concurrency: '${NO_SUCH_COUNT}'"
    )
    agents.write_text(agents.read_text().replace("adapter: external", settings))
    assert bus("lint", tested).code == 1
    assert bus("test", tested).code == 0


def test_tests_are_no_part_of_what_a_bus_runs_on(bus: Bus, tested: Path) -> None:
    """A mistake in a test must not keep a bus from starting, nor change the version of its configuration."""
    from bus import bootstrap

    before = bootstrap.load([tested])
    (tested / "hello.test.yaml").write_text("tests: nonsense\n")
    after = bootstrap.load([tested])
    assert before.catalog is not None
    assert after.catalog is not None
    assert after.catalog.version == before.catalog.version


def test_less_coverage_than_wanted_is_1(bus: Bus, tested: Path) -> None:
    route = tested / "hello.yaml"
    route.write_text(route.read_text().replace("to:", 'steps:\n- filter: data.name != "nobody"\nto:'))
    enough = bus("test", tested, "--min", "50", "--output", "text")
    assert (enough.code, "branches 50 %" in enough.out) == (0, True)
    less = bus("test", tested, "--min", "51", "--coverage", "--output", "text")
    assert less.code == 1
    assert f'{route}:4:11: `filter` is never false: `- filter: data.name != "nobody"`' in less.out
    assert "coverage: hello: 50 % of branches covered, 51 % wanted" in less.out
    with (tested / "integration.yaml").open("a") as file:
        file.write("coverage: {branches: 60}\n")
    assert bus("test", tested).code == 1
    assert bus("test", tested, "--min", "10").code == 0
    assert bus("test", tested, "-k", "greeted").code == 1
    rows = bus("test", tested, "--output", "json").rows
    assert rows[-2] == {"shortfall": "hello: 50 % of branches covered, 60 % wanted"}


def test_watch_runs_again_when_a_file_changes(tested: Path) -> None:
    environment: dict[str, Any] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "bus", "test", str(tested), "--watch", "--output", "json"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert running.stdout is not None
        assert '"passed":true' in running.stdout.readline()
        assert '"failed":0' in running.stdout.readline()
        route = tested / "hello.yaml"
        route.write_text(route.read_text().replace("data.name", "data.nmae"))
        assert '"unknown-field"' in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
    finally:
        running.kill()
        running.wait()
        running.stdout.close()  # type: ignore[union-attr] # it is a pipe
