"""When a partition counts as drained."""

from __future__ import annotations

from bus.core.naming import ingress_queue
from bus.shell.drainage import AGAIN_S, SETTLE_S, Drainage

QUEUES = [ingress_queue("ns", each) for each in (0, 1)]


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def begin() -> tuple[Drainage, Clock]:
    clock = Clock()
    return Drainage("ns", [0, 1], "word", clock), clock


def come_back(drainage: Drainage, queue: str = QUEUES[0]) -> None:
    """The marks that are due go through the queue."""
    for mark in drainage.due():
        if mark.routing_key == queue:
            drainage.marked(queue, mark.output.body)


def test_two_marks_come_back_with_a_pause_between_them() -> None:
    drainage, clock = begin()
    assert sorted(mark.routing_key for mark in drainage.due()) == QUEUES
    assert drainage.due() == []  # they are under way
    drainage.marked(QUEUES[0], b"word")
    assert not drainage.settled()
    clock.now_s += SETTLE_S
    come_back(drainage)
    assert drainage.settled() == {0}
    drainage.end([0])
    assert not drainage.settled()
    clock.now_s += AGAIN_S
    assert [mark.routing_key for mark in drainage.due()] == [QUEUES[1]]  # lost, or refused: again


def test_what_comes_in_between_begins_it_anew() -> None:
    drainage, clock = begin()
    come_back(drainage)
    clock.now_s += SETTLE_S
    drainage.arrived(QUEUES[0])
    come_back(drainage)
    assert not drainage.settled()
    clock.now_s += SETTLE_S
    come_back(drainage)
    assert drainage.settled() == {0}
    drainage.arrived(QUEUES[0])
    assert not drainage.settled()


def test_a_mark_that_was_sent_too_early_says_nothing_of_the_pause() -> None:
    drainage, clock = begin()
    early = drainage.due()[0]
    drainage.marked(QUEUES[0], b"word")
    clock.now_s += SETTLE_S - 0.1
    assert drainage.due() == []
    drainage.marked(QUEUES[0], early.output.body)  # it was published twice, say
    clock.now_s += 0.2
    assert not drainage.settled()


def test_a_mark_of_somebody_else_says_nothing() -> None:
    drainage, clock = begin()
    drainage.due()
    drainage.marked(QUEUES[0], b"guess")
    clock.now_s += SETTLE_S
    drainage.marked(QUEUES[0], b"guess")
    drainage.marked(ingress_queue("ns", 7), b"word")
    assert not drainage.settled()
