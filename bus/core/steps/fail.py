"""Fail on purpose, with a class that error rules select on and a reason for people."""

from __future__ import annotations

from typing import Any, cast

from bus.core.errors import FAILURE_CLASSES, FailureClass, StepFailed
from bus.core.expression import Leaf
from bus.core.spec import Choice, Field, Leaves, Record, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    failure = cast(FailureClass, parsed["class"])
    reason: Leaf = parsed["reason"]

    def step(work: Work) -> Ended | None:
        raise StepFailed(failure, str(reason(work.names)))

    return step


SPEC = Spec(
    kind="fail",
    pattern="Invalid Message Channel",
    summary="Fails the message with a class and a reason; `on_error` decides what follows.",
    shape=Record(
        {
            "class": Field(Choice(FAILURE_CLASSES), "The failure class."),
            "reason": Field(Leaves(), "One sentence for a person; may be `{{ CEL }}`."),
        }
    ),
    build=build,
    example='fail: {class: refusal, reason: "we do not trade in {{ data.currency }}"}',
)
