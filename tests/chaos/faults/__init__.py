"""Faults by name. Each is a function that does one thing to the world and returns when it is over, lifted again.

A new fault is a function in the file of its subject and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.chaos.faults import (
    agents,
    alarms,
    broker,
    cluster,
    database,
    network,
    processes,
    stores,
    storms,
    workers,
)
from tests.chaos.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """Args:
    inject: does it.
    weight: how often it is chosen, compared with others.
    needs: `node`: a broker node that is ours alone; `crew`: several workers; `database`: a store in PostgreSQL;
        `disk`: one whose disk can be filled.
    by_name: `all` does not mean it.
    """

    inject: Callable[[World], None]
    weight: int = 4
    needs: frozenset[str] = frozenset()
    by_name: bool = False


NODE, CREW, DATABASE, DISK = (frozenset({each}) for each in ("node", "crew", "database", "disk"))

FAULTS: Mapping[str, Fault] = {
    "kill": Fault(processes.kill, 12),
    "handover": Fault(processes.handover, 4),
    "pause": Fault(processes.pause, 1),
    "failpoint": Fault(processes.failpoint, 12),
    "agent-kill": Fault(agents.kill, 4),
    "agent-before-reply": Fault(agents.before_reply, 3),
    "agent-after-reply": Fault(agents.after_reply, 3),
    "cut": Fault(network.cut, 4),
    "stall": Fault(network.stall, 2),
    "half-open": Fault(network.half_open, 2),
    "ghost": Fault(network.ghost, 2),
    "lost-confirms": Fault(network.lost_confirms, 4),
    "lost-publishes": Fault(network.lost_publishes, 4),
    "agent-cut": Fault(network.agent_cut, 2),
    "agent-lost-confirms": Fault(network.agent_lost_confirms, 3),
    "storm": Fault(storms.storm, 6),
    "broker-kill": Fault(broker.kill, 1, needs=NODE),
    "full-queue": Fault(broker.full_queue, 2, needs=NODE),
    "limit-lifted": Fault(broker.limit_lifted, 1, needs=NODE),
    "full-ingress": Fault(broker.full_ingress, 2, needs=NODE),
    "memory-alarm": Fault(alarms.memory, 1, needs=NODE),
    "disk-alarm": Fault(alarms.disk, 1, needs=NODE),
    "postgres-outage": Fault(database.outage, 4, needs=DATABASE),
    "store-read-only": Fault(database.read_only, 3, needs=DATABASE),
    "store-disk-full": Fault(database.disk_full, 3, needs=DISK),
    "store-stall": Fault(database.stall, 4, needs=DATABASE),
    "commit-cut": Fault(database.commit_cut, 8, needs=DATABASE),
    "grow-partitions": Fault(processes.grow_partitions, 2),
    "worker-kill": Fault(workers.kill, 8, needs=CREW),
    "worker-pause": Fault(workers.pause, 4, needs=CREW),
    "second-store": Fault(stores.second_store, 1),
    "node-kill": Fault(cluster.node_kill, 8, by_name=True),
    "duplicates": Fault(lambda _world: None, 0),  # a trait of the load: producers send some inputs again
}

ALL = tuple(name for name, fault in FAULTS.items() if not fault.by_name)

CLUSTER = ("node-kill", "kill", "handover", "failpoint", "agent-kill", "agent-before-reply", "agent-after-reply",
           "full-queue", "duplicates")  # fmt: skip
"""What `all` means with `--nodes`: there is no wire between the bus and several nodes."""
