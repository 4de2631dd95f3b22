"""Running a flow: steps in order, then its targets; an error goes to the first rule that fits it.

The pipeline is a list and a loop. Rules are looked up in the order step, route, integration; a rule may have the step
tried again first; then `FLOW` and `continue` resume after the failed step, the other words end the route. What a failed
step had already asked to send is not sent, unless it was sent in an earlier turn of a flow with memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from bus.core import findings
from bus.core.actions import Failure
from bus.core.dispatch import dispatch, name_of
from bus.core.errors import ExpressionFailed, StepFailed
from bus.core.instance import failed, failure_of
from bus.core.message import Json
from bus.core.work import Ended, Flow, OnError, Placed, Work


class RouteFailed(Exception):
    """A failure that no rule resumed from, on its way to the pipeline, or to a step around whose rules fit it.

    Args:
        then: where the message goes: `dead_letter`, `invalid` or `reply`.
        ruled: an error rule has said so, and no other one is asked.
    """

    def __init__(self, failure: Failure, then: str, *, ruled: bool = False) -> None:
        super().__init__(failure.reason)
        self.failure = failure
        self.then = then
        self.ruled = ruled


def run_flow(flow: Flow, work: Work) -> Ended | None:
    """Run the steps, then send to the targets.

    Returns:
        How the route ended, or None when the enclosing flow goes on.

    Raises:
        RouteFailed: a step failed and no rule resumed.
        Suspended: a step waits.
    """
    if work.memory is not None:
        return _run_with_memory(flow, work)
    for placed in flow.steps:
        mark = len(work.sent)
        try:
            if placed.when is not None and placed.when(work.names) is not True:
                work.notes.append(f"{placed.id}: skipped")
                continue
            ended = _run(placed, work) if placed.on_error else placed.run(work)
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
        Suspended: a step waits.
    """
    kept = work.rules, work.around
    work.rules, work.around = (), ()
    try:
        return run_flow(flow, work)
    except RouteFailed as inner:
        if inner.ruled:
            raise
        raise step_failed(replace(inner.failure, reason=f"{inner.failure.step}: {inner.failure.reason}")) from inner
    finally:
        work.rules, work.around = kept


def _run(placed: Placed, work: Work) -> Ended | None:
    """Run a step that has rules of its own: they come before the route's for what fails inside of it, too."""
    around = work.around
    work.around = (*around, placed.on_error)
    try:
        return placed.run(work)
    except RouteFailed as inner:
        if inner.ruled or _rule(placed.on_error, inner.failure, work) is None:
            raise
        raise step_failed(inner.failure) from inner
    finally:
        work.around = around


def _run_with_memory(flow: Flow, work: Work) -> Ended | None:
    """The same for a flow that may come by here again: see bus.core.instance."""
    around, prefix = work.at, work.prefix
    if around and not around.endswith("/"):
        work.prefix = f"{around}/"  # inside of a step, whose other attempts are other paths
    try:
        for placed in flow.steps:
            ended = _try(placed, work)
            if ended is not None:
                return ended
        work.at = f"{work.prefix}to"
        return _send(flow, work) if flow.to else None
    finally:
        work.at, work.prefix = around, prefix


def _try(placed: Placed, work: Work) -> Ended | None:
    """Run a step, and again while a rule says so."""
    attempt = 1
    before = dict(work.names), work.labels
    while True:
        work.begin(placed.id if attempt == 1 else f"{placed.id}@{attempt}")
        at, mark = work.at, len(work.sent)
        failure = _known_failure(placed, work)
        if failure is None:
            try:
                if placed.when is not None and placed.when(work.names) is not True:
                    work.notes.append(f"{placed.id}: skipped")
                    return None
                return _run(placed, work) if placed.on_error else placed.run(work)
            except (StepFailed, ExpressionFailed) as error:
                del work.sent[mark:]
                failure = _failure(placed.id, error)
                work.remembering.close(at)
                work.remembering.keep(f"{at}#failed", failed(failure, work.remembering.now_s))
                work.names, work.labels = dict(before[0]), before[1]  # as they are when the flow comes by here again
        if not _again(placed, failure, attempt, at, work):
            work.at = f"{at}!"  # what a handler's flow does is no part of what has failed
            return _recover(placed, failure, work)
        attempt += 1


def _again(placed: Placed, failure: Failure, attempt: int, at: str, work: Work) -> bool:
    """Whether a failed step is tried again; the pause before that has passed then.

    Raises:
        Suspended: it has not.
    """
    work.names["error"] = {**as_data(failure), "attempt": attempt}
    rule = _rule(_rules(placed, failure, work), failure, work)
    if rule is None or rule.retry is None or attempt >= rule.retry.attempts:
        return False
    work.notes.append(f"{placed.id}: attempt {attempt} failed ({failure.failure}: {failure.reason})")
    try:
        work.remembering.sleep(f"{at}#pause", rule.retry.pause_s(attempt, f"{work.run}\0{at}"))
    except StepFailed as late:
        work.notes.append(f"{placed.id}: not tried again: {late}")
        return False
    return True


def _known_failure(placed: Placed, work: Work) -> Failure | None:
    """How this attempt failed in an earlier turn, or None."""
    known = cast("dict[str, Any] | None", work.remembering.known(f"{work.at}#failed"))
    return None if known is None else replace(failure_of(known["no"]), step=placed.id)


def _send(flow: Flow, work: Work) -> Ended | None:
    mark = len(work.sent)
    try:
        for target in flow.to:
            # One final answer per asker: the address goes with the one non-event, else with an event that a route
            # goes on with.
            answerable = target.kind != "event" or (target.to_route and all(each.kind == "event" for each in flow.to))
            made = dispatch(target, work, answerable=answerable)
            work.send(made)
            work.notes.append(f"to {name_of(made.target)}")
    except (StepFailed, ExpressionFailed) as error:
        del work.sent[mark:]
        ended = _recover(Placed("to", "to", lambda _: None), _failure("to", error), work)
        return ended or Ended("sent")
    return Ended("sent")


def _failure(step: str, error: StepFailed | ExpressionFailed) -> Failure:
    if isinstance(error, StepFailed):
        return Failure(error.failure, error.code, error.reason, step=step, agent=error.agent, findings=error.findings)
    return Failure("internal", "expression", f"step {step}: {error}", step=step)


def step_failed(failure: Failure) -> StepFailed:
    """A failure as what a step raises."""
    return StepFailed(failure.failure, failure.reason, failure.findings, code=failure.code, agent=failure.agent)


def _recover(placed: Placed, failure: Failure, work: Work) -> Ended | None:
    work.notes.append(f"{placed.id}: failed ({failure.failure}: {failure.reason})")
    if work.memory is None:
        work.names["error"] = as_data(failure)
    rule = _rule(_rules(placed, failure, work), failure, work)
    if rule is None:
        raise RouteFailed(failure, "invalid" if failure.failure == "contract" else "dead_letter")
    if isinstance(rule.then, Flow):
        work.notes.append(f"{placed.id}: on_error flow")
        # The rules of the flow's own steps apply inside it; others do not, or a failing handler would loop.
        rules, work.rules, around, work.around = work.rules, (), work.around, ()
        try:
            return run_flow(rule.then, work)
        finally:
            work.rules, work.around = rules, around
    if rule.then == "continue":
        return None
    raise RouteFailed(failure, rule.then, ruled=True)


def _rules(placed: Placed, failure: Failure, work: Work) -> tuple[OnError, ...]:
    """The rules to ask about a failed step: its own and the route's; not the route's if a step around has one."""
    if work.around and _rule(placed.on_error, failure, work) is None:
        for rules in work.around:
            if _rule(rules, failure, work) is not None:
                return ()
    return placed.on_error + work.rules


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
    data["findings"] = [findings.as_data(each) for each in failure.findings]
    return data
