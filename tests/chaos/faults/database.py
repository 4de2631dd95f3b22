"""Faults of a store in PostgreSQL: the server, its disk, and the wire to it."""

from __future__ import annotations

import signal
import time

from tests.chaos.database import Database
from tests.chaos.wire import Snap, Wire
from tests.chaos.world import World

COMMIT = b"abSG"  # a segment of the log begins so (bus/audit/segment.py), and is sent as it is by a commit only
COMMIT_S = 10.0  # under load the next commit is milliseconds away, unless the store or the broker is away, too


def outage(world: World) -> None:
    """The server dies, or is stopped in good order, and is started again after a while."""
    server = _database(world).server
    if world.chance.random() < 0.5:
        server.kill()
        world.kills += 1
    else:
        server.stop()
    time.sleep(world.chance.uniform(0.0, 8.0))
    server.start()


def read_only(world: World) -> None:
    """The server takes no writes, as after a failover that it has not heard of."""
    server = _database(world).server
    server.configure("default_transaction_read_only", "on")
    time.sleep(world.chance.uniform(0.5, 6.0))
    server.configure("default_transaction_read_only", "off")


def disk_full(world: World) -> None:
    """The disk of the tables is full for a while: what would make them grow fails."""
    database = _database(world)
    database.fill()
    time.sleep(world.chance.choice((2.0, 5.0, 25.0)))  # the last is long enough for a bus that tries in vain to do harm
    database.clear()


def commit_cut(world: World) -> None:
    """A commit is cut: before it arrives, half-way, or done but for its answer. At times its worker dies, too."""
    bus = world.an_owner()
    assert bus.store_wire is not None
    ways: tuple[Snap, ...] = ("request", "middle", "answer", "answer")
    how = world.chance.choice(ways)
    if bus.store_wire.trap(COMMIT, how).wait(COMMIT_S):
        world.counts[f"commit-cut {how}"] += 1
    if world.chance.random() < 0.3:
        bus.signal(signal.SIGKILL)
        world.kills += 1
    elif world.chance.random() < 0.5:
        bus.store_wire.refuse(True)
        time.sleep(world.chance.uniform(0.0, 3.0))
    bus.store_wire.mend()
    bus.wait_ready()


def stall(world: World) -> None:
    """Nothing passes between one worker, or all, and the database for a while; then all of it does, or it is cut."""
    wires = _wires(world)
    if world.chance.random() < 0.5:
        wires = [world.chance.choice(wires)]
    for wire in wires:
        wire.stall("out", "back")
    time.sleep(world.chance.uniform(1.0, 10.0))
    cut = world.chance.random() < 0.5
    for wire in wires:
        if cut:
            wire.cut()
        wire.mend()


def _wires(world: World) -> list[Wire]:
    return [bus.store_wire for bus in world.buses if bus.store_wire is not None]


def _database(world: World) -> Database:
    assert world.database is not None
    return world.database
