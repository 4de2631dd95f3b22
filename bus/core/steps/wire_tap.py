"""Wire Tap: send a copy elsewhere; its failure never touches the message."""

from __future__ import annotations

from bus.core.dispatch import dispatch, name_of
from bus.core.errors import ExpressionFailed, StepFailed
from bus.core.spec import Spec, TargetShape
from bus.core.work import Ended, Step, Target, Work


def build(target: Target) -> Step:
    if target.kind == "reply":
        raise ValueError("a tap cannot reply", "an agent, capability or event")

    def step(work: Work) -> Ended | None:
        try:
            made = dispatch(target, work, answerable=False)
            work.send(made)
            work.notes.append(f"wire_tap {name_of(made.target)}")
        except (StepFailed, ExpressionFailed) as error:
            work.notes.append(f"wire_tap {name_of(target)}: no copy ({error})")
        return None

    return step


SPEC = Spec(
    kind="wire_tap",
    pattern="Wire Tap",
    summary="Sends a copy to a target and goes on; a tap that fails is noted in the trace and changes nothing else.",
    shape=TargetShape(),
    build=build,
    example="wire_tap: {event: payment.seen}",
)
