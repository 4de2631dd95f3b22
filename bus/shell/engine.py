"""The express lane's engine (`bus/express`), where it is installed: `deploy/express` builds it."""

from __future__ import annotations

import importlib
from types import ModuleType

from bus.compiled import WANTED


def _load() -> ModuleType | None:
    if not WANTED:
        return None
    try:
        return importlib.import_module("agentbus_express")
    except ImportError:
        return None


ENGINE = _load()
