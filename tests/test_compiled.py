"""Compiled modules are taken while they are of the sources that are there, and never afterwards."""

from __future__ import annotations

import json
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
    found = finder(folder, tmp_path)
    assert found is not None
    assert compiled.state() == "used"
    spec = found.find_spec("bus.ledger", None)
    assert spec is not None
    assert spec.origin == str(folder / "bus.ledger.so")
    assert found.find_spec("bus.other", None) is None
    source.write_text("one = 2")
    assert finder(folder, tmp_path) is None
    assert compiled.state() == "stale"
    source.unlink()
    assert compiled.state() == "stale"
    monkeypatch.setattr(compiled, "WANTED", False)
    assert compiled.state() == "off"
