"""`bus lint` and `bus run` agree on every configuration of the corpus: they refuse the same, in the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Bus
from tests.config.corpus_cases import cases, lay_out

ENVIRONMENT = {"KEY": "s3cret", "COUNT": "many", "MANY": "9"}


@pytest.mark.parametrize("case", cases())
def test_lint_and_run_agree(bus: Bus, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    root = lay_out(case, tmp_path)
    linted = bus("lint", root, "--output", "text")
    # A mistake in a test is lint's business: no bus is kept from running by it.
    errors = [line for line in linted.out.splitlines() if ": error[" in line and ".test.yaml:" not in line]
    run = bus("run", root, "--home", tmp_path / "home", "--output", "text")
    assert (linted.code, run.code) == (1, 1)
    assert [line for line in run.err.splitlines() if ": error[" in line] == errors
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", [("explain", "order.placed", "{}", "--routes"), ("graph",), ("docs", "html")])
def test_other_commands_refuse_it_too(bus: Bus, command: tuple[str, ...], tmp_path: Path) -> None:
    root = lay_out("ten", tmp_path)
    ran = bus(*command, root)
    assert ran.code == 1
    assert ran.err.count("error[") == bus("lint", root, "--output", "text").out.count("error[")


def test_the_sound_configuration_is_good_to_both(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_HOME", str(tmp_path / "home"))
    root = lay_out("", tmp_path)
    assert bus("lint", root).code == 0
    assert bus("topology", "plan", root).code == 0
