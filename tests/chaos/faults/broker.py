"""Faults of the broker: the node dies, a target queue fills up."""

from __future__ import annotations

import json
import re
import time

from bus.shell.policies import INBOX_DELIVERY_LIMIT
from tests.chaos.world import SINKS, World

FULL = 3  # messages that a full queue still takes


def kill(world: World) -> None:
    """kill -9 of the node, and a restart."""
    assert world.node is not None
    world.node.kill()
    world.kills += 1
    time.sleep(world.chance.uniform(0.0, 2.0))
    world.node.restart()


def full_queue(world: World) -> None:
    """A target takes no more: its consumer holds its acks and its length is limited. Then it is lifted."""
    assert world.node is not None
    place = world.chance.choice(("fast", "slow", "ear_one"))
    queue = f"{world.namespace}.{SINKS[place]}"
    rules = {
        "max-length": FULL,
        "overflow": "reject-publish",
        "dead-letter-strategy": "at-least-once",
        "delivery-limit": INBOX_DELIVERY_LIMIT,
    }
    name = f"full-{place}"
    world.node.control(
        "set_policy", "--priority", "9", "--apply-to", "queues", name, f"^{re.escape(queue)}$", json.dumps(rules)
    )
    world.sinks.pause(place)
    time.sleep(world.chance.uniform(2.0, 8.0))
    world.node.control("clear_policy", name)
    world.sinks.resume()
