"""Storms: two faults at once. What each of them alone does not show is often in between."""

from __future__ import annotations

import threading
import time

from tests.chaos.faults import agents, broker, network, processes
from tests.chaos.world import World

_FIRST = (network.stall, network.half_open, network.ghost, network.lost_publishes, network.agent_lost_confirms)
_SECOND = (processes.kill, processes.handover, processes.failpoint, agents.kill, network.cut)


def storm(world: World) -> None:
    """A fault of the network or a full queue, and in the middle of it another one."""
    first = world.chance.choice(_FIRST if world.node is None else (*_FIRST, broker.full_queue, broker.full_queue))
    second = world.chance.choice(_SECOND)
    world.note("storm", first=first.__name__, second=second.__name__)
    thread = threading.Thread(target=first, args=(world,), name="storm")
    thread.start()
    time.sleep(world.chance.uniform(0.0, 1.5))
    second(world)
    thread.join()
