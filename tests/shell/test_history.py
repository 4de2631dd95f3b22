"""Operators read the log while the bus writes it, after it stopped, and with several commands at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from bus.audit.record import encode
from bus.audit.segment import pack
from bus.audit.trace import Fate, trace_tree
from bus.core.actions import Decision, Delivery, End, Output
from bus.core.errors import BusError, NoStore, StoreFailed
from bus.core.message import Message
from bus.ports import Commit, Entry, Excepted, Held, Store
from bus.shell.history import History
from bus.shell.history_log import Log
from bus.shell.postgres_log import PostgresLog
from bus.shell.postgres_schema import reader_grants
from bus.shell.postgres_store import PostgresStore
from bus.shell.sqlite_log import SqliteLog
from bus.shell.sqlite_store import SqliteStore
from tests.contract.stores import key_of
from tests.postgres_server import fresh_namespace, shared_server


class Kept:
    """A log on disk, and whoever writes and reads it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.namespace = fresh_namespace()
        self._opened: list[History | Store] = []

    def write(self) -> Store:
        """Open the store as a bus would, after the one before has closed it."""
        if self.kind == "sqlite":
            made: Store = SqliteStore(self.folder / "bus.db")
        else:
            made = PostgresStore(shared_server().url, self.namespace)
        self._opened.append(made)
        made.claim(2)
        return made

    def log(self) -> Log:
        if self.kind == "sqlite":
            return SqliteLog(self.folder / "bus.db")
        return PostgresLog(shared_server().url, self.namespace, self.folder)

    def read(self) -> History:
        """Open the history as a new command would."""
        opened = History(self.log())
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        for each in self._opened:
            each.close()
        if self.kind == "postgres":
            shared_server().execute(f'DROP SCHEMA IF EXISTS "{self.namespace}" CASCADE')


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(kept: Kept) -> Store:
    return kept.write()


@pytest.fixture
def read(kept: Kept, store: Store) -> Callable[[], History]:
    return kept.read


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


def test_a_conversation_is_found_by_its_id_or_a_unique_beginning(store: Store, read: Callable[[], History]) -> None:
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


def test_a_message_is_found_with_its_repeats(store: Store, read: Callable[[], History]) -> None:
    store.commit(Commit({0: [said(1, "c", name="m"), said(2, "c"), said(3, "c", name="m", end="duplicate")]}))
    history = read()
    assert [(each.seq, each.end) for each in history.message("m")] == [(1, "routed"), (3, "duplicate")]
    assert history.message("unknown") == []
    assert history.entry(0, 2) == said(2, "c")
    with pytest.raises(KeyError):
        history.entry(0, 4)


def test_readers_follow_the_writer_and_outlive_it(store: Store, kept: Kept, read: Callable[[], History]) -> None:
    history = read()
    for seq in range(1, 4):
        store.commit(Commit({0: [said(seq, "conv")]}))
        assert places(history, "conv") == [(0, each) for each in range(1, seq + 1)]
    store.close()
    assert len(history.conversation("conv")) == 3
    assert len(read().conversation("conv")) == 3
    again = kept.write()
    again.commit(Commit({0: [said(4, "conv")]}))
    assert len(history.conversation("conv")) == 4
    again.close()


def test_two_readers_build_one_index(store: Store, kept: Kept) -> None:
    for first in range(1, 2000, 10):
        store.commit(Commit({0: [said(seq, f"conv{seq % 7}") for seq in range(first, first + 10)]}))

    def look() -> list[tuple[int, int]]:
        history = History(kept.log())
        try:
            return places(history, "conv3")
        finally:
            history.close()

    with ThreadPoolExecutor(2) as threads:
        found = [each.result() for each in [threads.submit(look) for _ in range(6)]]
    assert found == [[(0, seq) for seq in range(1, 2001) if seq % 7 == 3]] * 6


def test_progress_is_told_once_per_step_and_only_while_there_is_work(store: Store, read: Callable[[], History]) -> None:
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
    store: Store, kept: Kept, tmp_path: Path, read: Callable[[], History], how: str
) -> None:
    store.commit(Commit({0: [said(1, "conv")]}))
    assert places(read(), "conv") == [(0, 1)]
    index = kept.log().index
    if how == "foreign":  # of a store that was here before
        other = Kept("sqlite", tmp_path / "other")
        before = other.write()
        before.commit(Commit({0: [said(seq, "conv") for seq in range(1, 9)]}))
        other.read().conversation("conv")
        other.close()
        other.log().index.replace(index)
    elif how == "text":
        index.write_text("no database" * 500)
    elif how == "cut":
        index.write_bytes(index.read_bytes()[:5000])
    else:
        index.unlink()
        if how == "unwritable":
            index.mkdir()
    assert places(read(), "conv") == [(0, 1)]


def test_a_tail_begins_where_asked_and_goes_on(store: Store, read: Callable[[], History]) -> None:
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


def test_conversations_since_a_time_are_found_from_the_end(
    store: Store, read: Callable[[], History], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.shell.history._BACK", 1)
    for seq in range(1, 40):
        entry = said(seq, f"c{seq:02}")
        at_s = float(seq // 2)
        later = entry.record.replace(b'"received_s":1.0', b'"received_s":%.1f' % at_s)
        store.commit(Commit(entries={0: [entry._replace(record=later)]}))
    history = read()
    assert history.since(18.0) == [f"c{seq:02}" for seq in range(36, 40)]
    assert history.since(0.0) == [f"c{seq:02}" for seq in range(1, 40)]
    assert history.since(99.0) == []


def test_ends_are_counted_over_all_or_the_newest(store: Store, read: Callable[[], History]) -> None:
    ends: list[End] = ["routed", "routed", "invalid", "filtered", "routed"]
    for seq, end in enumerate(ends, 1):
        store.commit(Commit({0: [said(seq, "a", end=end)]}))
    assert read().ends() == {"routed": 3, "invalid": 1, "filtered": 1}
    assert read().ends(2) == {"routed": 1, "filtered": 1}


def test_what_became_of_outputs(store: Store, read: Callable[[], History]) -> None:
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


@pytest.mark.parametrize("kept", ["sqlite"], indirect=True)
def test_reading_writes_nothing_into_the_store(store: Store, kept: Kept, read: Callable[[], History]) -> None:
    store.commit(Commit({0: [said(1, "conv")]}))
    store.close()
    before = (kept.folder / "bus.db").read_bytes()
    read().conversation("conv")
    assert (kept.folder / "bus.db").read_bytes() == before


def test_a_store_that_is_not_there_is_not_made(kept: Kept, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(NoStore, match="there is no store at"):
            kept.log()


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    path.write_text("text " * 500)
    with pytest.raises(StoreFailed, match="cannot be read"):
        SqliteLog(path)


@pytest.mark.parametrize("kept", ["postgres"], indirect=True)
def test_a_reader_needs_no_right_but_to_read(store: Store, kept: Kept) -> None:
    server, role = shared_server(), f"r_{kept.namespace}"
    server.execute(f'CREATE ROLE "{role}" LOGIN')
    server.execute(reader_grants(kept.namespace, role))
    store.commit(Commit({0: [said(1, "conv", "o")]}))
    history = History(PostgresLog(server.url_at(server.port, role), kept.namespace, kept.folder))
    found = history.conversation("conv")
    assert history.fates(found)
    assert history.ends() == {"routed": 1}
    history.close()
    with (
        psycopg.connect(server.url_at(server.port, role)) as db,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        db.execute(f'SELECT secret FROM "{kept.namespace}".meta'.encode())
    server.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


@pytest.mark.parametrize("kept", ["postgres"], indirect=True)
def test_a_commit_that_becomes_visible_late_is_not_missed(
    store: Store, kept: Kept, read: Callable[[], History]
) -> None:
    """Partition 0 takes position 1 and commits after partition 1 has committed position 2."""
    tail, index = read().tail(None), read()
    with psycopg.connect(shared_server().url) as slow:
        entry = said(1, "late")
        place = f'"{kept.namespace}".segment(partition, first_seq, count, blob)'
        slow.execute(f"INSERT INTO {place} VALUES (0, 1, 1, %b)".encode(), (pack(0, [entry]),))
        store.commit(Commit({1: [said(1, "soon", partition=1)]}))
        assert [each.conversation for each in tail.read()] == ["soon"]
        assert places(index, "soon") == [(1, 1)]
        slow.commit()
    assert [each.conversation for each in tail.read()] == ["late"]
    assert places(index, "late") == [(0, 1)]
    assert [each.conversation for each in read().tail(2).read()] == ["late", "soon"]
