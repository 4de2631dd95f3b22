"""The express lane's engine (`bus/express`), where it is installed: `deploy/express` builds it."""

from __future__ import annotations

import importlib
from types import ModuleType

from bus.compiled import is_compiled

_NAME = "agentbus_express"


def _load() -> ModuleType | None:
    # One that lies elsewhere, from an earlier build, would decide by the rules of its time.
    return importlib.import_module(_NAME) if is_compiled(_NAME) else None


ENGINE = _load()
