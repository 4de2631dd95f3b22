"""Content-Based Router: the first case whose condition holds takes the message."""

from __future__ import annotations

from typing import Any

from bus.core.flow import run_flow
from bus.core.spec import Expr, Field, FlowShape, ListOf, Record, Spec
from bus.core.work import Ended, Flow, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    cases = tuple((case["when"], case["flow"]) for case in parsed["cases"])
    otherwise: Flow | None = parsed.get("otherwise")

    def step(work: Work) -> Ended | None:
        for condition, flow in cases:
            if condition(work.names) is True:
                work.notes.append(f"choose: {condition.text}")
                return run_flow(flow, work)
        work.notes.append("choose: otherwise")
        return run_flow(otherwise, work) if otherwise is not None else None

    return step


SPEC = Spec(
    kind="choose",
    pattern="Content-Based Router",
    summary="Runs the first case whose `when` is true, else `otherwise`; a case without `to` goes on after the step.",
    shape=Record(
        {
            "cases": Field(
                ListOf(Record({"when": Field(Expr("bool"), "The condition of this case.")}, flow=True)),
                "The cases, tried in order.",
            ),
            "otherwise": Field(FlowShape(), "What happens when no case fits.", required=False),
        }
    ),
    build=build,
    example="""\
choose:
  cases:
  - when: data.amount > 1000
    to: {event: payment.large}
  otherwise:
    to: {event: payment.small}
""",
)
