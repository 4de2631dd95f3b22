"""Throttler: let so many messages go on in a time; the others wait, and none is dropped."""

from __future__ import annotations

from typing import Any, cast

from bus.core.errors import StepFailed
from bus.core.expression import Expression
from bus.core.spec import Expr, Field, Rate, Record, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    apart_s = 1 / parsed["rate"]
    by: Expression | None = parsed.get("by")

    def step(work: Work) -> Ended | None:
        memory, at = work.remembering, work.at
        slot = cast("float | None", memory.known(f"{at}#slot"))
        if slot is None:
            cell = memory.cell(memory.key(at, None if by is None else by(work.names)))
            slot = float(max(memory.now_s, cell.get("free", 0.0)))
            if memory.deadline_s is not None and slot > memory.deadline_s:
                # Nor does it take a slot: those who can still go on in time would wait for nobody.
                raise StepFailed("timeout", "it would have to wait until after its deadline")
            cell["free"] = cell["until"] = slot + apart_s
            memory.keep(f"{at}#slot", slot)
        memory.wait(at, slot)
        work.notes.append("throttle: goes on")
        return None

    return step


SPEC = Spec(
    kind="throttle",
    pattern="Throttler",
    summary="Lets messages go on evenly spaced, in the order in which they came; the others wait, and none is "
    "dropped. The rate is that of the whole route, or of each value of `by`: all its messages are decided in "
    "one partition. In a route with `serial_by` it is that of each of its keys. Who would wait until after its "
    "deadline fails at once with class `timeout`.",
    shape=Record(
        {
            "rate": Field(Rate(), "How many in a time: `20/s`, `100/m`, `5/h`."),
            "by": Field(Expr(), "CEL giving a key, each of which has the rate.", required=False),
        }
    ),
    build=build,
    memory=True,
    homed=True,
    example="throttle: {rate: 20/s}",
)
