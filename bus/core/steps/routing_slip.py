"""Routing Slip: the message says whom it visits, one after the other; each gets what the one before has answered."""

from __future__ import annotations

from typing import Any

from bus.core.asking import ask
from bus.core.errors import StepFailed
from bus.core.expression import Expression
from bus.core.rounds import fold, resume, rounds
from bus.core.spec import Duration, Expr, Field, ListOf, Record, Spec, TargetShape
from bus.core.visits import allowed
from bus.core.work import Ended, Step, Work

_MOST_VISITS = 100


def build(parsed: dict[str, Any]) -> Step:
    each: Expression = parsed["each"]
    targets = allowed(parsed["allow"])

    def step(work: Work) -> Ended | None:
        slip = each(work.names)
        if not isinstance(slip, list):
            raise StepFailed("internal", f"`each` gives no list: {each.text}")
        if len(slip) > _MOST_VISITS:
            raise StepFailed("refusal", f"the slip has {len(slip)} names; {_MOST_VISITS} are the most")
        unknown = [str(name) for name in slip if str(name) not in targets]
        if unknown:
            raise StepFailed("refusal", f"`{unknown[0][:200]}` is not in `allow`: {', '.join(targets)}")
        with rounds(work) as at:
            for done in range(resume(work, at), len(slip)):
                target, timeout = targets[str(slip[done])]
                work.names["index"] = done
                work.at = f"{at}[{done}]/call"
                work.names["data"] = ask(target, work, timeout)
                fold(work, at, done + 1)
        work.notes.append("routing_slip: " + ", ".join(str(name) for name in slip))
        return None

    return step


SPEC = Spec(
    kind="routing_slip",
    pattern="Routing Slip",
    summary="Asks each target that `each` names, out of `allow`, one after the other; `data` becomes the answer "
    f"of each and is what the next one gets, unless its `data` says otherwise. At most {_MOST_VISITS} names.",
    shape=Record(
        {
            "each": Field(Expr("list"), "CEL giving the names, in order."),
            "allow": Field(
                ListOf(TargetShape({"timeout": Field(Duration(), "For one call of it.", required=False)})),
                "The agents and capabilities that may be named; their `data` may read `index`, the visits before.",
            ),
        }
    ),
    build=build,
    memory=True,
    example="""\
routing_slip:
  each: "['grade', 'other']"
  allow:
  - {capability: grade, timeout: 2s}
  - {capability: other}
""",
)
