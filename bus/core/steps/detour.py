"""Detour: send messages through more steps while a control of the running bus says so."""

from __future__ import annotations

import re
from typing import Any

from bus.core.flow import run_flow
from bus.core.spec import Field, Record, Spec, Text
from bus.core.work import Ended, Flow, Step, Work

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def build(parsed: dict[str, Any]) -> Step:
    control: str = parsed["control"]
    flow: Flow = parsed["flow"]
    if not _NAME.fullmatch(control):
        raise ValueError(
            f"`{control[:60]}` is no name of a control", "small letters, digits, `_` and `-`, a letter first"
        )

    def step(work: Work) -> Ended | None:
        on = work.controls.get(control, False)
        if work.memory is not None:  # it may be switched while the flow waits further on
            on = work.memory.once(f"{work.at}#on", lambda: work.controls.get(control, False)) is True
        work.notes.append(f"detour: {control} is {'on' if on else 'off'}")
        return run_flow(flow, work) if on else None

    return step


SPEC = Spec(
    kind="detour",
    pattern="Detour",
    summary="Runs its steps while the control is on; a control that nobody has switched on is off. A detour without "
    "`to` goes on after the step.",
    shape=Record({"control": Field(Text(), "Name of the control.")}, flow=True),
    build=build,
    example="""\
detour:
  control: extra_checks
  steps:
  - filter: data.amount > 0
""",
)
