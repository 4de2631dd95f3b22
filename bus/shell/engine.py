"""The express lane's engine (`bus/express`), where it is installed: `deploy/express` builds it."""

from __future__ import annotations

import importlib
from types import ModuleType


def _load() -> ModuleType | None:
    try:
        return importlib.import_module("agentbus_express")
    except ImportError:
        return None


ENGINE = _load()
