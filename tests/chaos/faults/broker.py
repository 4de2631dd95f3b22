"""Faults of the broker: the node dies, a target queue fills up."""

from __future__ import annotations

import json
import re
import signal
import time

from bus.shell.policies import INBOX_DELIVERY_LIMIT, INGRESS_DELIVERY_LIMIT
from tests.chaos.children import poll
from tests.chaos.node import Node
from tests.chaos.world import SINKS, World

FULL = 3  # messages that a full queue still takes
FULL_INGRESS = 30  # the same, of each ingress queue, beyond what the bus has prefetched
EMPTY_S = 0.5  # nothing arrived for so long: the queue is below its limit, and has told who publishes


def kill(world: World) -> None:
    """kill -9 of the node, and a restart."""
    node = _node(world)
    node.kill()
    world.kills += 1
    time.sleep(world.chance.uniform(0.0, 2.0))
    node.restart()


def full_queue(world: World) -> None:
    """A target takes no more for a while: its length is limited and its consumer acks nothing. Then it does again."""
    name, place = _fill(world)
    world.sinks.resume()
    poll(lambda: time.monotonic() - world.sinks.seen_s.get(place, 0.0) > EMPTY_S)
    _node(world).control("clear_policy", name)


def limit_lifted(world: World) -> None:
    """The same, but the limit is taken away while the queue is full, and only then does its consumer go on.

    RabbitMQ (seen on 3.10.8) then refuses for ever what comes on channels that it has refused before
    (rabbitmq-server#12206); the bus lets go of its connection when it notices (bus/shell/refusals.py).
    """
    name, _ = _fill(world)
    _node(world).control("clear_policy", name)
    world.sinks.resume()


def full_ingress(world: World) -> None:
    """The bus stands still and its ingress takes no more: producers and agents are refused. Then it goes on."""
    rules = {"max-length": FULL_INGRESS, "overflow": "reject-publish", "dead-letter-strategy": "at-least-once",
             "delivery-limit": INGRESS_DELIVERY_LIMIT}  # fmt: skip
    pattern = f"^{re.escape(world.namespace)}\\.ingress\\."
    for bus in world.buses:
        bus.signal(signal.SIGSTOP)
    _node(world).control(
        "set_policy", "--priority", "9", "--apply-to", "queues", "full-ingress", pattern, json.dumps(rules)
    )
    time.sleep(world.chance.uniform(2.0, 6.0))
    for bus in world.buses:
        bus.signal(signal.SIGCONT)
    for producer in world.producers:
        producer.hold = True  # until the queues are empty, or the limit would be lifted while they are full: see below
    poll(lambda: not any(producer.in_flight for producer in world.producers))
    time.sleep(2.0)
    _node(world).control("clear_policy", "full-ingress")
    for producer in world.producers:
        producer.hold = False


def _fill(world: World) -> tuple[str, str]:
    """Limit a queue and hold its consumer; returns the policy's name and the place."""
    place = world.chance.choice(("fast", "slow", "ear_one"))
    queue = f"{world.namespace}.{SINKS[place]}"
    rules = {
        "max-length": FULL,
        "overflow": "reject-publish",
        "dead-letter-strategy": "at-least-once",
        "delivery-limit": INBOX_DELIVERY_LIMIT,
    }
    name = f"full-{place}"
    _node(world).control(
        "set_policy", "--priority", "9", "--apply-to", "queues", name, f"^{re.escape(queue)}$", json.dumps(rules)
    )
    world.sinks.pause(place)
    time.sleep(world.chance.uniform(2.0, 8.0))
    return name, place


def _node(world: World) -> Node:
    assert world.node is not None
    return world.node
