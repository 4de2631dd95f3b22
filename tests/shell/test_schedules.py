"""Schedules through the whole worker, in memory and by a clock that the test turns: each planned time once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus.core.ingress import grown
from bus.core.route import Agent, Catalog, MessageType, Schedule
from bus.core.times import rfc3339
from bus.shell.topology import plan
from tests.core.world import FACTS, catalog
from tests.shell.test_worker import NS, World

MINUTE = Schedule("shop/minute", "* * * * *", "UTC", "tick", {"n": 1})
CLOCK = Agent("clock", "external", subscribes=("tick", "tock"))


def made(*schedules: Schedule) -> Catalog:
    sound = catalog(types={"tick": MessageType("tick", None), "tock": MessageType("tock", None)})
    return replace(sound, agents={"clock": CLOCK}, schedules=schedules)


class Clocked(World):
    """A bus with schedules, and how often each message has come to `clock`."""

    def __init__(self, *schedules: Schedule) -> None:
        super().__init__(made=made(*schedules))
        self.rest(1)

    def rest(self, seconds: int) -> None:
        """Let time pass, and all happen that then can."""
        for _ in range(seconds):
            self.broker.advance(1.0)
            while self.transport.step():
                pass

    def restart(self, down_s: float, *schedules: Schedule) -> None:
        self.transport.lose("crash")
        self.transport.step()
        self.catalog = made(*schedules)
        self.store = self.store.reopen()
        self.broker.advance(down_s)
        self.begin()
        self.rest(2)

    def came(self) -> list[str]:
        """When they came, and of which type, by the time that each says."""
        return [f"{each['type']} {each['time'][11:19]}" for each in self.queue("agent.clock")]


def test_what_is_planned_is_sent_once_by_the_bus() -> None:
    world = Clocked(MINUTE)
    assert rfc3339(FACTS.now_s)[11:19] == "08:00:00"
    world.rest(200)
    assert world.came() == ["tick 08:01:00", "tick 08:02:00", "tick 08:03:00"]
    event = world.queue("agent.clock")[0]
    assert (event["source"], event["data"]) == ("bus", {"n": 1})


def test_of_what_was_missed_the_latest_is_sent_and_then_it_goes_on() -> None:
    world = Clocked(MINUTE)
    world.rest(70)
    world.restart(600.0, MINUTE)
    assert [each.split()[1][:5] for each in world.came()] == ["08:01", "08:11"]
    world.rest(60)
    assert [each.split()[1][:5] for each in world.came()] == ["08:01", "08:11", "08:12"]


def test_another_plan_begins_anew_and_what_is_gone_leaves_no_row() -> None:
    other = replace(MINUTE, name="shop/other", type="tock")
    world = Clocked(MINUTE, other)
    world.restart(600.0, replace(MINUTE, cron="*/5 * * * *"))
    assert world.came() == []  # 08:10 was not planned when it passed, and nobody wants the other any more
    world.rest(300)
    assert world.came() == ["tick 08:15:00"]
    assert len(world.store.reopen().claim(2)[0].held) == 1


def test_they_go_on_while_a_namespace_grows_and_after_it() -> None:
    world = Clocked(MINUTE)
    world.rest(70)
    before = world.store.ingress()
    after = grown(before, 3)
    world.broker.declare(plan(NS, after, world.catalog))
    assert world.store.set_ingress(before, after)
    world.rest(120)
    assert not world.store.ingress().growing
    world.restart(0.0, MINUTE)
    world.rest(60)
    assert [each.split()[1][:5] for each in world.came()] == ["08:01", "08:02", "08:03", "08:04"]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["rest", "step", "crash", "lose"]), st.integers(1, 90)), max_size=12))
@example([("rest", 58), ("step", 1), ("crash", 1), ("step", 2), ("crash", 1), ("rest", 5)])
def test_whatever_fails_each_planned_time_comes_once(script: list[tuple[str, int]]) -> None:
    world = Clocked(MINUTE)
    for what, number in script:
        if what == "rest":
            world.rest(number)
        else:
            world.suffer(what, number, [])
    world.settle()
    world.rest(70)
    events = world.queue("agent.clock")
    times = {each["id"]: each["time"] for each in events}
    minutes = [text[:16] for text in times.values()]
    assert len(minutes) == len(set(minutes)) > 0
