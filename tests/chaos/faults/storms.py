"""Storms: two faults at once. What each of them alone does not show is often in between."""

from __future__ import annotations

import threading
import time

from tests.chaos.faults import agents, broker, database, network, processes
from tests.chaos.world import World

_FIRST = (network.stall, network.half_open, network.ghost, network.lost_publishes, network.agent_lost_confirms)
_OF_THE_STORE = (database.outage, database.stall, database.commit_cut)
_SECOND = (processes.kill, processes.handover, processes.failpoint, agents.kill, network.cut)


def storm(world: World) -> None:
    """A fault of the network, of a full queue or of the store, and in the middle of it another one."""
    full = (broker.full_queue, broker.full_queue) if world.node is not None else ()
    first = world.chance.choice((*_FIRST, *full, *(_OF_THE_STORE if world.database is not None else ())))
    second = world.chance.choice(_SECOND)
    world.note("storm", first=first.__name__, second=second.__name__)
    thread = threading.Thread(target=first, args=(world,), name="storm")
    thread.start()
    time.sleep(world.chance.uniform(0.0, 1.5))
    second(world)
    thread.join()
