"""Circuit Breaker: when its steps have failed too often, fail at once for a while, and then let one try."""

from __future__ import annotations

from typing import Any

from bus.core.errors import StepFailed
from bus.core.flow import RouteFailed, run_within
from bus.core.spec import Duration, Field, Integer, Record, Spec
from bus.core.work import Ended, Flow, Step, Work

_OPEN, _CLOSED, _TRIAL = "open", "closed", "trial"


def build(parsed: dict[str, Any]) -> Step:
    failures, reset_s = parsed["failures"], parsed["reset"]
    flow: Flow = parsed["flow"]
    if flow.to or not flow.steps:
        raise ValueError("what it guards is `steps`", "`steps`, with `to` after the breaker")

    def step(work: Work) -> Ended | None:
        memory, at = work.remembering, work.at
        key = memory.key(at, everyone=True)
        now_s = memory.now_s
        gate = memory.once(f"{at}#gate", lambda: _enter(memory.cell(key), now_s, reset_s))
        if gate == _OPEN:
            raise StepFailed("unavailable", f"its steps failed {failures} times; tried again later", code="breaker")
        try:
            ended = run_within(flow, work)
        except (StepFailed, RouteFailed) as error:
            work.notes.append("circuit_breaker: " + _failed(memory.cell(key), gate == _TRIAL, now_s, parsed))
            raise error
        if gate == _TRIAL and memory.first(f"{at}#closed"):
            memory.cell(key).clear()
            work.notes.append("circuit_breaker: closed, the trial succeeded")
        return ended

    return step


def _enter(cell: dict[str, Any], now_s: float, reset_s: float) -> str:
    if "open" not in cell:
        return _CLOSED
    if now_s < max(cell["open"], cell.get("trial", 0.0)):
        return _OPEN
    cell["trial"] = now_s + reset_s  # when the next may try, should nobody hear of this one again
    return _TRIAL


def _failed(cell: dict[str, Any], trial: bool, now_s: float, limits: dict[str, Any]) -> str:
    """Note a failure; says what that means."""
    if "open" in cell and not trial:
        return "open already"  # this run had begun before
    recent = [each for each in cell.get("failed", []) if each > now_s - limits["window"]] + [now_s]
    cell.clear()
    if trial or len(recent) >= limits["failures"]:
        cell["open"] = now_s + limits["reset"]
        return "open, the trial failed" if trial else f"open after {len(recent)} failures"
    cell.update({"failed": recent, "until": now_s + limits["window"]})
    return f"{len(recent)} failures of {limits['failures']}"


SPEC = Spec(
    kind="circuit_breaker",
    pattern="Circuit Breaker",
    summary="Runs its steps as one step, without the rules of the route: what fails inside is a failure of this "
    "step, to which its `on_error` applies. After so many failures it is open and fails at once with class "
    "`unavailable`; after `reset` one message tries. All messages that a partition of the bus decides share "
    "it, whatever their conversation; each partition has its own.",
    shape=Record(
        {
            "failures": Field(Integer(1), "Failures that open it."),
            "window": Field(Duration(), "The time within which they count."),
            "reset": Field(Duration(), "How long it is open before one message tries."),
        },
        flow=True,
    ),
    build=build,
    memory=True,
    example="""\
circuit_breaker:
  failures: 5
  window: 30s
  reset: 1m
  steps:
  - call: {capability: grade, data: {text: "{{ data.text }}"}, timeout: 20s, into: vars.grade}
""",
)
