"""The Messaging Bridge between two real buses: once over it, in order, and never back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.bridge import Bridge
from bus import bootstrap
from tests.acceptance.live import LiveBus
from tests.conftest import TestBroker

BRIDGED = Path(__file__).parent / "bridged"


@pytest.fixture
def buses(broker: TestBroker, namespace: str, tmp_path: Path) -> Iterator[tuple[LiveBus, LiveBus]]:
    """Two of them, of which the shop runs."""
    shop, mill = (
        LiveBus(BRIDGED / name, tmp_path / name, f"{namespace}{name}", broker.bus_url, broker.agent_url)
        for name in ("shop", "mill")
    )
    shop.start(MILL_URL=broker.agent_url, MILL_NAMESPACE=mill.namespace)
    yield shop, mill
    for bus in (shop, mill):
        bus.stop()


async def bridged(shop: LiveBus, mill: LiveBus, wait: bool = True) -> asyncio.Task[None]:
    """Run the bridge as it is declared."""
    environment = {"MILL_URL": mill.agent_url, "MILL_NAMESPACE": mill.namespace}
    loaded = bootstrap.load([shop.folder], environment)
    assert loaded.catalog is not None
    ready = asyncio.Event()
    running = asyncio.create_task(Bridge(loaded.catalog.agents["bridge"], {}).run(shop.settings, ready.set))
    if wait:
        await asyncio.wait_for(ready.wait(), 30)
    return running


def said(bus: LiveBus, source: str, type_: str, number: int, **more: Any) -> None:
    body = {"specversion": "1.0", "id": f"m{number}", "source": source, "type": type_, "data": {"n": number}, **more}
    conversation = str(more.get("conversationid", f"m{number}"))
    bus.publish(orjson.dumps(body), key=conversation)


async def taken(bus: LiveBus, queue: str, count: int) -> list[dict[str, Any]]:
    """The messages that come into a queue, as soon as there are so many."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += [orjson.loads(body) for _, body in await asyncio.to_thread(bus.queue, queue)]
            await asyncio.sleep(0.05)
    return found


async def test_events_are_carried_once_in_order_and_never_back(buses: tuple[LiveBus, LiveBus]) -> None:
    shop, mill = buses
    await asyncio.to_thread(mill.start)
    running = await bridged(shop, mill)
    for number in range(40):
        more = {"conversationid": f"c{number % 2}", "labels": "eu"}
        await asyncio.to_thread(partial(said, shop, "seller", "order.placed", number, **more))
        if number == 20:
            running.cancel()  # killed in the middle: what it had not acked comes again
            await asyncio.gather(running, return_exceptions=True)
            running = await bridged(shop, mill)
    got = await taken(mill, "agent.packer", 40)
    for part in (0, 1):
        numbers = [each["data"]["n"] for each in got if each["conversationid"] == f"c{part}"]
        assert numbers == list(range(part, 40, 2))
    assert {(each["source"], each["labels"]) for each in got} == {("shop", "eu")}
    await asyncio.to_thread(said, mill, "packer", "parcel.sent", 99)
    back = await taken(shop, "agent.seller", 41)
    assert [each["type"] for each in back].count("parcel.sent") == 1
    assert {each["source"] for each in back if each["type"] == "parcel.sent"} == {"bridge"}
    # What came over the bridge was given to it on the other side, too, and stayed there.
    assert await taken(mill, "agent.packer", 0) == []
    assert len({each["id"] for each in back}) == 41
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_while_the_other_bus_is_away_events_wait_in_order(buses: tuple[LiveBus, LiveBus]) -> None:
    shop, mill = buses
    running = await bridged(shop, mill, wait=False)
    for number in range(10):
        await asyncio.to_thread(partial(said, shop, "seller", "order.placed", number, conversationid="c"))
    await taken(shop, "agent.seller", 10)  # they are decided, and have been in the bridge's inbox
    await asyncio.to_thread(mill.start)
    assert [each["data"]["n"] for each in await taken(mill, "agent.packer", 10)] == list(range(10))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
