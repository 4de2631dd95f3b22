"""Agents of an integration are programs: their folder is where they import from, as when the host starts them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "routes" / "customer_service"))
