"""Why something did not come: what people need to know before anything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bus.core.instance import Instance
from bus.core.running import REHOMED
from bus.rehearsal.stage import Hop, Stage

Where: TypeAlias = Callable[[str, str], "str | None"]
"""`file:line` of a step, by route and id; None when that is not known."""


@dataclass(frozen=True, slots=True)
class Causes:
    """Args:
    hops: all that was decided.
    waiting: what runs of routes still wait for, one sentence each.
    """

    hops: Sequence[Hop]
    waiting: tuple[str, ...]
    where: Where

    def first(self) -> str:
        """The first failure; else what a run waits for; else why a message was wanted by nobody; else ""."""
        failures = [text for hop in self.hops if (text := self.of(hop))]
        ended = [
            each.decision.reason
            for each in self.hops
            if each.decision.reason and each.decision.end != "waiting" and each.decision.why != REHOMED
        ]
        return next(iter([*failures, *self.waiting, *ended]), "")

    def of(self, hop: Hop) -> str:
        """The failure of one decision, or ""."""
        decision, failure = hop.decision, hop.decision.failure
        if failure is None:
            return ""
        how = failure.failure if failure.code == failure.failure else f"{failure.failure}, {failure.code}"
        if failure.step is None or decision.route is None:
            what = "a message" if hop.message is None else f"`{hop.message.type}`"
            return f"{what} failed ({how}): {failure.reason}"
        place = self.where(decision.route, failure.step) or decision.where
        return f"step {failure.step} ({place}) failed ({how}): {failure.reason}"


def causes(stage: Stage, where: Where) -> Causes:
    """What there is to say about a stage at rest."""
    return Causes(stage.hops, tuple(_waits(each) for each in stage.waiting), where)


def _waits(run: Instance) -> str:
    awaited = [
        f"{path.rstrip('/')} (`{each['call']}`)" if "call" in each else path.rstrip("/")
        for path, each in run.open.items()
    ]
    return f"route {run.route} still waits for {', '.join(awaited)}"
