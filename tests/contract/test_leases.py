"""Who may work on which partition: what stores that serve several workers guarantee."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.ports import Share, Store
from bus.shell.lease_rules import Leases, leased, released
from bus.shell.memory_store import MemoryStore
from tests.contract.stores import Bench, PostgresBench, make

TTL_S = 0.4  # real seconds where the clock is the database's


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Office:
    """Stores of several workers, and a way to let time pass."""

    def __init__(self, kind: str) -> None:
        self.clock = Clock()
        self.memory = MemoryStore(clock=self.clock)
        self.bench: Bench | None = PostgresBench() if kind == "postgres" else None

    def worker(self) -> Store:
        return self.bench.rival() if self.bench is not None else self.memory.reopen()

    def pass_(self, seconds: float) -> None:
        self.clock.now_s += seconds
        if self.bench is not None:
            time.sleep(seconds)

    def close(self) -> None:
        if self.bench is not None:
            self.bench.close()


@pytest.fixture(params=["memory", "postgres"])
def office(request: pytest.FixtureRequest) -> Iterator[Office]:
    made = Office(request.param)
    yield made
    made.close()


def test_a_worker_alone_gets_everything(office: Office) -> None:
    assert office.worker().lease("a", 5, TTL_S) == Share(frozenset(range(5)))


def test_a_newcomer_gets_its_share_when_it_is_given_back(office: Office) -> None:
    a, b = office.worker(), office.worker()
    a.lease("a", 5, 60)
    assert b.lease("b", 5, 60) == Share(frozenset())  # nothing is taken away from a worker that lives
    assert a.lease("a", 5, 60) == Share(frozenset(range(5)), frozenset({3, 4}))
    a.release("a", [4])
    assert b.lease("b", 5, 60) == Share(frozenset({4}))
    assert a.lease("a", 5, 60) == Share(frozenset({0, 1, 2, 3}), frozenset({3}))
    a.release("a", [3])
    assert a.lease("a", 5, 60) == Share(frozenset({0, 1, 2}))
    assert b.lease("b", 5, 60) == Share(frozenset({3, 4}))


def test_nobody_gives_back_what_another_owns(office: Office) -> None:
    a, b = office.worker(), office.worker()
    a.lease("a", 2, 60)
    b.release("b", [0])
    b.release("b")
    assert b.lease("b", 2, 60).owned == frozenset()
    assert a.lease("a", 2, 60).owned == {0, 1}


def test_a_worker_that_leaves_frees_its_partitions_at_once(office: Office) -> None:
    a, b = office.worker(), office.worker()
    a.lease("a", 4, 60)
    a.release("a")
    assert b.lease("b", 4, 60) == Share(frozenset(range(4)))


def test_leases_of_a_dead_worker_run_out_and_no_sooner(office: Office) -> None:
    a, b = office.worker(), office.worker()
    a.lease("a", 3, TTL_S)
    assert b.lease("b", 3, 60).owned == frozenset()
    office.pass_(TTL_S * 0.6)
    a.lease("a", 3, TTL_S)
    office.pass_(TTL_S * 0.6)
    assert b.lease("b", 3, 60).owned == frozenset()  # renewed meanwhile
    office.pass_(TTL_S * 0.6)
    assert b.lease("b", 3, 60) == Share(frozenset({0, 1, 2}))
    assert a.lease("a", 3, TTL_S) == Share(frozenset())  # it was not dead, but late


def test_fewer_partitions_free_those_beyond(office: Office) -> None:
    a, b = office.worker(), office.worker()
    a.lease("a", 4, 60)
    assert a.lease("a", 2, 60).owned == {0, 1}
    assert b.lease("b", 4, 60).owned == {2, 3}


def test_leases_survive_a_new_handle(office: Office) -> None:
    a = office.worker()
    a.lease("a", 2, 60)
    a.close()
    assert office.worker().lease("b", 2, 60).owned == frozenset()
    assert office.worker().lease("a", 2, 60).owned == {0, 1}


def test_workers_that_lease_at_the_same_time_own_nothing_twice() -> None:
    bench = PostgresBench()
    stores = {name: bench.rival() for name in "abcdef"}

    def turn(name: str) -> frozenset[int]:
        """Lease and give back; returns what this worker believes it owns when the others may still be at it."""
        for _ in range(30):
            share = stores[name].lease(name, 16, 60)
            stores[name].release(name, share.surplus)
        return share.owned - share.surplus

    try:
        with ThreadPoolExecutor(len(stores)) as threads:
            believed = list(threads.map(turn, stores))
    finally:
        bench.close()
    assert sum(map(len, believed)) == len(frozenset().union(*believed))


def test_one_file_leases_everything_to_its_process(tmp_path: Path) -> None:
    store = make("sqlite", tmp_path).store
    assert store.lease("a", 3, 1.0) == Share(frozenset({0, 1, 2}), exclusive=True)
    store.release("a")
    store.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["lease", "lease", "lease", "give", "leave", "die", "wait"]),
        st.sampled_from("abcd"),
        st.integers(0, 7),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(steps=STEPS, of=st.integers(1, 8))
def test_no_partition_has_two_owners_and_all_are_spread_in_the_end(steps: list[tuple[str, str, int]], of: int) -> None:
    """What each worker may believe: its last share, until the lease that came with it runs out."""
    state, now_s, ttl_s = Leases(), 0.0, 6.0
    believed: dict[str, tuple[float, frozenset[int]]] = {}
    for what, name, number in steps:
        if what == "lease":
            state, share = leased(state, name, of, now_s, ttl_s)
            assert share.surplus <= share.owned
            believed[name] = (now_s + ttl_s, share.owned)
        elif what == "give" and name in believed:
            until, owned = believed[name]
            state, believed[name] = released(state, name, [number]), (until, owned - {number})
        elif what in ("leave", "die"):  # who dies says nothing, and nobody counts on it until its lease has run out
            state = released(state, name, None) if what == "leave" else state
            if what == "leave":
                believed.pop(name, None)
        elif what == "wait":
            now_s += number
        holders = Counter(each for until, owned in believed.values() if until > now_s for each in owned)
        assert not [each for each, times in holders.items() if times > 1]
    now_s += ttl_s  # those who died are dead now
    living = sorted(believed) or ["a"]
    counts = {}
    for _ in range(2 * of + 2):
        for name in living:
            state, share = leased(state, name, of, now_s, ttl_s)
            state = released(state, name, share.surplus)
            counts[name] = len(share.owned - share.surplus)
        now_s += 1.0
    assert set(state.owners) == set(range(of))
    assert sum(counts.values()) == of
    assert max(counts.values()) - min(counts.values()) <= 1
