"""Faults of the wires to the broker: the bus's, and the agents'."""

from __future__ import annotations

import time

from tests.chaos.wire import Flow, Wire
from tests.chaos.world import World

LOSS_S = 5.0  # something is usually under way well before


def cut(world: World) -> None:
    """Every connection is cut, once or a few times in a row."""
    for _ in range(world.chance.choice((1, 1, 1, 3))):
        world.wire.cut()
        time.sleep(world.chance.uniform(0.0, 0.8))


def stall(world: World) -> None:
    """Nothing passes for a while, then all of it does, or the connections are cut."""
    world.wire.stall("out", "back")
    time.sleep(world.chance.uniform(1.0, 8.0))
    if world.chance.random() < 0.5:
        world.wire.cut()
    world.wire.mend()


def half_open(world: World) -> None:
    """The broker's end closes, and the bus does not hear of it for a while."""
    world.wire.deafen()
    time.sleep(world.chance.uniform(1.0, 6.0))
    world.wire.cut()


def ghost(world: World) -> None:
    """The bus's end closes, and the broker goes on delivering to a consumer that is gone, for a while."""
    world.wire.ghost()
    time.sleep(world.chance.uniform(1.0, 6.0))
    world.wire.cut()


def lost_confirms(world: World) -> None:
    """The broker gets publishes, and the connections are cut before its confirms come back."""
    _lose(world, world.wire, "back")


def lost_publishes(world: World) -> None:
    """Publishes and acks are written by the bus and never come to the broker."""
    _lose(world, world.wire, "out")


def agent_cut(world: World) -> None:
    """Every connection of the agents is cut."""
    world.agent_wire.cut()


def agent_lost_confirms(world: World) -> None:
    """The broker has the agents' replies, and they do not hear of it: they send them again, and get requests again."""
    _lose(world, world.agent_wire, "back")


def _lose(world: World, wire: Wire, flow: Flow) -> None:
    before, deadline = wire.swallowed_bytes, time.monotonic() + LOSS_S
    wire.swallow(flow)
    time.sleep(world.chance.uniform(0.0, 0.6))
    while wire.swallowed_bytes < before + 1000 and time.monotonic() < deadline:
        time.sleep(0.01)
    wire.cut()
    wire.mend()
