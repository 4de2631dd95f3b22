"""Faults of the bus's own processes: of any one of them, whether it owns something or stands by."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time

from bus.shell.failpoints import POINTS
from tests.chaos.children import ROOT, poll
from tests.chaos.world import World

PAUSE_S = 50.0  # beyond what the broker waits for a heartbeat of 15 s: 30 to 45 s
FAILPOINT_S = 20.0  # a failpoint that is not reached by then will not be: nothing was to be replayed, for one


def kill(world: World) -> None:
    """kill -9, started again at once; sometimes again before it has come up."""
    bus = world.a_bus()
    bus.signal(signal.SIGKILL)
    world.kills += 1
    if world.chance.random() < 0.25:
        time.sleep(world.chance.uniform(0.2, 1.5))
        bus.wait_gone()
        bus.signal(signal.SIGKILL)
        world.kills += 1
    bus.wait_ready()


def handover(world: World) -> None:
    """SIGTERM under load: it drains, ends by itself with 0, and another one takes over."""
    bus = world.a_bus()
    bus.signal(signal.SIGTERM)
    if not bus.wait_gone():
        world.remarks.append(f"{bus.name} did not end after SIGTERM")
        bus.signal(signal.SIGKILL)
    elif bus.ends[-1].code != 0:
        world.remarks.append(f"{bus.name} ended with {bus.ends[-1].code} after SIGTERM")
    bus.wait_ready()


def grow_partitions(world: World) -> None:
    """Two partitions more, under load, and in half of the cases kill -9 on the way; over when they are served."""
    with contextlib.closing(world.log()) as log:
        ingress = log.ingress()
        wanted = ingress.last.size + (0 if ingress.growing else 2)
        words = ["topology", "grow", "--partitions", str(wanted), "--despite-held", "--no-wait", "--output", "json"]
        store = {} if world.database is None else {"BUS_STORE": world.database.server.url}
        command, quiet = [sys.executable, "-m", "bus", *words], subprocess.DEVNULL
        subprocess.run(command, stdout=quiet, env={**world.environment, **store}, cwd=ROOT, check=True)
        if world.chance.random() < 0.5:
            time.sleep(world.chance.uniform(0.0, 5.0))
            bus = world.a_bus()
            bus.signal(signal.SIGKILL)
            world.kills += 1
            bus.wait_ready()
        if not poll(lambda: not log.ingress().growing and log.ingress().last.size == wanted):
            world.remarks.append(f"it does not get on to {wanted} partitions: {log.ingress()}, {log.backlog()}")


def pause(world: World) -> None:
    """SIGSTOP until the broker has given it up, then SIGCONT: it acts on what it believed before."""
    bus = world.a_bus()
    bus.signal(signal.SIGSTOP)
    time.sleep(PAUSE_S)
    bus.signal(signal.SIGCONT)


def failpoint(world: World) -> None:
    """kill -9, and the next life dies at a named step of the protocol."""
    bus = world.a_bus()
    point = world.chance.choice(tuple(POINTS))
    often = point.startswith("during") or point == "after-ack"
    nth = world.chance.randint(1, 2 if often else 12)
    bus.once["BUS_FAILPOINTS"] = f"{point}=kill:#{nth}"
    world.note("failpoint", point=point, nth=nth)
    bus.signal(signal.SIGKILL)
    world.kills += 1
    bus.wait_gone()
    bus.expect_end()
    if bus.wait_gone(FAILPOINT_S):
        world.kills += 1
        world.counts[f"failpoint {point}"] += 1
    else:  # disarm it, or it dies at a time that nobody knows of
        bus.signal(signal.SIGKILL)
        world.kills += 1
    bus.wait_ready()
