"""Routes that remember, on a real broker and a real store: the bus is killed in the middle, and nobody notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from adapters import Agent
from bus.core.message import Json, Message
from tests.acceptance.live import LiveBus, playing
from tests.conftest import TestBroker

ROUTES = Path(__file__).parents[2] / "routes" / "account_updates"
ACCOUNTS = ("a", "b", "c")
VERSIONS = (2, 1, 4, 3, 6, 5)


@pytest.fixture
def bus(broker: TestBroker, namespace: str, tmp_path: Path) -> Iterator[LiveBus]:
    made = LiveBus(ROUTES, tmp_path / "home", namespace, broker.bus_url, broker.agent_url)
    made.start()
    yield made
    made.stop()


def send(live: LiveBus, account: str, version: int, copy: int) -> None:
    id_ = f"{account}{version}-{copy}"  # its own conversation each: what brings them together is the account
    data = {"account_id": account, "update_id": f"u{version}", "version": version, "amount": 1}
    event = {"specversion": "1.0", "id": id_, "source": "branches", "type": "account.update.deposit", "data": data}
    live.publish(orjson.dumps(event), key=id_)


def test_updates_are_booked_once_and_in_order_through_kills(bus: LiveBus) -> None:
    booked: list[tuple[str, int]] = []
    ledger = Agent("ledger", concurrency=8)

    @ledger.capability("ledger")
    async def book(request: Message) -> dict[str, Json]:
        assert isinstance(request.data, dict)
        await asyncio.sleep(0.05)
        booked.append((str(request.data["account_id"]), int(str(request.data["version"]))))
        return {"balance": 1}

    async def reached(count: int) -> None:
        until = time.monotonic() + 60
        while len(booked) < count and time.monotonic() < until:
            await asyncio.sleep(0.02)

    async def act(_agents: dict[str, Agent]) -> None:
        for version in VERSIONS:
            for account in ACCOUNTS:
                for copy in range(2):
                    await asyncio.to_thread(send, bus, account, version, copy)
        for count in (4, 9):
            await reached(count)
            await asyncio.to_thread(bus.kill)
            await asyncio.to_thread(bus.start)
        await reached(len(ACCOUNTS) * len(VERSIONS))
        await asyncio.to_thread(bus.stop)  # it finishes what it has begun

    asyncio.run(playing(bus, {"ledger": ledger}, act))
    for account in ACCOUNTS:
        assert [version for name, version in booked if name == account] == sorted(VERSIONS)
    assert bus.queue("capability.ledger") == bus.queue("dead") == bus.queue("invalid") == []
