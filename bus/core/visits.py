"""Visits: agents that a message or another agent names, out of those that the file allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from bus.core.work import Target

Allowed: TypeAlias = Mapping[str, tuple[Target, float | None]]
"""Targets by name, each with the seconds that one call of it may take, or None."""


def allowed(parsed: Sequence[dict[str, Any]]) -> Allowed:
    """The targets of an `allow` whose items are targets with a `timeout`.

    Raises:
        ValueError: one gives no answer, or a name is there twice.
    """
    found: dict[str, tuple[Target, float | None]] = {}
    for each in parsed:
        target: Target = each["target"]
        if target.kind not in ("agent", "capability"):
            raise ValueError(f"`{target.kind}` gives no answer", "`capability: ...` or `agent: ...`")
        if target.name in found:
            raise ValueError(f"`{target.name}` is in `allow` twice", "each name once")
        found[target.name] = target, each.get("timeout")
    return found
