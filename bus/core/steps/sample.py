"""Sampling: let a stable share of the messages pass."""

from __future__ import annotations

from typing import Any

from bus.core.expression import Expression
from bus.core.shares import key_of, place
from bus.core.spec import Expr, Field, Number, Record, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    percent: float = parsed["percent"]
    by: Expression | None = parsed.get("by")

    def step(work: Work) -> Ended | None:
        passes = place(key_of(by, work)) * 100 <= percent
        work.notes.append(f"sample: {'' if passes else 'not '}among the {percent:g} %")
        return None if passes else Ended("filtered", work.notes[-1])

    return step


SPEC = Spec(
    kind="sample",
    pattern="Sampling",
    summary="Lets this share of the messages pass, and ends the others with reason `filtered`. A key always gets the "
    "same verdict, and what passes at one percentage passes at every higher one.",
    shape=Record(
        {
            "percent": Field(Number(0, 100), "How many of a hundred pass, on average."),
            "by": Field(Expr(), "CEL giving the key; without it the message's id.", required=False),
        }
    ),
    build=build,
    example="sample: {percent: 100, by: data.id}",
)
