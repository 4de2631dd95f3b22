"""Loop: run steps again and again while a condition holds, up to a bound."""

from __future__ import annotations

from typing import Any

from bus.core.errors import StepFailed
from bus.core.expression import Expression
from bus.core.flow import run_flow
from bus.core.rounds import fold, resume, rounds
from bus.core.spec import Expr, Field, Integer, Record, Spec
from bus.core.work import Ended, Flow, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    condition: Expression = parsed["while"]
    most: int = parsed["max"]
    flow: Flow = parsed["flow"]
    if flow.to or not flow.steps:
        raise ValueError("a round is `steps`, and goes on to the next", "`steps`, with `to` after the loop")

    def step(work: Work) -> Ended | None:
        with rounds(work) as at:
            done = resume(work, at)
            while True:
                work.names["index"] = done
                if condition(work.names) is not True:
                    work.notes.append(f"loop: {done} rounds")
                    return None
                if done >= most:
                    raise StepFailed("internal", f"after {most} rounds `{condition.text}` still holds", code="loop")
                work.at = work.prefix = f"{at}[{done}]/"
                ended = run_flow(flow, work)
                if ended is not None:
                    return ended
                done += 1
                fold(work, at, done)

    return step


SPEC = Spec(
    kind="loop",
    pattern="Loop",
    summary="Runs its steps while the condition holds; `index` counts the rounds from 0. When it still holds after "
    "`max` rounds, the step fails with class `internal`: what is unfinished is not taken for finished.",
    shape=Record(
        {
            "while": Field(Expr("bool"), "CEL, asked before each round."),
            "max": Field(Integer(1), "Rounds at most."),
        },
        flow=True,
    ),
    build=build,
    memory=True,
    example="""\
loop:
  while: vars.?grade.text.orValue("poor") == "poor"
  max: 5
  steps:
  - call: {capability: grade, data: {text: "{{ data.text }}"}, into: vars.grade}
""",
)
