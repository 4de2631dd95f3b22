"""What only a file can get wrong: kill -9, a second process, a full or failing disk, damage, foreign files."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from bus.audit.segment import pack
from bus.core.errors import StoreDown, StoreFailed
from bus.ports import Commit, Entry
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from bus.shell.sqlite_schema import HOLDING
from bus.shell.sqlite_store import SqliteStore
from tests.contract.stores import entry, key_of, log, output, plain
from tests.shell.store_child import entries

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "bus.db"


@contextmanager
def child(path: Path, what: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store open."""
    command = [sys.executable, str(Path(__file__).with_name("store_child.py")), str(path), what]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


@contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    try:
        yield store
    finally:
        store.close()


def random_entry(seq: int, size: int) -> Entry:
    """One that no compression makes smaller."""
    return entry(seq)._replace(input=Random(seq).randbytes(size))


def test_every_acknowledged_commit_survives_kill_9(path: Path) -> None:
    for acknowledgements in (1, 7, 40):
        with child(path, "loop") as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(acknowledgements)]
            os.kill(process.pid, signal.SIGKILL)  # in the middle of what it is doing
            said += process.stdout.read().splitlines()
            process.wait()
        first, other = said[-1].split()
        acknowledged = int(first)
        assert int(other) == acknowledged // 5 * 2
        history = History(SqliteLog(path))  # reads what the dead process left, before anyone repairs it
        assert history.entry(0, acknowledged) == entries(acknowledged, 1)[0]
        history.close()
        with opened(path) as store:
            claims = store.claim(2)
            last = claims[0].next_seq - 1
            assert last in (acknowledged, acknowledged + 5)  # one may be durable and not yet acknowledged
            assert claims[1].next_seq - 1 == last // 5 * 2
            assert [store.entry(0, seq) for seq in range(1, last + 1)] == entries(1, last)
            assert list(claims[0].pending) == entries(claims[0].done + 1, 5)
            assert len(list(store.keys(10**6))) == last // 5 * 7


def test_a_second_process_is_refused_until_the_first_is_dead(path: Path) -> None:
    with child(path, "hold") as process:
        with pytest.raises(StoreFailed, match=rf"another process \(pid {process.pid}\) holds .*--home"):
            SqliteStore(path)
        process.kill()
        process.wait()
        with opened(path), pytest.raises(StoreFailed, match=rf"pid {os.getpid()}"):
            SqliteStore(path)


def test_after_a_failed_write_nothing_more_is_believed(path: Path) -> None:
    with child(path, "full") as process:
        assert process.stdout is not None
        first, second = process.stdout.read().splitlines()
    assert "SQLITE_IOERR" in first
    assert second == first  # though the disk is well again
    with opened(path) as store:
        assert list(store.claim(1)[0].pending) == entries(1, 3)


def test_a_full_disk_fails_the_commit_and_no_more(path: Path) -> None:
    with opened(path) as store:
        store.claim(1)
        store.commit(log(entry(1)))
        store._db.execute("PRAGMA max_page_count = 20")
        with pytest.raises(StoreDown, match="is full; nothing was written"):
            store.commit(log(*[random_entry(seq, 2500) for seq in range(2, 200)]))
        store._db.execute("PRAGMA max_page_count = 100000")
        store.commit(log(entry(2)))
        assert list(store.claim(1)[0].pending) == [entry(1), entry(2)]


def test_only_the_owner_of_the_file_may_read_it(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    with opened(path) as store:
        store.claim(1)
        for suffix in ("", "-wal", "-shm", ".lock"):
            mode = Path(f"{path}{suffix}").stat().st_mode
            assert stat.S_IMODE(mode) == 0o600, suffix


@pytest.mark.parametrize("at", [40, -20])
def test_damage_is_found_before_anything_is_replayed(path: Path, at: int) -> None:
    with opened(path) as store:
        store.claim(1)
        store.commit(log(entry(1, outputs=[output()])))
    blob = bytearray(pack(0, [entry(1, outputs=[output()])]))
    blob[at] ^= 4
    with sqlite3.connect(path) as db:
        db.execute("UPDATE segment SET blob = ?", (bytes(blob),))
    db.close()
    with opened(path) as store:
        with pytest.raises(StoreFailed, match="the log is damaged.*partition 0 from entry 1"):  # noqa: RUF043
            store.claim(1)
        with pytest.raises(StoreFailed, match="the log is damaged"):
            store.entry(0, 1)


def test_files_that_are_no_store_are_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("text " * 500)
    with pytest.raises(StoreFailed, match="cannot be opened: file is not a database"):
        SqliteStore(path)
    assert path.read_text() == "text " * 500
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs(x)")
    db.close()
    with pytest.raises(StoreFailed, match="not a store of agentbus"):
        SqliteStore(path)
    with pytest.raises(StoreFailed, match="cannot be made"):
        SqliteStore(path / "below" / "bus.db")


def test_what_an_earlier_format_holds_is_kept(path: Path) -> None:
    """Runs are known by their configuration, and identities and entries are where they were."""
    with opened(path) as made:
        made.claim(1)
        for seq in (1, 2, 3):
            made.commit(log(entry(seq)))
    identity = bytes(range(8)) + b"\xff\x00\xe2\x28" * 2, b"\x00\xc3'--\x80\x00\x01"
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE runs")
        db.execute("CREATE TABLE inbox(bucket, key, seq, content, PRIMARY KEY(bucket, key)) WITHOUT ROWID")
        db.executemany("INSERT INTO inbox VALUES ((3 << 40) + 1, ?, ?, ?)", [(identity[0], 1025, identity[1]), (
            b"k" * 16, 1024, b"c" * 8)])  # fmt: skip
        db.execute("INSERT INTO partition VALUES (3, 1, 1026, 1025)")
        db.execute("DROP TABLE place")
        db.execute("CREATE UNIQUE INDEX segment_place ON segment(partition, first_seq)")
        db.execute("DROP TABLE config")
        db.execute("ALTER TABLE state DROP COLUMN version")
        db.execute("UPDATE meta SET value = 2 WHERE name = 'format'")
        run = b'{"v":1,"id":"a","route":"t/r","config":"c0ffee","memo":{"x":"\\u0000"}}'
        db.executemany("INSERT INTO state VALUES (0, ?, NULL, ?)", [("flow:a", run), ("cell:b", b"{}")])
        db.commit()
    store = SqliteStore(path)
    assert list(store.versions()) == ["c0ffee"]
    assert store.seen(3, 1, identity[0]) == (1025, identity[1])
    assert [store.entry(0, seq) for seq in (1, 2, 3)] == [entry(seq) for seq in (1, 2, 3)]
    store.claim(4)
    assert list(store.keys(10, [3])) == [(3, 1, b"k" * 16), (3, 1, identity[0])]
    store.close()


def test_every_entry_is_found_of_a_busy_partition_and_of_a_quiet_one(path: Path) -> None:
    random = Random(5)
    where = random.choices(range(4), (100, 30, 3, 1), k=700)
    with opened(path) as store:
        store.claim(4)
        next_seq = [1, 1, 1, 1]
        for at, partition in enumerate(where):
            count = random.randint(1, 3)
            rows = [entry(next_seq[partition] + each) for each in range(count)]
            store.commit(log(*rows, partition=partition))
            next_seq[partition] += count
            if at == 400:  # as after a restart
                store.claim(4)
        reader = SqliteLog(path)
        for partition, after in enumerate(next_seq):
            for seq in range(1, after):
                assert store.entry(partition, seq) == entry(seq)
                held = reader.holding(partition, seq)
                assert held is not None
                assert (held.partition, held.first_seq <= seq < held.first_seq + held.count) == (partition, True)
            for seq in (0, after, after + 1):
                assert reader.holding(partition, seq) is None
                with pytest.raises(KeyError):
                    store.entry(partition, seq)
        reader.close()
        pending = [list(each.pending) for each in store.claim(4)]
        assert [[each.seq for each in rows] for rows in pending] == [[*range(1, after)] for after in next_seq]
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM place").fetchone()[0] < 100
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {HOLDING}", (0, 1))]
            assert [row for row in plan if "segment" in row] == [
                "SEARCH segment USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
            ]


def test_a_newer_format_is_refused(path: Path) -> None:
    with opened(path):
        pass
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
    db.close()
    for reader in (SqliteStore, SqliteLog):
        with pytest.raises(StoreFailed, match="has format 99 .* use the version that wrote it"):  # noqa: RUF043
            reader(path)


def test_checkpoints_keep_the_write_ahead_log_short(path: Path) -> None:
    store = SqliteStore(path, wal_bytes=1 << 20)
    store.claim(1)
    wal = Path(f"{path}-wal")
    longest = 0
    for first in range(1, 16_000, 100):
        store.commit(log(*[random_entry(seq, 300) for seq in range(first, first + 100)]))
        longest = max(longest, wal.stat().st_size)
    assert path.stat().st_size > 2 << 20
    assert longest < 3 << 20
    store.close()
    assert not wal.exists()


def test_methods_may_be_called_from_different_threads(path: Path) -> None:
    with opened(path) as store, ThreadPoolExecutor(2) as threads:
        threads.submit(store.claim, 1).result()
        store.commit(log(*plain(1, 2)))
        threads.submit(store.commit, log(entry(3))).result()
        assert threads.submit(store.entry, 0, 3).result() == entry(3)


def test_a_value_that_sqlite_cannot_hold_fails_the_commit_only(path: Path) -> None:
    with opened(path) as store:
        store.claim(1)
        wrong = Commit({0: [entry(1), entry(2)]}, done={0: 1 << 70})
        with pytest.raises(StoreFailed, match="nothing was written"):
            store.commit(wrong)
        assert store.seen(0, 0, key_of(1).key) is None
        store.commit(log(entry(1)))
