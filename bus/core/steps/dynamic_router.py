"""Dynamic Router: an agent says who is next, over and over, until it names nobody."""

from __future__ import annotations

from typing import Any

from bus.core.asking import ask
from bus.core.errors import StepFailed
from bus.core.message import Json
from bus.core.rounds import fold, resume, rounds
from bus.core.spec import Duration, Field, Integer, ListOf, Record, Spec, TargetShape
from bus.core.visits import allowed
from bus.core.work import Ended, Step, Work

_TIMEOUT = {"timeout": Field(Duration(), "For one call of it.", required=False)}


def build(parsed: dict[str, Any]) -> Step:
    router, patience = parsed["ask"]["target"], parsed["ask"].get("timeout")
    most: int = parsed["max"]
    targets = allowed(parsed["allow"])
    if router.kind not in ("agent", "capability"):
        raise ValueError(f"`{router.kind}` gives no answer", "`ask: {capability: ...}`")

    def step(work: Work) -> Ended | None:
        with rounds(work) as at:
            done = resume(work, at)
            while True:
                work.names["index"] = done
                work.at = f"{at}[{done}]/ask"
                name = _next(ask(router, work, patience), router.name)
                if name is None:
                    work.notes.append(f"dynamic_router: nobody more after {done}")
                    return None
                if done >= most:
                    raise StepFailed("internal", f"after {most} calls `{router.name}` still names another", code="loop")
                if name not in targets:
                    what = f"`{router.name}` names `{name[:200]}`, which is not in `allow`: {', '.join(targets)}"
                    raise StepFailed("refusal", what)
                target, timeout = targets[name]
                work.at = f"{at}[{done}]/call"
                work.names["data"] = ask(target, work, timeout)
                done += 1
                fold(work, at, done)
                work.notes.append(f"dynamic_router: {done}. {name}")

    return step


def _next(answer: Json, router: str) -> str | None:
    """The name that an answer gives, or None for nobody."""
    name = answer.get("next") if isinstance(answer, dict) else None
    if name is None and (answer is None or isinstance(answer, dict)):
        return None
    if not isinstance(name, str):
        raise StepFailed("contract", f"`{router}` answers without a name under `next`")
    return name


SPEC = Spec(
    kind="dynamic_router",
    pattern="Dynamic Router",
    summary="Asks an agent for the name of the next target, asks that one, and so on, until it names nobody. "
    "The router answers `{next: NAME}`, or without `next` (or with null) when all is done; `data` becomes the "
    "answer of each target. When it names another after `max` calls, the step fails with class `internal`.",
    shape=Record(
        {
            "ask": Field(TargetShape(_TIMEOUT), "Who decides; its `data` may read `index`, the calls before."),
            "allow": Field(ListOf(TargetShape(_TIMEOUT)), "The agents and capabilities that may be named."),
            "max": Field(Integer(1), "Calls at most."),
        }
    ),
    build=build,
    memory=True,
    example="""\
dynamic_router:
  ask: {capability: other}
  allow: [{capability: grade, timeout: 2s}]
  max: 5
""",
)
