"""Content Filter: keep only the named fields."""

from __future__ import annotations

from bus.core.expression import Path
from bus.core.message import Json
from bus.core.paths import find, put
from bus.core.spec import ListOf, PathTo, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: tuple[Path, ...]) -> Step:
    for path in parsed:
        if path[0] != "data" or len(path) < 2:
            raise ValueError(f"`{'.'.join(path)}` cannot be kept", "a field of the payload, such as `data.text`")

    def step(work: Work) -> Ended | None:
        kept: dict[str, Json] = {"data": {}}
        for path in parsed:
            found, value = find(work.names, path)
            if found:
                put(kept, path, value)
        work.names["data"] = kept["data"]
        work.notes.append(f"keep {len(parsed)} fields")
        return None

    return step


SPEC = Spec(
    kind="keep",
    pattern="Content Filter",
    summary="Keeps only these fields of the payload; a field that is absent stays absent.",
    shape=ListOf(PathTo()),
    build=build,
    example="keep: [data.id, data.text]",
)
