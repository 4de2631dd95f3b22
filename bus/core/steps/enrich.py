"""Content Enricher: add what a file of the integration knows under a key of the message."""

from __future__ import annotations

from typing import Any

from bus.core.errors import StepFailed
from bus.core.expression import Expression, Path, Table
from bus.core.paths import put
from bus.core.spec import Expr, Field, PathTo, Record, Spec, TableFile
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    table: Table = parsed["from"]
    key: Expression = parsed["key"]
    into: Path = parsed["into"]

    def step(work: Work) -> Ended | None:
        value = key(work.names)
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise StepFailed("internal", f"`key` gives neither a text nor a whole number: {key.text}")
        found = table.find(str(value))
        put(work.names, into, found)
        work.notes.append(f"enrich from {table.name}" + ("" if found is not None else ": no such key"))
        return None

    return step


SPEC = Spec(
    kind="enrich",
    pattern="Content Enricher",
    summary="Looks a key up in a file of the integration and writes what it finds to `into`; null when the key is not "
    "there. The file is a JSON object, looked up by its keys, or a CSV file with a line of column names, looked up by "
    "its first column, whose cells are texts. It has at most 4 MiB, is read when the configuration is loaded, and "
    "belongs to it: another file is another version.",
    shape=Record(
        {
            "from": Field(TableFile(), "A `*.json` or `*.csv` file in the integration's folder."),
            "key": Field(Expr(), "CEL giving the key, a text or a whole number."),
            "into": Field(PathTo(), "Where the row goes, e.g. `vars.customer`."),
        }
    ),
    build=build,
    example="enrich: {from: customers.csv, key: data.id, into: vars.customer}",
    writes=lambda parsed: (parsed["into"],),
)
