"""Scatter-Gather: ask several at the same time, and go on with what they answer together."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from bus.core.actions import Failure
from bus.core.asking import ask
from bus.core.errors import ExpressionFailed, StepFailed
from bus.core.expression import Expression, Leaf
from bus.core.flow import RouteFailed, run_flow
from bus.core.joins import Join, closed, made, outcome
from bus.core.message import Json
from bus.core.parts import as_failure, part
from bus.core.paths import put
from bus.core.spec import JOIN, Duration, Expr, Field, Leaves, MapOf, PathTo, Record, Spec, TargetShape
from bus.core.work import Ended, Flow, Step, Suspended, Target, Work


def build(parsed: dict[str, Any]) -> Step:
    branches: dict[str, dict[str, Any]] = parsed["branches"]
    join = made(parsed["join"])
    into, compose = parsed["into"], parsed.get("compose")
    _check(branches, join)

    def step(work: Work) -> Ended | None:
        memory, at = work.remembering, work.at
        found = cast("dict[str, Json] | None", memory.known(f"{at}#joined"))
        if found is None:
            late = join.deadline_s is not None and memory.passed(f"{at}#deadline", join.deadline_s)
            found = _gather(branches, join, work, at, late=late)
            memory.close(at)
            memory.keep(f"{at}#joined", found)
        missing = cast("list[Json]", found["missing"])
        work.notes.append(f"scatter_gather: {'without ' + ', '.join(map(str, missing)) if missing else 'complete'}")
        put(work.names, into, found if compose is None else _composed(compose, work, found))
        return None

    return step


def _check(branches: dict[str, dict[str, Any]], join: Join) -> None:
    for name, branch in branches.items():
        target = branch.get("target")
        if target is not None and target.kind not in ("agent", "capability"):
            raise ValueError(f"branch `{name}`: `{target.kind}` gives no answer", "`capability: ...`, or `steps`")
    unknown = [name for name in join.require if name not in branches]
    if unknown:
        raise ValueError(f"`require` names `{unknown[0]}`, which is no branch", ", ".join(branches))
    if join.policy == "quorum" and join.n > len(branches):
        raise ValueError(f"a quorum of {join.n} cannot come from {len(branches)} branches", f"`n: {len(branches)}`")


def _gather(branches: dict[str, dict[str, Any]], join: Join, work: Work, at: str, *, late: bool) -> dict[str, Json]:
    """The outcome.

    Raises:
        Suspended: it is not there yet.
        StepFailed: it cannot be.
    """
    results: dict[str, Json] = {}
    failures: dict[str, Failure] = {}
    waiting: list[str] = []
    total = 0
    for name, branch in branches.items():
        when: Expression | None = branch.get("when")
        if when is not None and when(work.names) is not True:
            continue
        total += 1
        work.at = at
        try:
            begin = partial(work.branch, f".{name}", work.names["data"])
            results[name], labels = part(work, f".{name}", begin, partial(_run, branch))
            work.gain(labels)
        except Suspended:
            waiting.append(name)
        except (StepFailed, ExpressionFailed, RouteFailed) as error:
            failures[name] = as_failure(error)
    work.at = at
    if not closed(join, results, failures, waiting, late=late):
        raise Suspended
    return outcome(results, [*failures, *waiting], total)


def _run(branch: dict[str, Any], work: Work) -> Json:
    target: Target | None = branch.get("target")
    if target is not None:
        return ask(target, work, branch.get("timeout"))
    flow: Flow = branch["flow"]
    mark = len(work.sent)
    try:
        ended = run_flow(flow, work)
    finally:  # the asker gets one answer, which is that of the route
        work.sent[mark:] = [each._replace(answerable=False) for each in work.sent[mark:]]
    return None if ended is not None and ended.how == "filtered" else work.names["data"]


def _composed(compose: Leaf, work: Work, found: dict[str, Json]) -> Json:
    return compose({**work.names, "results": found["results"]})


SPEC = Spec(
    kind="scatter_gather",
    pattern="Scatter-Gather",
    summary="Asks all branches at the same time and goes on when the join closes; a branch that failed or is late is "
    "missing. `into` gets `{results: {branch: data}, completeness, missing, degraded}`.",
    shape=Record(
        {
            "branches": Field(
                MapOf(
                    TargetShape(
                        {
                            "timeout": Field(Duration(), "For this branch.", required=False),
                            "when": Field(Expr("bool"), "Whether it takes part.", required=False),
                        },
                        flow=True,
                    )
                ),
                "Each a target that answers, or `steps` whose `data` at the end is the result, null when it was "
                "filtered.",
            ),
            "join": Field(JOIN, "When the results are enough."),
            "into": Field(PathTo(), "Where the outcome goes."),
            "compose": Field(
                Leaves(), "What goes there instead: a value that reads `results`, by branch.", required=False
            ),
        }
    ),
    build=build,
    memory=True,
    example="""\
scatter_gather:
  branches:
    grade: {capability: grade, data: {text: "{{ data.text }}"}}
    other: {capability: other, timeout: 2s}
  join: {policy: best_effort, require: [grade], deadline: 8s}
  into: vars.found
""",
)
