"""Nothing is acked, and no watermark passes, before all that came earlier is finished."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bus.ports import Tag
from bus.shell.ledger import Ledger, Open, Watermark


def opened(seq: int, left: int, tag: int, *, behind: int | None = None) -> Open:
    return Open(0, seq, (), left, [Tag(1, tag)], 0.0, behind=behind)


def ledger() -> Ledger:
    made = Ledger()
    made.start(0, 0)
    return made


@given(st.permutations(list(range(1, 12))))
def test_a_watermark_is_the_end_of_what_is_complete(order: list[int]) -> None:
    mark, finished = Watermark(0), set()
    for number in order:
        mark.finish(number)
        finished.add(number)
        complete = next(n for n in range(1, 13) if n not in finished) - 1
        assert mark.value == complete


def test_an_ack_waits_for_the_lowest() -> None:
    made = ledger()
    first, second = opened(1, 2, 1), opened(2, 1, 2)
    made.add(first)
    made.add(second)
    made.settle(second)
    assert made.ackable() is None
    assert made.marks() == {}
    made.settle(first)
    assert made.ackable() is None
    made.settle(first)
    assert made.ackable() == Tag(1, 2)
    assert made.ackable() is None
    assert made.marks() == {0: 2}


def test_a_duplicate_is_freed_with_what_it_repeats() -> None:
    made = ledger()
    first, again = opened(1, 1, 1), opened(2, 0, 2, behind=1)
    made.add(first)
    made.add(again)
    assert made.ackable() is None
    made.settle(first)
    assert made.ackable() == Tag(1, 2)


def test_tags_of_an_old_generation_count_for_nothing() -> None:
    made = ledger()
    made.free(Tag(1, 1))
    made.free(Tag(2, 1))
    made.free(Tag(1, 2))
    assert made.ackable() == Tag(2, 1)
