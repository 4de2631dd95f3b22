"""Failpoints: named places of the delivery protocol where a test may have the process die, as by kill -9.

A crash between two given steps of the protocol is otherwise a matter of luck. Off, which is the rule, the worker calls
a function that does nothing, a few times a batch. `BUS_FAILPOINTS` turns them on:

    BUS_FAILPOINTS="seed=7,after-commit=kill:0.01,before-ack=kill:#3"

kills at one commit in a hundred, drawn from the seed, and at the third ack.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bus.core.errors import BusError

Reach: TypeAlias = Callable[[str], None]

POINTS: Mapping[str, str] = {
    "during-claim": "the partitions are claimed, the filter is not rebuilt",
    "during-replay": "some replayed outputs are confirmed, nothing new is consumed",
    "before-commit": "a batch is decided, nothing of it is written",
    "after-commit": "a batch is durable, nothing of it is published",
    "after-publish": "outputs are at the broker, their confirms are not noted",
    "after-confirm": "confirms are noted, nothing is acked because of them",
    "before-ack": "inputs are finished, their acks have not left",
    "after-ack": "acks are on the wire, the watermark is not written",
}
"""Every failpoint, and what is true where it stands."""


def nothing(_point: str) -> None:
    """Reach a failpoint while they are off."""


@dataclass(frozen=True, slots=True)
class _Armed:
    """When to die at one point: with a probability at each pass, or at the n-th."""

    probability: float = 0.0
    nth: int = 0


def failpoints(text: str, die: Callable[[], None] | None = None) -> Reach:
    """Read `BUS_FAILPOINTS`; returns what the worker calls at each point.

    Args:
        text: `NAME=kill:PROBABILITY` or `NAME=kill:#N`, joined by commas; `seed=N` for the draws. "" is off.
        die: what happens there; SIGKILL to this process unless a test says otherwise.

    Raises:
        BusError: it names no failpoint, or not when.
    """
    if not text.strip():
        return nothing
    seed, armed = 0, dict[str, _Armed]()
    for word in text.split(","):
        name, _, action = word.strip().partition("=")
        if name == "seed" and action.isdigit():
            seed = int(action)
        elif name in POINTS:
            armed[name] = _armed(word, action)
        else:
            raise BusError(f"BUS_FAILPOINTS has no point `{name}`; write one of {', '.join(POINTS)}")
    chance, passes = random.Random(seed), dict.fromkeys(armed, 0)
    end = _kill if die is None else die

    def reach(point: str) -> None:
        when = armed.get(point)
        if when is None:
            return
        passes[point] += 1
        if passes[point] == when.nth or (when.probability and chance.random() < when.probability):
            end()

    return reach


def _armed(word: str, action: str) -> _Armed:
    verb, _, when = action.partition(":")
    try:
        if verb == "kill" and when.startswith("#") and int(when[1:]) > 0:
            return _Armed(nth=int(when[1:]))
        if verb == "kill" and 0.0 < float(when) <= 1.0:
            return _Armed(probability=float(when))
    except ValueError:
        pass
    raise BusError(f"BUS_FAILPOINTS has `{word.strip()}`; write NAME=kill:0.01 or NAME=kill:#3")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
