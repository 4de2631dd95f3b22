"""Recipient List: send a copy to each recipient that the message names, out of an allow-list."""

from __future__ import annotations

from typing import Any

from bus.core.dispatch import dispatch
from bus.core.errors import StepFailed
from bus.core.expression import Expression
from bus.core.spec import Expr, Field, ListOf, Record, Spec, TargetShape
from bus.core.work import Ended, Step, Target, Work


def build(parsed: dict[str, Any]) -> Step:
    each: Expression = parsed["each"]
    allowed: dict[str, Target] = {}
    for target in parsed["allow"]:
        if target.kind == "reply":
            raise ValueError("`reply` cannot be a recipient", "an agent, capability or event")
        if target.among is not None:
            raise ValueError("a recipient has one name here", "each name that `each` may give")
        if target.name in allowed:
            raise ValueError(f"`{target.name}` is in `allow` twice", "each name once")
        allowed[target.name] = target

    def step(work: Work) -> Ended | None:
        names = each(work.names)
        if not isinstance(names, list):
            raise StepFailed("internal", f"`each` gives no list: {each.text}")
        # A name listed twice gets one copy: recipients are a set, and a second copy would be a second effect.
        for name in dict.fromkeys(str(name) for name in names):
            target = allowed.get(name)
            if target is None:
                raise StepFailed("refusal", f"recipient `{name}` is not in `allow`: {', '.join(allowed)}")
            work.send(dispatch(target, work, answerable=False))
        work.notes.append("recipient_list " + ", ".join(str(name) for name in names))
        return None

    return step


SPEC = Spec(
    kind="recipient_list",
    pattern="Recipient List",
    summary="Sends a copy to each recipient named by `each`, out of `allow`, and goes on. Copies carry no return "
    "address: their answers become events `<capability>.replied`.",
    shape=Record(
        {
            "each": Field(Expr("list"), "CEL giving the names of the recipients."),
            "allow": Field(ListOf(TargetShape()), "The targets that may be named, each with its own `data`."),
        }
    ),
    build=build,
    example="""\
recipient_list:
  each: data.channels
  allow:
  - {event: notice.mail}
  - {event: notice.sms}
""",
)
