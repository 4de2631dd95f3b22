"""Findings as data: a short row for logs and memories, a mapping for those who are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from bus.core.errors import Finding
from bus.core.message import Json


def row(finding: Finding) -> list[Json]:
    """Write a finding as a list, as short as it can be."""
    short: list[Json] = [finding.pointer, finding.expected, finding.got]
    return [*short, finding.excerpt, list(finding.alternatives)] if finding.excerpt or finding.alternatives else short


def read(found: Sequence[Any]) -> Finding:
    """Read what `row` wrote.

    Raises:
        ValueError: it is something else.
    """
    if len(found) not in (3, 5):
        raise ValueError("not a finding")
    pointer, expected, got = found[:3]
    excerpt, alternatives = found[3:] if len(found) == 5 else ("", ())
    finding = Finding(pointer, expected, got, excerpt, tuple(alternatives))
    if not all(isinstance(each, str) for each in (pointer, expected, got, excerpt, *finding.alternatives)):
        raise ValueError("not a finding")
    return finding


def as_data(finding: Finding) -> dict[str, Json]:
    """Tell a finding: `pointer`, `expected`, `got`; `excerpt` and `alternatives` where there are some."""
    told: dict[str, Json] = {"pointer": finding.pointer, "expected": finding.expected, "got": finding.got}
    if finding.excerpt:
        told["excerpt"] = orjson.loads(finding.excerpt)
    if finding.alternatives:
        told["alternatives"] = list(finding.alternatives)
    return told
