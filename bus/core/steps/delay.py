"""Delayer: hold the message for a while, or until a time that it names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bus.core.errors import StepFailed
from bus.core.message import Json
from bus.core.spec import Duration, Expr, Field, Record, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    seconds, until = parsed.get("for"), parsed.get("until")
    if (seconds is None) == (until is None):
        raise ValueError("it needs one of `for` and `until`", "`delay: {for: 10s}`")

    def step(work: Work) -> Ended | None:
        if seconds is not None:
            work.remembering.sleep(work.at, seconds)
        elif until is not None:
            work.remembering.wait(work.at, _epoch(until(work.names), until.text))
        work.notes.append("delay: over")
        return None

    return step


def _epoch(value: Json, text: str) -> float:
    """Epoch seconds of an RFC 3339 time, or of a number that is them already."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise StepFailed("internal", f"`until` gives no time: {text}") from error
    return time.replace(tzinfo=time.tzinfo or UTC).timestamp()


SPEC = Spec(
    kind="delay",
    pattern="Delayer",
    summary="Holds the message for a while, or until a time; one in the past does not hold it.",
    shape=Record(
        {
            "for": Field(Duration(), "How long.", required=False),
            "until": Field(Expr("any"), "CEL giving an RFC 3339 time, or epoch seconds.", required=False),
        }
    ),
    build=build,
    memory=True,
    example="delay: {for: 10s}",
)
