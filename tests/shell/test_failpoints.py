"""Failpoints: when they fire, and that the worker passes every one of them."""

from __future__ import annotations

import pytest

from bus.core.errors import BusError
from bus.shell.failpoints import POINTS, failpoints, nothing
from tests.shell.test_worker import World


def fired(text: str, passes: list[str]) -> list[int]:
    """Passes, counted from 1, at which the process would have died."""
    deaths: list[int] = []
    reach = failpoints(text, lambda: deaths.append(number))
    for number, point in enumerate(passes, 1):  # noqa: B007 - the closure reads it
        reach(point)
    return deaths


def test_off_is_a_function_that_does_nothing() -> None:
    assert failpoints("") is nothing


def test_the_nth_pass_of_one_point() -> None:
    assert fired("before-ack=kill:#2", ["before-ack", "after-commit", "before-ack", "before-ack"]) == [3]


def test_a_probability_is_drawn_from_the_seed() -> None:
    passes = ["after-commit"] * 1000
    once = fired("seed=7,after-commit=kill:0.05", passes)
    assert 20 < len(once) < 90
    assert fired("seed=7,after-commit=kill:0.05", passes) == once
    assert fired("seed=8,after-commit=kill:0.05", passes) != once


@pytest.mark.parametrize(
    "text", ["nowhere=kill:0.1", "after-commit", "after-commit=kill:2", "after-commit=kill:#0", "after-commit=stop:#1"]
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BusError, match="BUS_FAILPOINTS"):
        failpoints(text)


def test_the_worker_passes_every_point() -> None:
    passed: set[str] = set()
    world = World()
    world.worker._reach = passed.add
    for number in range(5):
        world.send(f"m{number}")
    world.steps(6)
    world.crash()  # in the middle: something is left to replay
    world.worker._reach = passed.add
    world.settle()
    assert passed == set(POINTS)
