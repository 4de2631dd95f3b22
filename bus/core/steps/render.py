"""Message Translator for documents: render a Jinja2 file (a prompt, a mail, a report) into the message."""

from __future__ import annotations

from typing import Any

from bus.core.expression import Document, Path
from bus.core.paths import put
from bus.core.spec import Field, PathTo, Record, Spec, TemplateFile
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    document: Document = parsed["template"]
    into: Path = parsed["into"]

    def step(work: Work) -> Ended | None:
        put(work.names, into, document.render(work.names))
        work.notes.append(f"render {document.name}")
        return None

    return step


SPEC = Spec(
    kind="render",
    pattern="Message Translator",
    summary="Renders a sandboxed Jinja2 file from the integration's folder and writes the text to `into`.",
    shape=Record(
        {
            "template": Field(TemplateFile(), "A `*.j2` file in the integration's folder."),
            "into": Field(PathTo(), "Where the text goes, e.g. `vars.prompt`."),
        }
    ),
    build=build,
    example="render: {template: prompt.j2, into: vars.prompt}",
    writes=lambda parsed: (parsed["into"],),
)
