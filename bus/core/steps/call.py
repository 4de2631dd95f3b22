"""Request-Reply: ask an agent, and go on with its answer."""

from __future__ import annotations

from typing import Any

from bus.core.asking import ask
from bus.core.dispatch import name_of
from bus.core.paths import put
from bus.core.spec import Duration, Field, Integer, PathTo, Spec, TargetShape
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    target, into = parsed["target"], parsed.get("into")
    timeout, deadline, repairs = parsed.get("timeout"), parsed.get("deadline"), parsed.get("repair", 0)
    if target.kind not in ("agent", "capability"):
        raise ValueError(f"`{target.kind}` gives no answer", "`capability: ...` or `agent: ...`")

    def step(work: Work) -> Ended | None:
        answer = ask(target, work, timeout, deadline, repairs)
        if into is not None:
            put(work.names, into, answer)
        work.notes.append(f"call {name_of(target)}: answered")
        return None

    return step


SPEC = Spec(
    kind="call",
    pattern="Request-Reply",
    summary="Asks an agent and goes on with its answer, which `into` gets; without `into` it is only awaited.",
    shape=TargetShape(
        {
            "into": Field(PathTo(), "Where the answer goes, e.g. `vars.triage`.", required=False),
            "timeout": Field(Duration(), "For one attempt; then it fails with class `timeout`.", required=False),
            "deadline": Field(Duration(), "For all attempts together.", required=False),
            "repair": Field(
                Integer(1),
                "How often an answer that breaks the contract goes back to the agent, with what is wrong with it.",
                required=False,
            ),
        }
    ),
    build=build,
    memory=True,
    example='call: {capability: grade, data: {text: "{{ data.text }}"}, timeout: 2s, into: vars.grade}',
)
