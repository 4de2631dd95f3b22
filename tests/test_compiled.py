"""Compiled modules are taken while they are of the sources that are there, and never afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bus import compiled
from bus.compiled import MANIFEST, finder, fingerprint


def test_compiled_modules_are_taken_until_a_source_is_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "WANTED", True)
    source, folder = tmp_path / "bus" / "ledger.py", tmp_path / "made"
    monkeypatch.setattr(compiled, "_places", lambda: (folder, tmp_path))
    source.parent.mkdir()
    folder.mkdir()
    source.write_text("one = 1")
    sources = ["bus/ledger.py"]
    said = {
        "sources": sources,
        "fingerprint": fingerprint(tmp_path, sources),
        "modules": {"bus.ledger": "bus.ledger.so"},
    }
    assert finder(folder, tmp_path) is None  # nothing was compiled
    assert compiled.state() == "absent"
    (folder / MANIFEST).write_text(json.dumps(said))
    assert finder(folder, tmp_path) is None  # a file is missing
    (folder / "bus.ledger.so").touch()
    found = finder(folder, tmp_path)
    assert found is not None
    assert compiled.state() == "used"
    spec = found.find_spec("bus.ledger", None)
    assert spec is not None
    assert spec.origin == str(folder / "bus.ledger.so")
    assert found.find_spec("bus.other", None) is None
    assert "bus.ledger" in found
    source.write_text("one = 2")
    assert finder(folder, tmp_path) is None
    assert compiled.state() == "stale"
    source.unlink()
    assert compiled.state() == "stale"
    monkeypatch.setattr(compiled, "WANTED", False)
    assert compiled.state() == "off"


@pytest.mark.parametrize("written", ["", '{"fing', "{}", "[]", '{"sources": [], "fingerprint": 1, "modules": {}}'])
def test_a_half_written_manifest_is_of_no_sources(tmp_path: Path, written: str) -> None:
    (tmp_path / MANIFEST).write_text(written)
    assert finder(tmp_path, tmp_path) is None


def test_a_fingerprint_knows_where_a_file_ends(tmp_path: Path) -> None:
    prints = set()
    for one, two in (("a\nb\n", "c\n"), ("a\n", "b\nc\n")):
        (tmp_path / "one").write_text(one)
        (tmp_path / "two").write_text(two)
        prints.add(fingerprint(tmp_path, ["one", "two"]))
    assert len(prints) == 2


def test_an_engine_that_lies_elsewhere_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "agentbus_express.py").write_text("Lane = None")
    code = (
        "import sys, bus; from bus.compiled import Compiled\n"
        "sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, Compiled)]\n"  # stale
        "import agentbus_express; from bus.shell.engine import ENGINE; print(ENGINE)"
    )
    where = {**os.environ, "PYTHONPATH": str(tmp_path), "BUS_EXPRESS": ""}
    done = subprocess.run([sys.executable, "-c", code], env=where, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
