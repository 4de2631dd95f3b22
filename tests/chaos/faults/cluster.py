"""Faults of a cluster: a node is killed under load, and comes back."""

from __future__ import annotations

import time

from bus.core import naming
from tests.chaos.cluster import Cluster
from tests.chaos.faults import processes
from tests.chaos.world import PARTITIONS, SINKS, World

AWAY_S = (1.0, 20.0)  # how long a node stays away: others take over at once, or the bus works on without it
BUS_TOO = 0.3  # of the nodes that are away, so many see a kill -9 of the bus meanwhile
CAUGHT_UP_S = 5.0  # after it is back: its queues take part again, or the next kill could leave them without a majority


def node_kill(world: World) -> None:
    """kill -9 of one node: any, the one that the bus is connected to, or one that leads a queue; and a restart."""
    cluster = world.node
    assert isinstance(cluster, Cluster)
    why = world.chance.choice(("any", "connected", "ingress-leader", "target-leader"))
    number = _victim(world, cluster, why)
    world.note("node-kill", why=why, node=number + 1)
    cluster.kill_one(number)
    world.kills += 1
    world.counts[f"node-kill {why}"] += 1
    time.sleep(world.chance.uniform(*AWAY_S))
    if world.chance.random() < BUS_TOO:
        processes.kill(world)  # it must begin on a cluster that is not whole
        world.counts["node-kill and kill"] += 1
    cluster.start(number)
    time.sleep(CAUGHT_UP_S)


def _victim(world: World, cluster: Cluster, why: str) -> int:
    found: int | None = None
    if why == "connected":
        lines = [line for line in world.a_bus().log.read_text().splitlines() if "connected to the broker" in line]
        found = cluster.number_of(lines[-1]) if lines else None
    elif why == "ingress-leader":
        partition = world.chance.randrange(PARTITIONS)
        found = cluster.leader(naming.ingress_queue(world.namespace, partition))
    elif why == "target-leader":
        place = world.chance.choice(tuple(SINKS))
        found = cluster.leader(f"{world.namespace}.{SINKS[place]}")
    return world.chance.choice(cluster.up) if found is None else found
