"""The desk of the gateway when the broker does not take what it is given: nobody is promised anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bus.core.errors import BusError
from bus.core.facts import Limits
from bus.core.message import Message
from bus.core.route import Catalog, Entrance
from bus.ports import Handler
from bus.shell.gateway import desk
from bus.shell.gateway.desk import Desk
from bus.shell.gateway.http import Request
from bus.shell.gateway.results import Results
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from bus.shell.telemetry.gateway import GatewayMeter

CATALOG = Catalog("c0ffee", {}, {}, {}, (), (Entrance("shop/ask", "POST", "/ask", "asked", 0.3),))


class Away:
    """A link whose broker is away: it waits, or fails at once."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.asked: list[str] = []

    async def open(self) -> None: ...

    async def send(self, message: Message) -> None:
        self.asked.append(message.id)
        if self.fails:
            raise BusError("the bus has no ingress queue")
        await asyncio.Event().wait()

    async def listen(self, queues: object, prefetch: int, handler: Handler) -> None: ...

    async def open_client(self, handler: Handler) -> str:
        return ""

    async def close(self) -> None: ...


def ask(key: str | None = None) -> Request:
    headers = {"content-type": "application/json", **({} if key is None else {"idempotency-key": key})}
    return Request("POST", "/ask", headers, b'{"a":1}')


@pytest.mark.parametrize("fails", [True, False])
async def test_who_is_told_to_come_back_has_a_message_in_the_broker(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PUBLISH_S", 0.1)
    link = Away(fails)
    results = Results(lambda: History(SqliteLog(tmp_path / "bus.db")))
    made = Desk(CATALOG, link, results, Limits(), GatewayMeter(CATALOG))
    answers = await asyncio.gather(*(made.handle(ask(key)) for key in ("k", "k", None)))
    assert [each.status for each in answers] == [503, 503, 503]
    assert len(link.asked) == 3
    place = Request("GET", f"/_requests/{link.asked[0]}", {}, b"")
    assert (await made.handle(place)).status == 503  # there is no log to say that it is not known
    await results.close()


@pytest.mark.parametrize("key", ["", "two words", "x" * 129, "ü"])
async def test_a_key_that_is_none_is_refused(key: str, tmp_path: Path) -> None:
    results = Results(lambda: History(SqliteLog(tmp_path / "bus.db")))
    link = Away(fails=True)
    answer = await Desk(CATALOG, link, results, Limits(), GatewayMeter(CATALOG)).handle(ask(key))
    assert (answer.status, link.asked) == (400, [])
    await results.close()


async def test_another_configuration_has_other_ways_in(tmp_path: Path) -> None:
    results = Results(lambda: History(SqliteLog(tmp_path / "bus.db")))
    made = Desk(CATALOG, Away(fails=True), results, Limits(), GatewayMeter(CATALOG))
    other = ask()._replace(path="/other")
    assert (await made.handle(other)).status == 404
    made.reconfigure(Catalog("beef", {}, {}, {}, (), (Entrance("shop/other", "POST", "/other", "asked", 0.3),)))
    assert [(await made.handle(each)).status for each in (other, ask())] == [503, 404]
    await results.close()
