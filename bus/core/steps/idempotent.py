"""Idempotent Receiver: a message that says the same thing again goes no further."""

from __future__ import annotations

from typing import Any

from bus.core.expression import Expression
from bus.core.spec import Duration, Expr, Field, Record, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    by: Expression = parsed["by"]
    window_s: float = parsed["window"]

    def step(work: Work) -> Ended | None:
        memory, at = work.remembering, work.at
        if not memory.first(f"{at}#seen"):
            return None
        key = memory.key(at, by(work.names))
        cell = memory.cell(key)
        if cell and cell["run"] != work.run and cell["until"] > memory.now_s:
            return Ended("filtered", "duplicate")
        cell.update({"run": work.run, "until": memory.now_s + window_s})
        memory.claim(key)
        return None

    return step


SPEC = Spec(
    kind="idempotent",
    pattern="Idempotent Receiver",
    summary="Ends a message as filtered, reason `duplicate`, when one with the same key has come within the "
    "window. One that has failed counts as not come, so that it can be sent again. What has come is known per "
    "`serial_by` key of the route, or, with a `by` that reads `msg.conversationid`, per conversation.",
    shape=Record(
        {
            "by": Field(Expr(), "CEL giving the key."),
            "window": Field(Duration(), "How long a key is remembered."),
        }
    ),
    build=build,
    memory=True,
    example="idempotent: {by: msg.conversationid + data.id, window: 7d}",
)
