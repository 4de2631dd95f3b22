"""Load Balancer: give each key to one of several branches, by weight."""

from __future__ import annotations

from typing import Any

from bus.core.expression import Expression
from bus.core.flow import run_flow
from bus.core.shares import chosen, key_of
from bus.core.spec import Expr, Field, Integer, MapOf, Record, Spec
from bus.core.work import Ended, Flow, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    by: Expression | None = parsed.get("by")
    weights: dict[str, int] = {name: branch["weight"] for name, branch in parsed["branches"].items()}
    flows: dict[str, Flow] = {name: branch["flow"] for name, branch in parsed["branches"].items()}
    if not any(weights.values()):
        raise ValueError("no branch has a weight above 0", "`weight: 1`")

    def step(work: Work) -> Ended | None:
        name = chosen(key_of(by, work), weights)
        work.notes.append(f"load_balance: {name}")
        return run_flow(flows[name], work)

    return step


SPEC = Spec(
    kind="load_balance",
    pattern="Load Balancer",
    summary="Runs one of the branches, each for its share of the keys; a branch without `to` goes on after the step. A "
    "key stays with its branch; changing a weight moves keys only to or from that branch.",
    shape=Record(
        {
            "by": Field(Expr(), "CEL giving the key; without it the message's id.", required=False),
            "branches": Field(
                MapOf(Record({"weight": Field(Integer(), "Its share, beside the other weights.")}, flow=True)),
                "The branches by name.",
            ),
        }
    ),
    build=build,
    example="""\
load_balance:
  by: data.id
  branches:
    stable: {weight: 95, to: {event: payment.large}}
    canary: {weight: 5, to: {event: payment.small}}
""",
)
