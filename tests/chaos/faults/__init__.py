"""Faults by name. Each is a function that does one thing to the world and returns when it is over, lifted again.

A new fault is a function in the file of its subject and one line here. `COMING` keeps the names of those whose subject
the bus does not have yet: the PostgreSQL store and several workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.chaos.faults import agents, alarms, broker, cluster, network, processes, stores, storms
from tests.chaos.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """Args:
    inject: does it.
    weight: how often it is chosen, compared with others.
    own_node: it needs a broker node that is ours alone.
    by_name: `all` does not mean it.
    """

    inject: Callable[[World], None]
    weight: int = 4
    own_node: bool = False
    by_name: bool = False


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
    "broker-kill": Fault(broker.kill, 1, own_node=True),
    "full-queue": Fault(broker.full_queue, 2, own_node=True),
    "limit-lifted": Fault(broker.limit_lifted, 1, own_node=True),
    "full-ingress": Fault(broker.full_ingress, 2, own_node=True),
    "memory-alarm": Fault(alarms.memory, 1, own_node=True),
    "disk-alarm": Fault(alarms.disk, 1, own_node=True),
    "second-store": Fault(stores.second_store, 1),
    "node-kill": Fault(cluster.node_kill, 8, by_name=True),
    "duplicates": Fault(lambda _world: None, 0),  # a trait of the load: producers send some inputs again
}

ALL = tuple(name for name, fault in FAULTS.items() if not fault.by_name)

CLUSTER = ("node-kill", "kill", "handover", "failpoint", "agent-kill", "agent-before-reply", "agent-after-reply",
           "full-queue", "duplicates")  # fmt: skip
"""What `all` means with `--nodes`: there is no wire between the bus and several nodes."""

COMING: Mapping[str, str] = {
    "postgres-outage": "stop and start the server of `--store postgres`: a function in faults/stores.py",
    "commit-cut": "cut the store's connection during COMMIT: a second Wire, to PostgreSQL, in faults/stores.py",
    "worker-kill": "kill one of `--workers N`: World.bus becomes a list; takeover is told by the survivor",
    "worker-pause": "SIGSTOP of a lease's owner beyond its time to live, then SIGCONT: a fenced commit",
    "grow-partitions": "start the bus again with a larger BUS_PARTITIONS under load",
}
"""Faults whose subject does not exist yet, and what is to be written where."""
