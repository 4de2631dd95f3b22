"""What a tenure works with: see bus.shell.tenure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from bus.core.notices import Notice
from bus.ports import Meter, Store, Transport
from bus.shell.failpoints import Reach
from bus.shell.judge import Judge
from bus.shell.ledger import Open
from bus.shell.refusals import Refusals

T = TypeVar("T")


class Submit(Protocol):
    """Runs work on the store's thread, and then `done` with its result, in this tenure only."""

    def __call__(self, work: Callable[[], T], done: Callable[[T], Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Kit:
    """What a tenure works with; `submit` and `later` forget what outlives it.

    Args:
        namespace, window: as in the worker's plan.
        prefetch: unacked deliveries at most of one queue.
        clock: epoch seconds.
        reach: passes failpoints.
        settled: told whenever nothing is open, while replaying and leaving.
        lead: leads the ingress to where it has to lead once more.
        drained: notes partitions in the store that have nothing left; on its thread.
        refusals: says when a target has refused for so long that the connection should be made anew.
        anew: does that; this tenure is over then.
        notices: what is to stand in the log; taken out when it does.
        heed: looks whether an operator has said something.
        on_finished: told of every finished input and the time.
    """

    transport: Transport
    store: Store
    meter: Meter
    judge: Judge
    namespace: str
    prefetch: int
    window: int
    clock: Callable[[], float]
    submit: Submit
    later: Callable[[float, Callable[[], None]], None]
    settled: Callable[[], None]
    lead: Callable[[], None]
    drained: Callable[[Collection[int]], None]
    reach: Reach
    refusals: Refusals
    anew: Callable[[str], None]
    notices: deque[Notice]
    heed: Callable[[], None]
    on_finished: Callable[[Open, float], None] | None
