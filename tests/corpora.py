"""Where the public test corpora are: beside the checkout, never inside of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def corpus(name: str) -> Path:
    """Return a corpus folder; skips the test where the corpora are absent, and fails it in CI."""
    folder = ROOT.parent / "shared" / "data" / "corpora" / name
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"corpus {name} is absent in CI: {folder}")
        pytest.skip(f"corpus {name} is not here; it stands in ../shared/data/corpora")
    return folder
