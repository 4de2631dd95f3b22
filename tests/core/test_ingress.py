"""The rules by which the partitions of a namespace grow."""

from __future__ import annotations

import pytest

from bus.core.errors import BusError
from bus.core.ingress import Ingress, as_json, drained, from_json, grown, setting_note

FOUR = Ingress((4,))


def test_a_generation_numbers_its_partitions_on() -> None:
    ingress = grown(FOUR, 6)
    assert [list(each.partitions) for each in ingress.generations] == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
    assert (ingress.served.number, ingress.last.number, ingress.growing) == (0, 1, True)
    assert ingress.attended({1, 3}) == (1, 3)  # of the generation that is served; nothing of the new one


def test_it_is_served_when_the_last_partition_is_drained() -> None:
    ingress = drained(drained(grown(FOUR, 6), [2]), [0, 2, 3])
    assert (ingress.left, ingress.growing) == ((1,), True)
    assert [ingress.retired(each) for each in range(4)] == [True, False, True, True]
    ingress = drained(ingress, [1])
    assert ingress == Ingress((4, 6), serving=1)
    assert ingress.attended({1, 5}) == (1, 5, 9)  # the retired ones go with the slots
    assert all(ingress.retired(each) for each in range(4))
    assert not any(ingress.retired(each) for each in range(4, 10))


def test_late_news_of_an_older_growth_changes_nothing() -> None:
    done = Ingress((4, 6), serving=1)
    assert drained(done, [0, 1, 2, 3, 4]) == done
    assert drained(grown(done, 8), [0]) == grown(done, 8)


def test_asking_again_changes_nothing() -> None:
    assert grown(FOUR, 4) == FOUR
    assert grown(grown(FOUR, 8), 8) == grown(FOUR, 8)


@pytest.mark.parametrize(
    ("ingress", "partitions", "instead"),
    [
        (FOUR, 2, "leave them, or give a new bus a --namespace of its own"),
        (FOUR, 0, "write a number from 1 to 100"),
        (FOUR, 101, "write a number from 1 to 100"),
        (Ingress((4, 8)), 16, "write --partitions 8 to see how far it is"),
        (Ingress((4, 8)), 4, "write --partitions 8 to see how far it is"),
    ],
)
def test_what_cannot_be_grown_is_refused_and_says_what_can(ingress: Ingress, partitions: int, instead: str) -> None:
    with pytest.raises(BusError, match=instead):
        grown(ingress, partitions)


def test_a_setting_changes_nothing_and_says_what_does() -> None:
    grew = Ingress((4, 8), serving=1)
    assert setting_note(Ingress(), 7) == setting_note(grew, None) == setting_note(grew, 8) == ""
    assert "write 8" in setting_note(grew, 4)  # it was right once: a restart must not fail because of it
    with pytest.raises(BusError, match="bus topology grow --partitions 16"):
        setting_note(grew, 16)
    with pytest.raises(BusError, match="never become fewer; write 8 or leave it out"):
        setting_note(grew, 2)


def test_what_is_written_is_read_back() -> None:
    for ingress in (Ingress(), FOUR, drained(grown(FOUR, 8), [3, 1])):
        assert from_json(as_json(ingress)) == ingress
    assert from_json({}) == Ingress()
