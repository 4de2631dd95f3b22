"""Times as the wire writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(epoch_s: float) -> str:
    """Format epoch seconds as RFC 3339 in UTC with milliseconds, e.g. `2026-05-01T12:00:00.250Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
