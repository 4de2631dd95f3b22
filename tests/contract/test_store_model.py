"""Random commits, claims and restarts, compared with a model that is too simple to be wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bus.core.errors import StoreFailed
from bus.ports import Commit, Entry, Excepted, Held
from tests.audit.strategies import OUTPUTS
from tests.contract.stores import Bench, key_of, make, plain

PARTITIONS = 2
PLACES = st.tuples(st.integers(0, PARTITIONS - 1), st.integers(1, 1030), st.integers(0, 2))
SIZES = st.lists(st.lists(OUTPUTS, max_size=2).map(tuple), max_size=4)


class StoreMachine(RuleBasedStateMachine):
    """`kind` is set by the subclass."""

    kind = ""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.bench: Bench = make(self.kind, Path(self.folder.name))
        self.logs: list[list[Entry]] = [[] for _ in range(PARTITIONS)]
        self.done = [0] * PARTITIONS
        self.held: dict[tuple[int, int, int], Held] = {}
        self.settled: dict[tuple[int, int, int], Excepted] = {}
        self.pruned = [0] * PARTITIONS
        self.bench.store.claim(PARTITIONS)
        self.bench.store.commit(Commit({0: plain(1, 1018)}))  # so that short runs cross a bucket
        self.logs[0] = plain(1, 1018)

    @rule(
        sizes=st.tuples(SIZES, SIZES),
        done=st.tuples(st.none() | st.integers(0, 1030), st.none() | st.integers(0, 5)),
        hold=st.lists(PLACES, max_size=2),
        release=st.lists(PLACES, max_size=1),
        settle=st.lists(PLACES, max_size=2),
        number=st.integers(0, 9),
    )
    def commit(
        self,
        sizes: tuple[list[tuple[object, ...]], ...],
        done: tuple[int | None, ...],
        hold: Sequence[tuple[int, int, int]],
        release: Sequence[tuple[int, int, int]],
        settle: Sequence[tuple[int, int, int]],
        number: int,
    ) -> None:
        entries = {}
        for partition, bundles in enumerate(sizes):
            first = len(self.logs[partition]) + 1
            entries[partition] = [
                Entry(seq, key_of(seq, str(partition)) if seq % 3 else None, b"r%d" % seq, b"i" * number, outputs)  # type: ignore[arg-type]
                for seq, outputs in enumerate(bundles, first)
            ]
        marks = {partition: mark for partition, mark in enumerate(done) if mark is not None}
        rows = [Held(*place, f"key\0{number}", number / 7, number, "why") for place in hold]
        gone = [Excepted(*place, "returned", number / 3, "why") for place in settle]
        batch = Commit(entries, marks, rows, [Held(*place, "", 0.0, 0, "") for place in release], gone)
        if any(mark > len(self.logs[p]) + len(entries[p]) for p, mark in marks.items()):
            with pytest.raises(StoreFailed, match="nothing was written"):
                self.bench.store.commit(batch)
            return
        self.bench.store.commit(batch)
        self._apply(batch)

    def _apply(self, batch: Commit) -> None:
        for partition, entries in batch.entries.items():
            self.logs[partition] += entries
        for partition, mark in batch.done.items():
            self.done[partition] = max(self.done[partition], mark)
        for each in batch.release:
            self.held.pop((each.partition, each.seq, each.index), None)
        self.held.update({(h.partition, h.seq, h.index): h for h in batch.hold})
        self.settled.update({(e.partition, e.seq, e.index): e for e in batch.exceptions})

    @rule(how=st.sampled_from(["again", "restart", "rival"]))
    def claim(self, how: str) -> None:
        old = self.bench.store
        if how == "restart":
            self.bench.restart()
        elif how == "rival":
            self.bench.store = self.bench.rival()
        claims = self.bench.store.claim(PARTITIONS)
        if how == "rival":
            with pytest.raises(StoreFailed, match="another owner"):
                old.commit(Commit({0: plain(len(self.logs[0]) + 1, len(self.logs[0]) + 1)}))
            old.close()
        for partition, claimed in enumerate(claims):
            done = self.done[partition]
            assert (claimed.next_seq, claimed.done) == (len(self.logs[partition]) + 1, done)
            assert list(claimed.pending) == self.logs[partition][done:]
            assert list(claimed.held) == [row for place, row in sorted(self.held.items()) if place[0] == partition]
            assert claimed.settled == {p[1:] for p in self.settled if p[0] == partition and p[1] > done}

    def _keys(self, partition: int) -> list[tuple[int, int, bytes]]:
        return [
            (partition, each.seq // 1024, each.inbox.key)
            for each in self.logs[partition]
            if each.inbox and each.seq // 1024 >= self.pruned[partition]
        ]

    @rule(newest=st.integers(0, 12))
    def keys(self, newest: int) -> None:
        expected = [key for p in range(PARTITIONS) for key in self._keys(p)[max(len(self._keys(p)) - newest, 0) :]]
        assert list(self.bench.store.keys(newest)) == expected

    @rule(keep=st.integers(1, 12))
    def prune(self, keep: int) -> None:
        before = sum(len(self._keys(partition)) for partition in range(PARTITIONS))
        for partition in range(PARTITIONS):
            kept = self._keys(partition)[-keep:]
            if kept:
                self.pruned[partition] = kept[0][1]
        after = sum(len(self._keys(partition)) for partition in range(PARTITIONS))
        assert self.bench.store.prune(keep) == before - after

    @rule(place=PLACES)
    def look(self, place: tuple[int, int, int]) -> None:
        partition, seq, _ = place
        if seq > len(self.logs[partition]):
            with pytest.raises(KeyError):
                self.bench.store.entry(partition, seq)
            return
        entry = self.logs[partition][seq - 1]
        assert self.bench.store.entry(partition, seq) == entry
        if entry.inbox is not None:
            known = (entry.seq, entry.inbox.content) if seq // 1024 >= self.pruned[partition] else None
            assert self.bench.store.seen(partition, seq // 1024, entry.inbox.key) == known

    def teardown(self) -> None:
        self.bench.close()
        self.folder.cleanup()


class MemoryMachine(StoreMachine):
    kind = "memory"


class SqliteMachine(StoreMachine):
    kind = "sqlite"


class PostgresMachine(StoreMachine):
    kind = "postgres"


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestPostgres = PostgresMachine.TestCase
TestPostgres.settings = settings(
    max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
