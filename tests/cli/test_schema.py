"""`bus schema`: printed, or written to a file."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Bus


def test_printed_and_written_it_is_the_same(bus: Bus, tmp_path: Path) -> None:
    printed = bus("schema")
    assert (printed.code, printed.err) == (0, "")
    assert json.loads(printed.out)["title"] == "agentbus"
    assert bus("schema", tmp_path / "s.json").code == 0
    assert (tmp_path / "s.json").read_text() == printed.out


def test_a_folder_that_is_not_there_is_usage(bus: Bus, tmp_path: Path) -> None:
    ran = bus("schema", tmp_path / "no" / "s.json")
    assert ran.code == 2
    assert "name a file in a folder that exists" in ran.err
