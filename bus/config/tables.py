"""Tables that `enrich` looks things up in: a JSON object by its keys, or a CSV file by its first column.

They are read and bounded when the configuration is loaded, so that no message waits for a disk.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from bus.config.problem import Found, Problem, stop
from bus.config.types import ANY, NULL, STRING, Object, Type, union
from bus.core import strict_json
from bus.core.errors import Refused
from bus.core.facts import Limits
from bus.core.message import Json

MAX_TABLE_BYTES = 4 * 1024 * 1024
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A table; it is a `bus.core.expression.Table`.

    Args:
        name: the file's path below its folder.
        rows: by key.
        type: static type of what a look-up gives: a row, or null.
    """

    name: str
    rows: dict[str, Json]
    type: Type

    def find(self, key: str) -> Json:
        """The row with a key; null when there is none."""
        return self.rows.get(key)


def load_table(name: str, data: bytes) -> LoadedTable | tuple[Problem, ...]:
    """Read a table.

    Args:
        name: the file's path below its folder; its suffix says what it is.
        data: its bytes.

    Returns:
        The table, or its problems, with the code `bad-table`.
    """
    try:
        if len(data) > MAX_TABLE_BYTES:
            mib = MAX_TABLE_BYTES // 1024**2
            stop(0, "bad-table", f"the table has more than {mib} MiB", "a smaller one, or ask an agent")
        return _csv(name, _text(data)) if Path(name).suffix == ".csv" else _json(name, data)
    except Found as found:
        return found.problems


def _json(name: str, data: bytes) -> LoadedTable:
    try:
        value = strict_json.parse(data.removeprefix(b"\xef\xbb\xbf"), Limits(body_bytes=MAX_TABLE_BYTES))
    except Refused as refused:
        stop(0, "bad-table", refused.reason, "strict JSON")
    if not isinstance(value, dict):
        stop(0, "bad-table", "the table is no JSON object", '`{"KEY": ROW, ...}`')
    return LoadedTable(name, value, ANY)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        stop(0, "bad-table", f"byte {error.start} is not valid UTF-8", "the file in UTF-8")


def _csv(name: str, text: str) -> LoadedTable:
    lines = list(StringIO(text, newline=""))  # not splitlines(): U+2028 may stand in a cell
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    reader = csv.reader(lines, strict=True)
    columns: list[str] | None = None
    rows: dict[str, Json] = {}
    at = 0
    try:
        for cells in reader:
            offset, at = starts[at], reader.line_num
            if columns is None:
                columns = _columns(cells, offset)
            elif cells:
                if len(cells) != len(columns):
                    stop(offset, "bad-table", f"{len(cells)} cells under {len(columns)} columns", "one for each")
                if cells[0] in rows:
                    stop(offset, "bad-table", f"the key `{cells[0][:60]}` is there twice", "each key once")
                rows[cells[0]] = dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        stop(starts[min(at, len(lines))], "bad-table", f"this is no CSV: {error}", "cells in double quotes")
    if columns is None:
        stop(0, "bad-table", "the table is empty", "a line with the names of its columns")
    row = Object(dict.fromkeys(columns, STRING), frozenset(columns), exact=True, name=name)
    return LoadedTable(name, rows, union((row, NULL)))


def _columns(cells: list[str], offset: int) -> list[str]:
    for cell in cells:
        if not _COLUMN.fullmatch(cell):
            stop(offset, "bad-table", f"`{cell[:60]}` is no name of a column", "letters, digits and `_`")
    if len(set(cells)) < len(cells):
        stop(offset, "bad-table", "two columns have one name", "each name once")
    return cells
