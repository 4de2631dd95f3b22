"""What partitions there are, as every store keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.core.ingress import Ingress, drained, grown
from bus.ports import Commit, Held
from bus.shell import growth_wish
from bus.shell.history_log import Log
from bus.shell.postgres_log import PostgresLog
from bus.shell.sqlite_log import SqliteLog
from bus.shell.sqlite_store import SqliteStore
from tests.contract.stores import KINDS, Bench, PostgresBench, entry, key_of, make, output

FOUR = Ingress((4,))


def postgres_log(bench: Bench, home: Path) -> Log:
    assert isinstance(bench, PostgresBench)
    return PostgresLog(bench._url, bench._namespace, home)


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = make(request.param, tmp_path)
    yield made
    made.close()


def test_it_is_empty_at_first_and_survives_a_restart(bench: Bench) -> None:
    assert bench.store.ingress() == Ingress()
    growing = drained(grown(FOUR, 8), [2, 0])
    assert bench.store.set_ingress(Ingress(), growing)
    assert bench.restart().ingress() == growing


def test_of_two_who_change_it_one_wins(bench: Bench) -> None:
    rival = bench.rival()
    assert bench.store.set_ingress(Ingress(), FOUR)
    assert not rival.set_ingress(Ingress(), Ingress((8,)))
    one, two = grown(FOUR, 8), grown(FOUR, 16)
    assert rival.set_ingress(FOUR, one)
    assert not bench.store.set_ingress(FOUR, two)
    assert bench.store.ingress() == rival.ingress() == one
    assert not bench.store.set_ingress(drained(one, [1]), Ingress((4, 8), serving=1))
    rival.close()


def test_identities_of_partitions_that_others_own_can_be_read(bench: Bench) -> None:
    store = bench.store
    store.claim(3, [0, 1])
    store.commit(Commit({0: [entry(1, "a"), entry(2, "a")], 1: [entry(1, "b")]}))
    store.claim(3, [2])
    assert list(store.keys(10)) == []
    found = [(0, 0, key_of(1, "a").key), (0, 0, key_of(2, "a").key), (1, 0, key_of(1, "b").key)]
    assert list(store.keys(10, [1, 0])) == found
    assert list(store.keys(1, [0])) == found[1:2]
    assert store.seen(0, 0, key_of(1, "a").key) == (1, key_of(1, "a").content)


def test_a_wish_beside_a_file_is_taken_in_once(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    store = SqliteStore(path)
    store.set_ingress(Ingress(), FOUR)
    growth_wish.leave(path, 8)
    growth_wish.leave(path, 6)  # who comes later is heard
    assert SqliteLog(path).ingress() == FOUR  # readers do not take it in
    assert store.ingress() == grown(FOUR, 6)
    growth_wish.leave(path, 2)
    assert store.ingress() == grown(FOUR, 6)  # it cannot be done: dropped, with a word in the log
    assert growth_wish.waiting(path) is None
    store.close()
    growth_wish.leave(path, 6)
    store = SqliteStore(path)
    assert store.ingress() == grown(FOUR, 6)
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_log_tells_what_is_left_by_partition(kind: str, tmp_path: Path) -> None:
    bench = make(kind, tmp_path)
    store = bench.store
    store.claim(2)
    waits = Held(1, 2, 0, "c\0agent:greeter", 1.0, 1, "the queue is full")
    lease = Held(1, 2, 1, "c\0lease:0123", 1.0, 1, "nobody has accepted it yet")
    schedule = Held(1, 2, 2, "c\0schedule:shop/nightly", 1.0, 0, "sent up to now")
    entries = [entry(1), entry(2, outputs=[output(), output(), output()])]
    store.commit(Commit({1: entries}, done={1: 1}, hold=[waits, lease, schedule]))
    log: Log = SqliteLog(tmp_path / "bus.db") if kind == "sqlite" else postgres_log(bench, tmp_path)
    assert log.backlog() == {0: (0, 0), 1: (1, 1)}
    assert log.ingress() == Ingress()
    log.close()
    bench.close()
