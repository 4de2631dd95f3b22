"""What the tests of routes with memory share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.run_world import RunWorld, catalog


@pytest.fixture
def world(tmp_path: Path) -> Callable[[str], RunWorld]:
    """Makes a bus of one partition that runs these routes."""
    return lambda routes: RunWorld(catalog(tmp_path, routes))
