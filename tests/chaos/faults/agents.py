"""Faults of agents: killed at any time, or between the steps of answering."""

from __future__ import annotations

import signal

from tests.chaos.world import World

BOMB_S = 10.0  # an agent that nothing is asked of does not get to the place where it would die


def kill(world: World) -> None:
    """kill -9 of one agent."""
    agent = world.agents[world.chance.choice(tuple(world.agents))]
    agent.signal(signal.SIGKILL)
    world.kills += 1
    agent.wait_ready()


def before_reply(world: World) -> None:
    """The next life of an agent dies between an effect and the reply."""
    _arm(world, "before-reply")


def after_reply(world: World) -> None:
    """The next life of an agent dies between a confirmed reply and the ack of the request."""
    _arm(world, "after-reply")


def _arm(world: World, place: str) -> None:
    agent = world.agents[world.chance.choice(tuple(world.agents))]
    agent.once["CHAOS_DIE"] = f"{place}={world.chance.randint(1, 30)}"
    agent.signal(signal.SIGKILL)
    world.kills += 1
    agent.wait_gone()
    agent.expect_end()
    if not agent.wait_gone(BOMB_S):
        agent.signal(signal.SIGKILL)  # disarm it
    world.kills += 1
    agent.wait_ready()
