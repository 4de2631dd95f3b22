"""Content Filter: remove the named fields."""

from __future__ import annotations

from bus.core.expression import Path
from bus.core.paths import drop
from bus.core.spec import ListOf, PathTo, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: tuple[Path, ...]) -> Step:
    def step(work: Work) -> Ended | None:
        for path in parsed:
            drop(work.names, path)
        work.notes.append("remove " + ", ".join(".".join(path) for path in parsed))
        return None

    return step


SPEC = Spec(
    kind="remove",
    pattern="Content Filter",
    summary="Removes these fields from `data` or `vars`; what is absent already is no error.",
    shape=ListOf(PathTo()),
    build=build,
    example="remove: [data.internal_notes]",
)
