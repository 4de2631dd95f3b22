"""Message Filter: let a message pass only when a condition holds."""

from __future__ import annotations

from bus.core.expression import Expression
from bus.core.plain import Form, form_of, meaning
from bus.core.spec import Expr, Spec
from bus.core.work import Ended, Step, Work


def build(condition: Expression) -> Step:
    def step(work: Work) -> Ended | None:
        if condition(work.names) is True:
            return None
        work.notes.append(f"filter: {condition.text} is false")
        return Ended("filtered", f"filter: {condition.text} is false")

    form = form_of(condition)
    said: Form | None = (
        None if form is None else {"kind": "filter", "condition": form, "reason": f"filter: {condition.text} is false"}
    )
    return meaning(step, said)


SPEC = Spec(
    kind="filter",
    pattern="Message Filter",
    summary="Lets the message pass only when the condition is true; otherwise it ends here, with reason `filtered`.",
    shape=Expr("bool"),
    build=build,
    example="filter: data.amount > 0",
)
