"""Pausing and resuming under crashes, losses and repeats: what waits goes on in order, once, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core import naming
from bus.shell import tenure
from bus.shell.controls import Standing
from bus.shell.obedience import Obedience
from tests.core.world import structured
from tests.shell.test_worker import NS, World


class Operated(World):
    """A world with an operator."""

    said = 0

    def more(self) -> dict[str, Any]:
        self.stood: list[Standing] = []
        return {"on_told": self.stood.append}

    def tell(self, verb: str, **data: Any) -> None:
        self.said += 1
        message = structured(f"bus.control.{verb}", data, source="cli", id_=f"o{self.said}", conversationid="operator")
        self.broker.publish(naming.ingress_exchange(NS), message._replace(user_id="bus"))


def test_a_paused_route_lets_its_messages_wait_and_goes_on_in_order() -> None:
    world = Operated()
    world.settle()
    world.send("m0")
    world.tell("pause", route="t/grade")
    world.settle()
    for number in range(1, 6):
        world.send(f"m{number}", f"c{number % 2}")
    world.send("m1", "c1")  # its sender did not get the confirm
    world.settle()
    assert world.asked() == ["m0"]
    world.crash()
    world.settle()
    assert world.asked() == ["m0"]
    world.tell("resume", route="t/grade")
    world.settle()
    asked = world.asked()
    assert [each for each in asked if each in ("m1", "m3", "m5")] == ["m1", "m3", "m5"]
    assert [each for each in asked if each in ("m2", "m4")] == ["m2", "m4"]
    assert len(world.queue("capability.grade")) == 6
    assert [key for p in range(2) for key, _ in world.store.states(p)] == []


def test_what_comes_while_a_long_line_is_let_go_waits_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenure, "BATCH", 3)
    world = Operated()
    world.tell("pause", route="t/grade")
    world.settle()
    for number in range(20):
        world.send(f"m{number}")
    world.settle()
    world.tell("resume", route="t/grade")
    for number in range(20, 40):
        world.send(f"m{number}")
        world.steps(1)
    world.settle()
    assert world.asked() == [f"m{number}" for number in range(40)]


def test_another_route_is_not_paused_and_an_event_for_a_paused_one_waits() -> None:
    world = Operated()
    world.tell("pause", route="t/grade")
    world.settle()
    world.send("m0", type_="order.in")  # the route `hop` makes an event of it, which `grade` owns
    world.settle()
    assert world.asked() == []
    world.tell("resume", route="t/grade")
    world.settle()
    assert len(world.asked()) == 1


def test_a_paused_capability_gets_nothing_and_then_all_of_it_in_order() -> None:
    world = Operated()
    world.tell("pause", capability="grade")
    world.settle()
    for number in range(6):
        world.send(f"m{number}", f"c{number % 2}")
    world.settle()
    assert world.asked() == []
    world.crash()
    world.settle()
    assert world.asked() == []
    world.tell("resume", capability="grade")
    world.settle()
    asked = world.asked()
    assert [each for each in asked if each in ("m0", "m2", "m4")] == ["m0", "m2", "m4"]
    assert sorted(asked) == [f"m{number}" for number in range(6)]


def test_another_process_hears_it_too_and_does_once_what_is_to_be_done_once() -> None:
    world = Operated()
    world.tell("log-level", level="debug")
    world.tell("drain")
    world.settle()
    acts: list[str] = []
    obedience = Obedience("info", lambda: acts.append("reload"), lambda: acts.append("drain"))
    for standing in world.stood:
        obedience.told(standing)
    assert acts == ["drain"]
    world.crash()  # as if it had drained and was started again: what was said before that is done
    world.settle()
    fresh = Obedience("info", lambda: acts.append("reload"), lambda: acts.append("drain"))
    for standing in world.stood:
        fresh.told(standing)
    assert acts == ["drain"]
    assert world.stood[-1].level == "debug"
    # Said through another worker: this one reads it from the store when it looks after its leases.
    world.store._disk.states.clear()
    world.broker.advance(2.0)
    world.steps(20)
    assert world.stood[-1] == Standing()
    obedience.told(Standing())  # gives the level of this process back


actions = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2)),
        st.tuples(st.just("again"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["pause", "resume"]), st.integers(0, 1)),
        st.tuples(st.just("step"), st.integers(1, 9)),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("time"), st.integers(1, 7)),
    ),
    max_size=50,
)
WHAT: list[dict[str, Any]] = [{"route": "t/grade"}, {"capability": "grade"}]


@settings(max_examples=150, deadline=None)
@given(script=actions)
def test_whatever_happens_all_of_it_goes_on_once_and_in_order(script: list[tuple[str, int]]) -> None:
    world = Operated()
    sent: list[tuple[str, str]] = []
    for what, number in script:
        if what == "send":
            sent.append((f"m{len(sent)}", f"c{number}"))
            world.send(*sent[-1])
        elif what == "again" and number < len(sent):
            world.send(*sent[number])
        elif what in ("pause", "resume"):
            world.tell(what, **WHAT[number])
        else:
            world.suffer(what, number, [])
    for each in WHAT:
        world.tell("resume", **each)
    world.settle()
    asked = world.asked()
    assert sorted(asked) == sorted(name for name, _ in sent)
    for conversation in range(3):
        own = [name for name, where in sent if where == f"c{conversation}"]
        assert [each for each in asked if each in own] == own
    assert world.queue("dead") == world.queue("invalid") == []
    assert [key for p in range(2) for key, _ in world.store.states(p)] == []


@pytest.fixture(autouse=True)
def _level() -> Any:
    import logging

    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)
