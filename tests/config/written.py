"""Integrations written in a test: one file each for the integration, its agents and its routes."""

from __future__ import annotations

from pathlib import Path

from bus.config import Loaded, load
from bus.core.registry import STEPS
from bus.core.route import Catalog
from bus.core.table import RouteTable


def written(folder: Path, **files: str) -> Loaded:
    """Load an integration of these YAML files, named without their suffix; `x__csv` is `x.csv`."""
    root = folder / "shop"
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        stem, _, suffix = name.partition("__")
        (root / f"{stem}.{suffix or 'yaml'}").write_text(text)
    return load([root], {}, STEPS)


def sound(folder: Path, **files: str) -> Catalog:
    """The catalog of an integration without findings."""
    loaded = written(folder, **files)
    assert not loaded.findings, "\n".join(map(str, loaded.findings))
    assert loaded.catalog is not None
    return loaded.catalog


def table(folder: Path, **files: str) -> RouteTable:
    return RouteTable(sound(folder, **files))
