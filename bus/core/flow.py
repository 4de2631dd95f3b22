"""Running a flow: steps in order, then its targets; an error goes to the first rule that fits it.

The pipeline is a list and a loop. Rules are looked up in the order step, route, integration; `FLOW` and `continue`
resume after the failed step, the other words end the route. What a failed step had already asked to send is not sent.
"""

from __future__ import annotations

from bus.core.actions import Failure
from bus.core.dispatch import dispatch, name_of
from bus.core.errors import ExpressionFailed, StepFailed
from bus.core.message import Json
from bus.core.work import Ended, Flow, OnError, Placed, Work


class RouteFailed(Exception):
    """A failure that no rule resumed from, on its way to the pipeline.

    Args:
        then: where the message goes: `dead_letter`, `invalid` or `reply`.
        by_rule: a rule said so; without one a step around the failed one may still ask its own rules.
    """

    def __init__(self, failure: Failure, then: str, *, by_rule: bool = False) -> None:
        super().__init__(failure.reason)
        self.failure = failure
        self.then = then
        self.by_rule = by_rule


def run_flow(flow: Flow, work: Work) -> Ended | None:
    """Run the steps, then send to the targets.

    Returns:
        How the route ended, or None when the enclosing flow goes on.

    Raises:
        RouteFailed: a step failed and no rule resumed.
    """
    for placed in flow.steps:
        mark = len(work.sent)
        try:
            if placed.when is not None and placed.when(work.names) is not True:
                work.notes.append(f"{placed.id}: skipped")
                continue
            ended = placed.run(work)
        except (StepFailed, ExpressionFailed) as error:
            del work.sent[mark:]
            ended = _recover(placed, _failure(placed.id, error), work)
        if ended is not None:
            return ended
    return _send(flow, work) if flow.to else None


def run_within(flow: Flow, work: Work) -> Ended | None:
    """Run a flow as one step of the route: what its own rules do not resume from is a failure of that step.

    Raises:
        StepFailed: no rule in the flow fits a failure.
        RouteFailed: a rule in the flow ended the route.
    """
    rules, work.rules = work.rules, ()
    try:
        return run_flow(flow, work)
    except RouteFailed as failed:
        if failed.by_rule:
            raise
        failure = failed.failure
        raise StepFailed(failure.failure, f"{failure.step}: {failure.reason}", failure.findings) from failed
    finally:
        work.rules = rules


def _send(flow: Flow, work: Work) -> Ended | None:
    mark = len(work.sent)
    try:
        for target in flow.to:
            # One final answer per asker: the address goes with the one non-event, else with an event that a route
            # goes on with.
            answerable = target.kind != "event" or (target.to_route and all(each.kind == "event" for each in flow.to))
            made = dispatch(target, work, answerable=answerable)
            work.sent.append(made)
            work.notes.append(f"to {name_of(made.target)}")
    except (StepFailed, ExpressionFailed) as error:
        del work.sent[mark:]
        ended = _recover(Placed("to", "to", lambda _: None), _failure("to", error), work)
        return ended or Ended("sent")
    return Ended("sent")


def _failure(step: str, error: StepFailed | ExpressionFailed) -> Failure:
    if isinstance(error, StepFailed):
        code = "contract" if error.failure == "contract" else error.failure
        return Failure(error.failure, code, error.reason, step=step, findings=error.findings)
    return Failure("internal", "expression", f"step {step}: {error}", step=step)


def _recover(placed: Placed, failure: Failure, work: Work) -> Ended | None:
    work.notes.append(f"{placed.id}: failed ({failure.failure}: {failure.reason})")
    work.names["error"] = as_data(failure)
    rule = _rule(placed.on_error + work.rules, failure, work)
    if rule is None:
        raise RouteFailed(failure, "invalid" if failure.failure == "contract" else "dead_letter")
    if isinstance(rule.then, Flow):
        work.notes.append(f"{placed.id}: on_error flow")
        # The rules of the flow's own steps apply inside it; the route's do not, or a failing handler would loop.
        rules, work.rules = work.rules, ()
        try:
            return run_flow(rule.then, work)
        finally:
            work.rules = rules
    if rule.then == "continue":
        return None
    raise RouteFailed(failure, rule.then, by_rule=True)


def _rule(rules: tuple[OnError, ...], failure: Failure, work: Work) -> OnError | None:
    for rule in rules:
        if rule.classes and failure.failure not in rule.classes:
            continue
        try:
            if rule.when is None or rule.when(work.names) is True:
                return rule
        except ExpressionFailed as error:
            work.notes.append(f"on_error when: {error}")
    return None


def as_data(failure: Failure) -> dict[str, Json]:
    """The failure as routes read it under `error` and agents receive it in `bus.failed`."""
    data: dict[str, Json] = {"class": failure.failure, "code": failure.code, "reason": failure.reason}
    if failure.step is not None:
        data["step"] = failure.step
    if failure.agent is not None:
        data["agent"] = failure.agent
    data["findings"] = [{"pointer": f.pointer, "expected": f.expected, "got": f.got} for f in failure.findings]
    return data
