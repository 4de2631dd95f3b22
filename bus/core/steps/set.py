"""Content Enricher, from what the message and the configuration already hold: write values at paths."""

from __future__ import annotations

from bus.core.expression import Leaf, Path
from bus.core.paths import put
from bus.core.spec import Leaves, MapOf, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: dict[Path, Leaf]) -> Step:
    writes = tuple(parsed.items())

    def step(work: Work) -> Ended | None:
        for path, leaf in writes:
            put(work.names, path, leaf(work.names))
        work.notes.append("set " + ", ".join(".".join(path) for path, _ in writes))
        return None

    return step


SPEC = Spec(
    kind="set",
    pattern="Content Enricher",
    summary="Writes values at paths of `data` or `vars`, in file order; later ones see earlier ones.",
    shape=MapOf(Leaves(), keys="path"),
    build=build,
    example='set: {vars.channel: web, data.text: "{{ data.text.trim() }}"}',
    writes=lambda parsed: tuple(parsed),
)
