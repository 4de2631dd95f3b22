"""The duplicates filter: complete for its window, bounded beyond it, and filled without holding all that is read."""

from __future__ import annotations

import tracemalloc
from collections import deque
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.ports import Commit, Entry, InboxKey
from bus.shell import identity_filter
from bus.shell.engine import ENGINE
from bus.shell.identity_filter import IdentityFilter
from bus.shell.inbox import Earlier, Inbox
from bus.shell.memory_store import MemoryStore
from bus.shell.sqlite_store import SqliteStore
from bus.shell.store_rules import bucket_of
from bus.shell.tenancy import Layout, Tenancy
from tests.contract.stores import key_of


def identity(number: int) -> bytes:
    return key_of(number).key


FILTERS = [IdentityFilter] if ENGINE is None else [IdentityFilter, ENGINE.Filter]


@pytest.mark.parametrize("kind", FILTERS)
@settings(max_examples=30, deadline=None)
@given(window=st.integers(1, 3000), sizes=st.lists(st.integers(1, 400), min_size=1), gap=st.sampled_from((0, 7, 5000)))
def test_no_identity_of_the_window_is_missed(kind: Any, window: int, sizes: list[int], gap: int) -> None:
    """Args:
    sizes: identities of each batch, over and over.
    gap: numbers without an identity before each.
    """
    known, newest, seq = kind(window), deque[tuple[int, bytes]](maxlen=window), 0
    for size in islice(cycle(sizes), 200):
        seq += gap
        bucket, keys = bucket_of(seq), [identity(each) for each in range(seq, seq + size)]
        known.add(bucket, keys)
        newest.extend((bucket, key) for key in keys)
        seq += size
        oldest = islice(newest, 50)  # what goes first, were it to go too early
        assert all(bucket in known.buckets(key) for bucket, key in oldest)
        if seq > 5 * window + 5000:
            break
    assert all(bucket in known.buckets(key) for bucket, key in newest)


@pytest.mark.parametrize("kind", FILTERS)
def test_more_buckets_than_a_table_can_number_are_kept_apart(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_filter, "_MOST_BUCKETS", 16)  # so that over 60 generations live, on 8 bits
    window = 1000
    known = IdentityFilter(window) if kind is IdentityFilter else kind(window, 16)
    for bucket in range(4 * window):  # of one identity each: all the others of a bucket were duplicates, say
        known.add(bucket, (identity(bucket),))
        oldest = max(0, bucket - window + 1)
        assert oldest in known.buckets(identity(oldest))
    assert all(each in known.buckets(identity(each)) for each in range(3 * window, 4 * window))
    assert len(known) < window + 32


def test_memory_and_false_answers_stay_bounded_far_beyond_the_window() -> None:
    window = 20_000
    tracemalloc.start()
    try:
        known = IdentityFilter(window)
        for seq in range(0, 5 * window, 500):
            known.add(bucket_of(seq), [identity(each) for each in range(seq, seq + 500)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(known) <= window * 5 // 4
    assert peak < 40 * window
    flags = known._flags
    assert len(flags) - flags.count(0) < 1.3 * window  # those of what was dropped are erased
    assert sum(bool(known.buckets(identity(-each))) for each in range(1, 20_001)) <= 20  # one in 30,000, about


@pytest.mark.skipif(ENGINE is None, reason="without the engine")
def test_the_engines_filter_answers_as_rarely_falsely() -> None:
    window = 20_000
    known = FILTERS[-1](window)
    for seq in range(0, 5 * window, 500):
        known.add(bucket_of(seq), [identity(each) for each in range(seq, seq + 500)])
    assert window <= len(known) <= window * 5 // 4
    assert sum(bool(known.buckets(identity(-each))) for each in range(1, 20_001)) <= 20


def committed(store: MemoryStore | SqliteStore, keys: int, size: int) -> None:
    store.claim(1)
    for first in range(1, keys + 1, size):
        seqs = range(first, min(first + size, keys + 1))
        store.commit(Commit({0: [Entry(seq, key_of(seq), b"{}", b"", ()) for seq in seqs]}, {0: seqs[-1]}))


def test_what_a_commit_recorded_is_found_on_both_sides_of_a_bucket() -> None:
    store, seqs = MemoryStore(), range(1000, 3000)
    committed(store, 3000, 500)
    inbox = Inbox(0, store, 10_000)
    for seq in seqs:
        inbox.add(key_of(seq), seq)
        assert inbox.earlier(key_of(seq)) == Earlier(seq, True)
    inbox.committed([(identity(seq), seq) for seq in seqs[:1500]])
    assert all(inbox.earlier(key_of(seq)) == Earlier(seq, True) for seq in seqs)
    inbox.committed([(identity(seq), seq) for seq in seqs[1500:]])
    assert all(inbox.earlier(key_of(seq)) == Earlier(seq, True) for seq in seqs)
    assert inbox.earlier(InboxKey(identity(1000), b"other ct")) == Earlier(1000, False)
    assert inbox.earlier(key_of(3001)) is None


def test_a_claim_reads_the_identities_as_a_stream(tmp_path: Path) -> None:
    store, keys = SqliteStore(tmp_path / "bus.db"), 60_000
    committed(store, keys, 2000)
    seen = count()
    tracemalloc.start()
    try:
        Tenancy(store, "w", 1, keys, lambda: 0.0, Layout()).take(
            lambda _: None, lambda _, stream, *__: deque((next(seen) for _ in stream), maxlen=0).clear()
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        store.close()
    assert next(seen) == keys
    assert peak < 2_000_000  # all of them in a list are five times as much; half of it is the last segment
