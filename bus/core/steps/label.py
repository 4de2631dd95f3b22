"""Security labels: say what a message holds, so that only agents which may have it get it."""

from __future__ import annotations

from typing import Any

from bus.core.errors import StepFailed
from bus.core.labels import names_of, text_of
from bus.core.spec import Field, ListOf, Record, Spec, Text
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    add: tuple[str, ...] = parsed.get("add", ())
    remove: tuple[str, ...] = parsed.get("remove", ())
    if not add and not remove:
        raise ValueError("it changes nothing", "`add: [...]` or `remove: [...]`")
    text_of((*add, *remove))
    for label in add:
        if label in remove:
            raise ValueError(f"`{label}` is added and removed", "one of both")

    def step(work: Work) -> Ended | None:
        labels = {*names_of(work.label_text), *add}.difference(remove)
        try:
            work.labels = text_of(labels)
        except ValueError as error:
            raise StepFailed("refusal", str(error)) from error
        work.show_labels()
        work.notes.append(f"label {work.labels or 'none'}")
        return None

    return step


SPEC = Spec(
    kind="label",
    pattern="Security Labels",
    summary="Adds labels to the message and removes them. They stay with all that is made of it, through agents and "
    "answers, too. What a label requires of an agent is declared under `labels` in the integration document.",
    shape=Record(
        {
            "add": Field(ListOf(Text()), "Declared labels that the message gets.", required=False),
            "remove": Field(ListOf(Text()), "Labels that it loses.", required=False),
        }
    ),
    build=build,
    example="label: {add: [personal]}",
)
