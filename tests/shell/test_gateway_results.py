"""What the gateway does when the log takes its time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bus.core.errors import StoreFailed
from bus.shell.gateway import results
from bus.shell.gateway.results import Results
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from bus.shell.sqlite_store import SqliteStore


async def test_a_log_that_takes_long_is_not_waited_for_and_is_there_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore(tmp_path / "bus.db").close()
    monkeypatch.setattr(results, "LOOK_S", 0.1)
    opened = threading.Event()

    def slow() -> History:
        opened.wait(10)
        return History(SqliteLog(tmp_path / "bus.db"))

    log = Results(slow)
    with pytest.raises(StoreFailed, match="has not answered within"):
        await log.of("0" * 32)
    opened.set()
    monkeypatch.setattr(results, "LOOK_S", 10.0)
    assert await log.of("0" * 32) is None
    await log.close()


async def test_a_log_that_is_not_there_yet_is_opened_when_it_is(tmp_path: Path) -> None:
    log = Results(lambda: History(SqliteLog(tmp_path / "bus.db")))
    with pytest.raises(StoreFailed):
        await log.of("0" * 32)
    SqliteStore(tmp_path / "bus.db").close()
    assert await log.of("0" * 32) is None
    assert await log.news(["0" * 32]) == {}
    await log.close()
