"""Faults of one worker among several: others take its partitions over, and what it still wants to write is refused."""

from __future__ import annotations

import signal
import time

from tests.chaos.children import poll
from tests.chaos.faults.database import COMMIT, COMMIT_S
from tests.chaos.world import Bus, World


def kill(world: World) -> None:
    """kill -9 of workers that own something, all but one at most; they stay away until the others have their share."""
    first = world.an_owner()
    rest = [bus for bus in world.buses if bus is not first]
    victims = [first, *world.chance.sample(rest, world.chance.randint(0, len(rest) - 1))]
    for bus in victims:
        bus.keep_down()
        bus.signal(signal.SIGKILL)
        world.kills += 1
    _taken_over(world, victims)
    for bus in victims:
        bus.bring_up()
    for bus in victims:
        bus.wait_ready()


def pause(world: World) -> None:
    """SIGSTOP of an owner, in half of the cases with a commit on its way, until others own what it owned.

    Then the commit arrives and the owner goes on: neither may write.
    """
    bus = world.an_owner()
    assert bus.store_wire is not None
    if world.chance.random() < 0.5 and bus.store_wire.trap(COMMIT, "held").wait(COMMIT_S):
        world.counts["worker-pause in a commit"] += 1
    bus.signal(signal.SIGSTOP)
    _taken_over(world, [bus])
    time.sleep(world.chance.choice((0.0, 0.5, 4.0)))
    bus.store_wire.mend()
    time.sleep(world.chance.choice((0.0, 0.5)))
    bus.signal(signal.SIGCONT)
    bus.wait_ready()


def _taken_over(world: World, away: list[Bus]) -> None:
    if not poll(lambda: not any(bus in away for bus in world.owners().values())):
        world.remarks.append(f"nobody took over from {', '.join(bus.name for bus in away)}")
