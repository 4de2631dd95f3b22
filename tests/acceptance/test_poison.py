"""A message that ends the worker is set aside; all others are delivered once and in order. On a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pika
import pytest

from bus.core.naming import ingress_exchange
from bus.shell.supervisor import Part
from tests.acceptance.live import LiveBus, event
from tests.acceptance.test_bus import wait_for_rows
from tests.conftest import TestBroker

TRAP = Path(__file__).parent / "trap"
CONVERSATIONS = 7


@pytest.fixture
def trapped(broker: TestBroker, namespace: str, tmp_path: Path) -> LiveBus:
    """Not started: a supervisor does that."""
    home = tmp_path / "home"
    home.mkdir()
    return LiveBus(TRAP, home, namespace, broker.bus_url, broker.agent_url)


@asynccontextmanager
async def supervised(live: LiveBus, **environment: str) -> AsyncIterator[Part]:
    """The bus with the trap, started again whenever it dies."""
    arguments = ["tests.acceptance.trapped_bus", "run", str(live.folder), "--output", "json"]
    part = Part("bus", arguments, {**live.environment, **environment}, live.home, lambda _text: None)
    running = asyncio.create_task(part.run())
    try:
        await asyncio.wait([running, asyncio.create_task(part.ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        yield part
    finally:
        await part.stop()
        await running


def publish(live: LiveBus, count: int, deeds: dict[int, str], type_: str = "trap.asked") -> None:
    """Publish `count` messages over some conversations, those numbers among them that do something."""
    connection = pika.BlockingConnection(pika.URLParameters(live.agent_url))
    channel = connection.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2, user_id="agents", content_type="application/cloudevents+json")
    for number in range(count):
        conversation = f"c{number % CONVERSATIONS}"
        data: dict[str, Any] = {"name": str(number), "do": deeds.get(number, "nothing")}
        body = event(type_, data, f"m{number}", conversationid=conversation, replyto="agent:desk")
        channel.basic_publish(ingress_exchange(live.namespace), conversation, body, properties, mandatory=True)
    connection.close()


def delivered(live: LiveBus, count: int) -> list[dict[str, Any]]:
    """What reached the capability, the first of each id, until it is so many."""
    first: dict[str, dict[str, Any]] = {}
    for _ in range(600):
        for _, body in live.queue("capability.greeting"):
            message = orjson.loads(body)
            assert first.setdefault(message["id"], message) == message
        if len(first) >= count:
            return list(first.values())
        live.command("dlq", "list", "--output", "json")  # takes a moment
    raise AssertionError(f"{len(first)} of {count} delivered")


def check(live: LiveBus, count: int, deeds: dict[int, str], said: dict[str, str]) -> None:
    got = [int(message["data"]["name"]) for message in delivered(live, count - len(deeds))]
    innocents = [number for number in range(count) if number not in deeds]
    assert sorted(got) == innocents  # once each, and no poison
    for conversation in range(CONVERSATIONS):
        mine = [number for number in got if number % CONVERSATIONS == conversation]
        assert mine == sorted(mine)
    rows = wait_for_rows(live, "dead", len(deeds))
    assert {row["id"]: row["code"] for row in rows} == {f"m{number}": "poison" for number in deeds}
    for row in rows:
        assert said[deeds[int(row["id"][1:])]] in row["reason"]
    told = [orjson.loads(body) for _, body in live.queue("agent.desk")]
    assert {each["correlationid"]: each["data"]["code"] for each in told} == {f"m{n}": "poison" for n in deeds}
    assert live.queue("invalid") == []


def test_what_ends_the_worker_is_set_aside_and_its_neighbours_are_delivered(trapped: LiveBus) -> None:
    deeds = {30: "abort", 44: "allocate", 45: "abort"}

    async def act() -> None:
        async with supervised(trapped) as part:
            await asyncio.to_thread(publish, trapped, 120, deeds)
            said = {"abort": "was killed by SIGABRT", "allocate": "took more than 256 MB of memory"}
            await asyncio.to_thread(check, trapped, 120, deeds, said)
            assert 2 <= part.restarts <= 2 * len(deeds)

    asyncio.run(act())


def test_what_hangs_the_worker_is_set_aside_and_its_neighbours_are_delivered(trapped: LiveBus) -> None:
    deeds = {30: "loop in C", 45: "sleep"}

    async def act() -> None:
        async with supervised(trapped, BUS_STALL_S="3") as part:
            await asyncio.to_thread(publish, trapped, 120, deeds)
            said = dict.fromkeys(deeds.values(), "delivered 3 times, and the process that tried it")
            await asyncio.to_thread(check, trapped, 120, deeds, said)
            assert 2 <= part.restarts <= 2 * len(deeds)

    asyncio.run(act())
    assert "the store's thread has stalled for 3 s" in (trapped.home / "bus.log").read_text()


def test_a_run_that_ends_the_worker_when_its_time_comes_is_set_aside_and_all_others_go_on(trapped: LiveBus) -> None:
    """No broker counts how often that was tried. What raises costs no life of the worker."""
    deeds = {10: "abort", 20: "raise", 31: "abort"}

    async def act() -> None:
        async with supervised(trapped) as part:
            await asyncio.to_thread(publish, trapped, 60, deeds, "trap.later")
            got = await asyncio.to_thread(delivered, trapped, 60 - len(deeds))
            assert sorted(int(each["data"]["name"]) for each in got) == [n for n in range(60) if n not in deeds]
            rows = {row["id"]: row for row in await asyncio.to_thread(wait_for_rows, trapped, "dead", len(deeds))}
            assert {name: row["code"] for name, row in rows.items()} == {
                "m10": "poison",
                "m20": "bus-fault",
                "m31": "poison",
            }
            assert (
                "its time came, and the process that tried what follows was killed by SIGABRT" in rows["m10"]["reason"]
            )
            told = [orjson.loads(body) for _, body in trapped.queue("agent.desk")]
            assert {each["correlationid"]: each["data"]["code"] for each in told} == {
                name: row["code"] for name, row in rows.items()
            }
            assert 1 <= part.restarts <= 2

    asyncio.run(act())
