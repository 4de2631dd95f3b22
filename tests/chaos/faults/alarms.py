"""Alarms: the broker blocks whoever publishes, the bus among them."""

from __future__ import annotations

import signal
import time

from tests.chaos.world import World

MEMORY = ("set_vm_memory_high_watermark", "absolute", "1MB"), ("set_vm_memory_high_watermark", "0.4")
DISK = ("set_disk_free_limit", "1000GB"), ("set_disk_free_limit", "50MB")


def memory(world: World) -> None:
    """The broker says that it has no memory."""
    _alarm(world, *MEMORY)


def disk(world: World) -> None:
    """The broker says that it has no disk."""
    _alarm(world, *DISK)


def _alarm(world: World, raise_it: tuple[str, ...], clear_it: tuple[str, ...]) -> None:
    assert world.node is not None
    world.node.control(*raise_it)
    try:
        time.sleep(world.chance.uniform(1.0, 6.0))
        how = world.chance.choice((None, None, signal.SIGKILL, signal.SIGTERM))
        bus = world.a_bus()
        if how is not None:
            bus.signal(how)
            world.kills += how == signal.SIGKILL
            # A drain cannot finish while its publishes are blocked: it gives up after ten seconds.
            time.sleep(2.0 if how == signal.SIGKILL else world.chance.uniform(1.0, 14.0))
    finally:
        world.node.control(*clear_it)
    bus.wait_ready()
