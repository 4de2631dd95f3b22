"""The inquiries of a job: rows of a CSV file or objects of a JSON Lines file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bus.core.errors import BusError


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One inquiry.

    Args:
        row: its number in the file, from 1, the header not counted.
        category: the right intent, where the file knows it.
    """

    row: int
    text: str
    category: str | None = None


JSON_LINES = (".jsonl", ".ndjson")
"""Endings of files that hold an object per line; any other file is CSV."""


def read_inquiries(path: Path) -> list[Inquiry]:
    """Read the inquiries of a file.

    Args:
        path: CSV with a column `text`, or JSON Lines (`*.jsonl`, `*.ndjson`) whose objects have `text`; both may have
            `category`.

    Raises:
        BusError: the file cannot be read as such, or is empty.
    """
    try:
        rows = _json_lines(path) if path.suffix in JSON_LINES else _csv(path)
        found = list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BusError(f"cannot read {path}: {error}; write a CSV file with a column `text`, or JSON Lines") from error
    if not found:
        raise BusError(f"{path} has no inquiries; write at least one row below the header `text`")
    return found


def _csv(path: Path) -> Iterator[Inquiry]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if "text" not in (rows.fieldnames or ()):
            raise BusError(f"{path} has no column `text` in its first line; write `text` or `text,category` there")
        for number, row in enumerate(rows, 1):
            yield Inquiry(number, row["text"] or "", row.get("category") or None)


def _json_lines(path: Path) -> Iterator[Inquiry]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate((line for line in file if line.strip()), 1):
            try:
                value = json.loads(line)
            except ValueError as error:
                raise BusError(f"{path}, object {number} is not JSON: {error}") from error
            if not isinstance(value, dict) or not isinstance(value.get("text"), str):
                raise BusError(f'{path}, object {number} has no `text`; write {{"text": "..."}} on each line')
            category = value.get("category")
            yield Inquiry(number, value["text"], category if isinstance(category, str) else None)
