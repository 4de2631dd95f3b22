"""What a run is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BUS = ("-m", "bus")


@dataclass(frozen=True, slots=True)
class Options:
    """Args:
    seed: of the load and of every choice of a fault.
    kills: faults end when so many processes were killed.
    minutes: faults end after so long in any case.
    faults: names from `tests.chaos.faults.FAULTS`.
    rate: inputs a second, over all producers.
    producers, conversations: how many, and conversations of each.
    store: `sqlite`, or `postgres`, a server of our own.
    workers: bus processes on one store; more than one needs `postgres`.
    pause_s: bounds of the pause between two faults.
    keep: folder of the evidence; None is a new one, removed when all is well.
    broker: (bus URL, agent URL) of a node that is not ours to kill; None starts one.
    quiet_s: when nothing has arrived for so long after the faults, what is missing is taken for lost.
    launcher: words after the interpreter that run the bus; the sabotage names another program.
    """

    seed: int = 1
    kills: int = 20
    minutes: float = 5.0
    faults: tuple[str, ...] = ()
    rate: float = 150.0
    producers: int = 2
    conversations: int = 12
    store: str = "sqlite"
    workers: int = 1
    pause_s: tuple[float, float] = (0.2, 2.5)
    keep: Path | None = None
    broker: tuple[str, str] | None = None
    quiet_s: float = 60.0  # beyond a heartbeat's end (45 s) and a reconnect (10 s)
    launcher: tuple[str, ...] = BUS
