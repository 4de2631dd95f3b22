"""Operators read the log while the bus writes it, after it stopped, and with several commands at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bus.audit.record import encode
from bus.audit.trace import Fate, trace_tree
from bus.core.actions import Decision, Delivery, End, Output
from bus.core.errors import BusError, StoreFailed
from bus.core.message import Message
from bus.ports import Commit, Entry, Excepted, Held
from bus.shell.history import History
from bus.shell.sqlite_store import SqliteStore
from tests.contract.stores import key_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    made.claim(2)
    yield made
    made.close()


@pytest.fixture
def read(path: Path) -> Iterator[Callable[[], History]]:
    """Open the history as a new command would."""
    opened: list[History] = []

    def open_one() -> History:
        opened.append(History(path))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def said(seq: int, conversation: str, *sends: str, partition: int = 0, end: End = "routed", name: str = "") -> Entry:
    """An entry as the bus writes it; `sends` are the ids of its outputs."""
    outputs = tuple([Output("agent", "greeter", each, "t", conversation, b"{}", "j", {}) for each in sends])
    attributes = {"id": name or f"{conversation}-{seq}", "source": "desk", "type": "t", "conversationid": conversation}
    decision = Decision(end, Message(attributes, None), outputs=outputs)
    delivery = Delivery(b"{}", None, {}, None, None, None, conversation, "q")
    text = encode(decision, delivery, seq=seq, partition=partition, received_s=1.0, decided_s=2.0, config="c")
    return Entry(seq, key_of(seq, str(partition)), text, b"body", outputs)


def places(history: History, name: str) -> list[tuple[int, int]]:
    return [(each.partition, each.seq) for each in history.conversation(name)]


def test_a_conversation_is_found_by_its_id_or_a_unique_beginning(
    store: SqliteStore, read: Callable[[], History]
) -> None:
    store.commit(Commit({1: [said(1, "aaaa11", partition=1)], 0: [said(1, "bbbb"), said(2, "aaaa11")]}))
    store.commit(Commit({0: [said(3, "aaaa22"), said(4, "aaaa11"), said(5, "bbbbbb")]}))
    history = read()
    assert places(history, "aaaa11") == [(1, 1), (0, 2), (0, 4)]  # in the order of commits
    assert places(history, "aaaa2") == [(0, 3)]
    assert places(history, "bbbb") == [(0, 1)]  # the whole id, though another begins so
    with pytest.raises(BusError, match="fits several conversations; write more of one of: aaaa11, aaaa22"):
        history.conversation("aaaa")
    with pytest.raises(BusError, match="too short; write at least 4"):
        history.conversation("aaa")
    with pytest.raises(BusError, match="no conversation in .* begins with `cccc`"):  # noqa: RUF043
        history.conversation("cccc")


def test_a_message_is_found_with_its_repeats(store: SqliteStore, read: Callable[[], History]) -> None:
    store.commit(Commit({0: [said(1, "c", name="m"), said(2, "c"), said(3, "c", name="m", end="duplicate")]}))
    history = read()
    assert [(each.seq, each.end) for each in history.message("m")] == [(1, "routed"), (3, "duplicate")]
    assert history.message("unknown") == []
    assert history.entry(0, 2) == said(2, "c")
    with pytest.raises(KeyError):
        history.entry(0, 4)


def test_readers_follow_the_writer_and_outlive_it(store: SqliteStore, path: Path, read: Callable[[], History]) -> None:
    history = read()
    for seq in range(1, 4):
        store.commit(Commit({0: [said(seq, "conv")]}))
        assert places(history, "conv") == [(0, each) for each in range(1, seq + 1)]
    store.close()
    assert len(history.conversation("conv")) == 3
    assert len(read().conversation("conv")) == 3
    again = SqliteStore(path)
    again.claim(2)
    again.commit(Commit({0: [said(4, "conv")]}))
    assert len(history.conversation("conv")) == 4
    again.close()


def test_two_readers_build_one_index(store: SqliteStore, path: Path) -> None:
    for first in range(1, 2000, 10):
        store.commit(Commit({0: [said(seq, f"conv{seq % 7}") for seq in range(first, first + 10)]}))

    def look() -> list[tuple[int, int]]:
        history = History(path)
        try:
            return places(history, "conv3")
        finally:
            history.close()

    with ThreadPoolExecutor(2) as threads:
        found = [each.result() for each in [threads.submit(look) for _ in range(6)]]
    assert found == [[(0, seq) for seq in range(1, 2001) if seq % 7 == 3]] * 6


def test_progress_is_told_once_per_step_and_only_while_there_is_work(
    store: SqliteStore, read: Callable[[], History]
) -> None:
    for seq in range(1, 41):
        store.commit(Commit({0: [said(seq, "conv")]}))
    told: list[tuple[int, int]] = []
    history = read()
    history.conversation("conv", lambda done, total: told.append((done, total)))
    assert told == [(16, 40), (32, 40), (40, 40)]
    history.conversation("conv", lambda done, total: told.append((done, total)))
    assert len(told) == 3


@pytest.mark.parametrize("how", ["deleted", "text", "cut", "foreign", "unwritable"])
def test_the_index_may_be_lost_damaged_or_wrong(
    store: SqliteStore, path: Path, read: Callable[[], History], how: str
) -> None:
    store.commit(Commit({0: [said(1, "conv")]}))
    assert places(read(), "conv") == [(0, 1)]
    index = Path(f"{path}.index")
    if how == "foreign":  # of a store that was here before
        other = SqliteStore(path.with_name("other.db"))
        other.claim(1)
        other.commit(Commit({0: [said(seq, "conv") for seq in range(1, 9)]}))
        other.close()
        History(path.with_name("other.db")).conversation("conv")
        Path(f"{path.with_name('other.db')}.index").replace(index)
    elif how == "text":
        index.write_text("no database" * 500)
    elif how == "cut":
        index.write_bytes(index.read_bytes()[:5000])
    else:
        index.unlink()
        if how == "unwritable":
            index.mkdir()
    assert places(read(), "conv") == [(0, 1)]


def test_a_tail_begins_where_asked_and_goes_on(store: SqliteStore, read: Callable[[], History]) -> None:
    store.commit(Commit({0: [said(1, "a"), said(2, "a")]}))
    store.commit(Commit({1: [said(1, "b", partition=1)], 0: [said(3, "a"), said(4, "a")]}))
    history = read()
    order = [(0, 1), (0, 2), (1, 1), (0, 3), (0, 4)]
    for back in range(7):
        found = history.tail(back).read()
        assert [(each.partition, each.seq) for each in found] == order[5 - min(back, 5) :]
    assert len(history.tail(None).read()) == 5
    tail = history.tail()
    assert tail.read() == []
    store.commit(Commit({0: [said(5, "a")]}))
    assert [each.seq for each in tail.read()] == [5]
    assert tail.read() == []


def test_ends_are_counted_over_all_or_the_newest(store: SqliteStore, read: Callable[[], History]) -> None:
    ends: list[End] = ["routed", "routed", "invalid", "filtered", "routed"]
    for seq, end in enumerate(ends, 1):
        store.commit(Commit({0: [said(seq, "a", end=end)]}))
    assert read().ends() == {"routed": 3, "invalid": 1, "filtered": 1}
    assert read().ends(2) == {"routed": 1, "filtered": 1}


def test_what_became_of_outputs(store: SqliteStore, read: Callable[[], History]) -> None:
    store.commit(Commit({0: [said(1, "conv", "o1", "o2", "o3"), said(2, "conv", "o4")]}, done={0: 1}))
    back = Excepted(0, 1, 1, "returned", 7.5, "nobody listens")
    store.commit(Commit(hold=[Held(0, 1, 2, "conv\0agent:greeter", 9.5, 1, "full")], exceptions=[back]))
    history = read()
    (first, second) = trace_tree(records := history.conversation("conv"), history.fates(records))
    assert [leg.fate for leg in first.legs] == [
        Fate("delivered"), Fate("returned", "nobody listens", 7.5), Fate("held", "full", 9.5)
    ]  # fmt: skip
    assert [leg.fate for leg in second.legs] == [Fate("pending")]
    assert history.exceptions() == history.exceptions("returned") == [back]
    assert history.exceptions("dead_letter") == []


def test_reading_writes_nothing_into_the_store(store: SqliteStore, path: Path, read: Callable[[], History]) -> None:
    store.commit(Commit({0: [said(1, "conv")]}))
    store.close()
    before = path.read_bytes()
    read().conversation("conv")
    assert path.read_bytes() == before


def test_a_store_that_is_not_there_is_not_made(path: Path) -> None:
    with pytest.raises(StoreFailed, match="there is no store at"):
        History(path)
    assert not path.exists()
    path.write_text("text " * 500)
    with pytest.raises(StoreFailed, match="cannot be read"):
        History(path)
