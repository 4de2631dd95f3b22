"""What every store guarantees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from bus.core.errors import Fenced, StoreDown, StoreFailed
from bus.ports import Claim, Commit, Excepted, Held, State
from tests.contract.stores import KINDS, Bench, entry, key_of, log, make, output, plain


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = make(request.param, tmp_path)
    yield made
    made.close()


def held(seq: int, index: int = 0, partition: int = 0, attempts: int = 1) -> Held:
    return Held(partition, seq, index, "conversation\0agent:greeter", 12.5, attempts, "no room")


def claim(bench: Bench, partition: int = 0) -> Claim:
    """Claim as a restarted bus would."""
    return bench.restart().claim(2)[partition]


def test_identity_and_secret_are_made_once(bench: Bench) -> None:
    made = bench.store.store_id, bench.store.secret
    assert len(made[0]) == 32
    assert len(made[1]) == 32
    again = bench.restart()
    assert (again.store_id, again.secret) == made


def test_a_new_partition_begins_at_one(bench: Bench) -> None:
    assert bench.store.claim(2) == [Claim(0, 1, 0, [], [], frozenset()), Claim(1, 1, 0, [], [], frozenset())]


def test_nothing_is_written_before_a_claim(bench: Bench) -> None:
    with pytest.raises(StoreFailed, match="claimed by another owner"):
        bench.store.commit(log(entry(1)))


def test_a_claim_returns_what_is_unfinished_byte_for_byte(bench: Bench) -> None:
    entries = [entry(seq, outputs=(output(f"o{seq}"), output("d", "dead"))) for seq in range(1, 8)]
    bench.store.claim(2)
    bench.store.commit(log(*entries[:5], done=3))
    bench.store.commit(Commit({0: entries[5:], 1: entries[:1]}))
    gone = [Excepted(0, 2, 0, "returned", 1.0, ""), Excepted(0, 5, 1, "returned", 1.0, "nobody")]
    bench.store.commit(Commit(hold=[held(6), held(2), held(4, 1)], exceptions=gone))

    claimed = claim(bench)
    assert (claimed.next_seq, claimed.done) == (8, 3)
    assert list(claimed.pending) == entries[3:]
    assert list(claimed.held) == [held(2), held(4, 1), held(6)]
    assert claimed.settled == {(5, 1)}
    assert claim(bench, 1).pending == entries[:1]
    assert bench.store.entry(0, 2) == entries[1]


def test_held_rows_are_replaced_and_released(bench: Bench) -> None:
    bench.store.claim(2)
    bench.store.commit(Commit({0: [entry(1), entry(2)]}, hold=[held(1), held(2)]))
    bench.store.commit(Commit(hold=[held(2, attempts=2)], release=[held(1)]))
    assert claim(bench).held == [held(2, attempts=2)]


def test_what_is_remembered_is_replaced_and_forgotten_with_the_commit(bench: Bench) -> None:
    bench.store.claim(2)
    first = [State(0, "flow:a", b"1", 5.0), State(0, "flow:b", b"2", None), State(1, "flow:a", b"3", None)]
    bench.store.commit(Commit({0: [entry(1)]}, states=first))
    assert sorted(bench.store.states(0)) == [("flow:a", 5.0), ("flow:b", None)]
    bench.store.commit(Commit(states=[State(0, "flow:a", b"4", None), State(0, "flow:b", None, None)]))
    bench.restart()
    bench.store.claim(2)
    assert (list(bench.store.states(0)), list(bench.store.states(1))) == ([("flow:a", None)], [("flow:a", None)])
    assert [bench.store.recall(*place) for place in ((0, "flow:a"), (0, "flow:b"), (1, "flow:a"))] == [b"4", None, b"3"]
    bench.store.commit(Commit(done={0: 1}))
    with pytest.raises(StoreFailed, match="only 1 partitions were asked for"):
        bench.restart().claim(1)
    bench.store.claim(2)
    bench.rival().claim(2)
    with pytest.raises(Fenced):
        bench.store.commit(Commit(states=[State(0, "flow:a", None, None)]))


def test_a_watermark_never_goes_back(bench: Bench) -> None:
    bench.store.claim(2)
    bench.store.commit(log(entry(1), entry(2), done=2))
    bench.store.commit(Commit(done={0: 1}))
    assert claim(bench).done == 2


@pytest.mark.parametrize(
    "broken",
    [
        log(entry(4)),
        log(entry(2)),
        log(entry(3), entry(5), entry(5)),
        log(entry(3), entry(5)),
        log(entry(3), done=4),
        log(entry(3), entry(4, salt="x"), entry(5), entry(7)),
        Commit({0: [entry(3)], 1: [entry(2)]}),
        Commit({0: [entry(3)]}, hold=[held(1, partition=7)]),
        Commit({0: [entry(3)]}, exceptions=[Excepted(7, 1, 0, "returned", 1.0, "")]),
    ],
    ids=[
        "gap",
        "repeat",
        "gap inside",
        "gap at the end",
        "done",
        "late gap",
        "other partition",
        "unowned",
        "unowned 2",
    ],
)
def test_a_failing_commit_leaves_nothing(bench: Bench, broken: Commit) -> None:
    bench.store.claim(2)
    bench.store.commit(Commit({0: [entry(1), entry(2)]}, hold=[held(1)]))
    extra = Commit(broken.entries, broken.done, [*broken.hold, held(2)], [held(1)], broken.exceptions)
    with pytest.raises(StoreFailed, match="nothing was written"):
        bench.store.commit(extra)
    assert bench.store.seen(0, 0, key_of(3).key) is None
    bench.store.commit(log(entry(3)))  # and the store is still usable
    claimed = claim(bench)
    assert (claimed.next_seq, claimed.held, claimed.settled) == (4, [held(1)], frozenset())


def test_a_claim_after_a_commit_that_found_the_disk_full_fails_until_it_could_be_written(bench: Bench) -> None:
    store = bench.restart()
    store.claim(2)
    large = log(entry(1)._replace(input=Random(1).randbytes(400_000)))  # which no compression makes smaller
    bench.fill(True)
    with pytest.raises(StoreDown, match="full"):
        store.commit(large)
    for _ in range(2):
        with pytest.raises(StoreDown, match="full"):
            store.claim(2)
    bench.fill(False)
    assert store.claim(2)[0].next_seq == 1
    store.commit(large)
    store.commit(log(entry(2)))
    assert [each.seq for each in claim(bench).pending] == [1, 2]


def test_configurations_are_kept_while_something_needs_them(bench: Bench) -> None:
    store = bench.store
    store.claim(2)
    for number in range(5):
        store.keep_configuration(f"v{number}", b"bundle %d" % number)
    store.commit(Commit({1: [entry(1)]}, states=[State(1, "flow:a", b"1", None, "v0"), State(1, "cell:b", b"2", None)]))
    store.keep_configuration("v1", b"bundle 1")  # comes back into force
    store = bench.restart()
    store.claim(2)
    assert list(store.versions()) == ["v0"]
    assert store.drop_configurations(2) == 2
    kept = [store.configuration(f"v{number}") for number in range(5)]
    assert kept == [b"bundle 0", b"bundle 1", None, None, b"bundle 4"]
    store.commit(Commit(states=[State(1, "flow:a", b"1", None, "v4")]))
    assert list(store.versions()) == ["v4"]
    store.keep_configuration("v9", b"bundle 9")
    assert store.drop_configurations(1) == 2
    assert [store.configuration(each) for each in ("v0", "v1", "v4", "v9")] == [None, None, b"bundle 4", b"bundle 9"]


def test_a_known_key_of_the_same_bucket_fails_the_commit(bench: Bench) -> None:
    bench.store.claim(2)
    bench.store.commit(log(entry(1)))
    twin = entry(3, salt="twin")
    for entries in ([entry(2, salt="x"), entry(3), *plain(4, 4)], [entry(2), twin, entry(4)]):
        known = entries[-1] if entries[1] is twin else entries[1]
        repeat = type(known)(known.seq, key_of(1), b"", b"", ())
        batch = [repeat if each is known else each for each in entries]
        with pytest.raises(StoreFailed, match="nothing was written"):
            bench.store.commit(log(*batch))
    assert claim(bench).next_seq == 2
    assert [key for _, _, key in bench.store.keys(10)] == [key_of(1).key]


def test_a_second_owner_fences_the_first(bench: Bench) -> None:
    first = bench.store
    first.claim(2)
    first.commit(log(entry(1)))
    second = bench.rival()
    claimed = second.claim(2)[0]
    assert list(claimed.pending) == [entry(1)]
    late = [
        log(entry(2)),
        Commit(done={0: 1}),
        Commit(hold=[held(1)]),
        Commit(release=[held(1)]),
        Commit(exceptions=[Excepted(0, 1, 0, "returned", 1.0, "")]),
    ]
    for batch in late:
        with pytest.raises(StoreFailed, match="claimed by another owner"):
            first.commit(batch)
    with pytest.raises(StoreFailed, match="claimed by another owner"):
        first.prune(0)
    second.commit(log(entry(2, salt="second")))
    second.close()
    claimed = claim(bench)
    assert list(claimed.pending) == [entry(1), entry(2, salt="second")]
    assert (claimed.done, claimed.held, claimed.settled) == (0, [], frozenset())


def test_fewer_partitions_are_refused_while_one_beyond_has_work(bench: Bench) -> None:
    bench.store.claim(3)
    bench.store.commit(Commit({2: [entry(1)]}))
    with pytest.raises(StoreFailed, match="partition 2 has unfinished messages.*--partitions 3"):  # noqa: RUF043
        bench.restart().claim(2)
    bench.store.claim(3)
    bench.store.commit(Commit(done={2: 1}, hold=[held(1, partition=2)]))
    with pytest.raises(StoreFailed, match="partition 2 has unfinished messages"):
        bench.restart().claim(2)
    bench.store.claim(3)
    bench.store.commit(Commit(release=[held(1, partition=2)]))
    assert len(bench.restart().claim(2)) == 2


def test_inbox_keys_are_found_listed_and_pruned_by_bucket(bench: Bench) -> None:
    store = bench.store
    store.claim(2)
    store.commit(log(*plain(1, 1020)))
    store.commit(log(*[entry(seq) for seq in range(1021, 1028)]))  # 1024 begins the second bucket
    store.commit(log(entry(1), partition=1))
    assert store.seen(0, 0, key_of(1023).key) == (1023, key_of(1023).content)
    assert store.seen(0, 1, key_of(1024).key) == (1024, key_of(1024).content)
    assert store.seen(0, 1, key_of(1023).key) is None
    assert store.seen(1, 0, key_of(1023).key) is None
    other = (1, 0, key_of(1).key)
    listed = [(0, seq // 1024, key_of(seq).key) for seq in range(1021, 1028)]
    assert list(store.keys(100)) == [*listed, other]
    assert list(store.keys(5)) == [*listed[2:], other]
    assert list(store.keys(2)) == [*listed[5:], other]
    assert list(store.keys(0)) == []

    assert store.prune(5) == 0  # five newest begin in the first bucket
    assert store.prune(4) == 3
    assert list(store.keys(100)) == [*listed[3:], other]
    again = bench.restart()
    again.claim(2, [0])
    assert list(again.keys(100)) == listed[3:]  # those of what it owns


def test_an_entry_that_is_not_there_is_a_key_error(bench: Bench) -> None:
    bench.store.claim(1)
    bench.store.commit(log(*plain(1, 3)))
    for place in ((0, 0), (0, 4), (1, 1)):
        with pytest.raises(KeyError):
            bench.store.entry(*place)


def test_a_closed_store_refuses(bench: Bench) -> None:
    bench.store.claim(1)
    bench.store.close()
    with pytest.raises(StoreFailed, match="closed"):
        bench.store.commit(log(entry(1)))
