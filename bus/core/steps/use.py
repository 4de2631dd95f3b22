"""Composed Message Processor from a file: run a fragment, a named list of steps that several routes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.core.errors import Finding, StepFailed
from bus.core.expression import Leaf
from bus.core.flow import run_within
from bus.core.message import Json
from bus.core.spec import Field, Leaves, MapOf, Record, Spec, Text
from bus.core.work import Ended, Flow, Step, Work

PARAMETER_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
    "any": (object,),
}
"""What a parameter may be declared as, and the values that are."""


def build(parsed: dict[str, Any]) -> Step:
    """Args:
    parsed: `fragment` its name, `with` the values, `types` the declared type of each, `config` the values of its
        integration, `flow` its steps.
    """
    name: str = parsed["fragment"]
    leaves: Mapping[str, Leaf] = parsed["with"]
    types: Mapping[str, str] = parsed["types"]
    config: dict[str, Json] = parsed["config"]
    flow: Flow = parsed["flow"]

    def step(work: Work) -> Ended | None:
        given = {parameter: leaf(work.names) for parameter, leaf in leaves.items()}
        for parameter, value in given.items():
            _check(name, parameter, types[parameter], value)
        work.notes.append(f"use {name}")
        around: dict[str, Json] = {key: work.names[key] for key in ("vars", "config") if key in work.names}
        work.names.update(vars=given, config=config)
        try:
            return run_within(flow, work)
        finally:
            work.names.update(around)

    return step


def _check(name: str, parameter: str, wanted: str, value: Json) -> None:
    allowed = PARAMETER_TYPES[wanted]
    if isinstance(value, allowed) and (not isinstance(value, bool) or bool in allowed or object in allowed):
        return
    got = "null" if value is None else type(value).__name__
    finding = Finding(f"/with/{parameter}", wanted, got)
    raise StepFailed("contract", f"fragment {name}: `{parameter}` wants {wanted}, got {got}", (finding,))


SPEC = Spec(
    kind="use",
    pattern="Composed Message Processor",
    summary="Runs a fragment: the steps of a document `fragment: NAME`, of this integration or another. They see "
    "`data`, `msg` and `request` of the message and the `config` of their own integration; their `vars` are their own, "
    "with the values of `with` to begin with. What a fragment gives back it writes into `data`. For the rules of the "
    "route it is one step.",
    shape=Record(
        {
            "fragment": Field(Text(), "Its name."),
            "with": Field(MapOf(Leaves()), "Values of its parameters; each has its declared type.", required=False),
        }
    ),
    build=build,
    example="use: {fragment: shorten, with: {most: 3}}",
)
