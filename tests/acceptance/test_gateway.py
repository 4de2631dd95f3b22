"""The Messaging Gateway: HTTP clients against a real bus, its broker, and an agent that answers when it is told to."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters import Agent
from bus.core.message import Json, Message
from tests.acceptance.live import LiveBus, playing
from tests.conftest import TestBroker
from tests.postgres_server import PostgresServer

GATE = Path(__file__).parent / "gate"


class Answer(NamedTuple):
    status: int
    data: Any
    headers: http.client.HTTPMessage


class Gate:
    """A bus with a gateway, and what is asked of it."""

    def __init__(self, live: LiveBus) -> None:
        self.live = live
        self.port = 0
        self.greeted: list[str] = []
        self.may_answer = asyncio.Event()

    def start(self, *words: str) -> None:
        self.live.begin(*words, BUS_HTTP="127.0.0.1:0")
        self.port = self.live.hear("ready")["http_port"]

    def ask(self, verb: str, path: str, data: Any = None, port: int = 0, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            body = None if data is None else json.dumps(data)
            given = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
            connection.request(verb, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()), answer.headers)
        finally:
            connection.close()

    async def asked(self, *words: Any, **more: Any) -> Answer:
        return await asyncio.to_thread(self.ask, *words, **more)

    async def fetched(self, place: str) -> Answer:
        """What a status resource shows when it is no longer pending."""
        while (answer := await self.asked("GET", place)).data.get("status") not in ("answered", "failed"):
            await asyncio.sleep(0.05)
        return answer

    def play(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it while `greeter` works, which answers once it may."""
        greeter = Agent("greeter", concurrency=64)

        @greeter.capability("greeting")
        async def greet(request: Message) -> dict[str, Json]:
            assert isinstance(request.data, dict)
            self.greeted.append(str(request.data["name"]))
            await self.may_answer.wait()
            return {"text": f"Hello {request.data['name']}"}

        asyncio.run(playing(self.live, {"greeter": greeter}, lambda _: act()))


@pytest.fixture
def gate(broker: TestBroker, namespace: str, tmp_path: Path) -> Iterator[Gate]:
    live = LiveBus(GATE, tmp_path / "home", namespace, broker.bus_url, broker.agent_url)
    made = Gate(live)
    made.start()
    yield made
    live.stop()


@contextmanager
def another_gateway(live: LiveBus) -> Iterator[int]:
    """One more gateway process beside the bus; yields its port."""
    command = [sys.executable, "-m", "bus", "run", str(live.folder), "--role", "gateway", "--output", "json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**live.environment, "BUS_HTTP": "127.0.0.1:0"}
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"http://127.0.0.1:{said['metrics_port']}/readyz", timeout=5) as page:
            assert page.status == 200
        yield said["http_port"]
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_request_is_checked_answered_or_failed_in_the_words_of_the_bus(gate: Gate) -> None:
    async def act() -> None:
        gate.may_answer.set()
        good = await gate.asked("POST", "/greet", {"name": "Ada"})
        assert (good.status, good.data) == (200, {"text": "Hello Ada"})
        assert "hello" not in (await gate.asked("GET", "/greet")).data
        failed = await gate.asked("POST", "/greet", {"name": "nobody"})
        assert (failed.status, failed.data["error"]["reason"]) == (422, "nobody is not greeted")
        note = await gate.asked("PUT", "/notes", {"any": "thing"})
        assert (note.status, note.data["status"]) == (202, "accepted")
        trace = await asyncio.to_thread(
            gate.live.command, "trace", good.headers["Bus-Conversation"], "--output", "text"
        )
        assert "greeting.wanted  gateway -> route gate/greet" in trace.stdout

    gate.play(act)
    bad = gate.ask("POST", "/greet", {"name": 7})
    assert bad.status == 400
    (finding,) = bad.data["error"]["findings"]
    assert (finding["pointer"], finding["expected"]) == ("/name", "string")
    assert gate.ask("POST", "/nowhere", {}).status == 404
    wrong = gate.ask("PUT", "/greet", {})
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert gate.ask("POST", "/greet", {"name": "x"}, Content_Type="text/plain").status == 415
    assert gate.ask("POST", "/greet", {"name": "x" * 300_000}).status == 413
    assert gate.live.metric("agentbus_gateway_requests_total") == 8  # the last never was one


def test_an_answer_that_comes_later_is_fetched_from_whatever_gateway_runs_then(gate: Gate) -> None:
    async def act() -> None:
        taken = await gate.asked("POST", "/greetings", {"name": "Bo"})
        place = taken.headers["Location"]
        assert (taken.status, taken.data["status"]) == (202, "pending")
        assert (await gate.asked("GET", place)).data["status"] == "pending"
        await asyncio.to_thread(gate.live.kill)
        await asyncio.to_thread(gate.start)
        gate.may_answer.set()
        fetched = await gate.fetched(place)
        assert fetched.data == {"id": taken.data["id"], "status": "answered", "data": {"text": "Hello Bo"}}
        assert (await gate.asked("GET", "/_requests/" + "0" * 32)).status == 404

    gate.play(act)


def test_a_key_makes_repeats_one_request(gate: Gate) -> None:
    async def act() -> None:
        first = asyncio.create_task(gate.asked("POST", "/greet", {"name": "Cy"}, Idempotency_Key="k1"))
        while not gate.greeted:
            await asyncio.sleep(0.02)
        again = asyncio.create_task(gate.asked("POST", "/greet", {"name": "Cy"}, Idempotency_Key='"k1"'))
        other = await gate.asked("POST", "/greet", {"name": "Di"}, Idempotency_Key="k1")
        assert (other.status, other.data["error"]["code"]) == (422, "id-reused")
        gate.may_answer.set()
        assert [(each.status, each.data) for each in (await first, await again)] == [(200, {"text": "Hello Cy"})] * 2
        await asyncio.to_thread(gate.live.kill)
        await asyncio.to_thread(gate.start)
        later = await gate.asked("POST", "/greet", {"name": "Cy"}, Idempotency_Key="k1")
        assert (later.status, later.data) == (200, {"text": "Hello Cy"})
        other = await gate.asked("POST", "/greet", {"name": "Di"}, Idempotency_Key="k1")
        assert (other.status, other.data["error"]["code"]) == (422, "id-reused")
        assert gate.greeted == ["Cy"]

    gate.play(act)


def test_two_gateways_share_an_inbox_and_each_answers_its_own_clients(gate: Gate) -> None:
    async def act() -> None:
        gate.may_answer.set()
        with another_gateway(gate.live) as port:
            names = [str(number) for number in range(8)]
            ports = [port if number % 2 else gate.port for number in range(8)]
            asked = [gate.asked("POST", "/greet", {"name": n}, p) for n, p in zip(names, ports, strict=True)]
            began = time.monotonic()
            answers = await asyncio.gather(*asked)
            assert time.monotonic() - began < 8  # not only when the requests give up waiting, after 10 s
        assert [each.data for each in answers] == [{"text": f"Hello {name}"} for name in names]

    gate.play(act)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    made = PostgresServer()
    yield made
    made.close()


def test_beside_several_workers_it_is_a_process_of_its_own_and_reads_the_log_of_all(
    broker: TestBroker, namespace: str, server: PostgresServer, tmp_path: Path
) -> None:
    live = LiveBus(GATE, tmp_path / "home", namespace, broker.bus_url, broker.agent_url, server.url)
    gate = Gate(live)
    gate.start("--workers", "2")

    async def act() -> None:
        gate.may_answer.set()
        names = [f"n{number}" for number in range(6)]
        asked = [gate.asked("POST", "/greetings", {"name": name}, Idempotency_Key=name) for name in names]
        places = [each.headers["Location"] for each in await asyncio.gather(*asked)]
        fetched = await asyncio.gather(*(gate.fetched(place) for place in places))
        assert [each.data["data"] for each in fetched] == [{"text": f"Hello {name}"} for name in names]
        again = await gate.asked("POST", "/greetings", {"name": "n0"}, Idempotency_Key="n0")
        assert (again.status, again.data) == (200, {"text": "Hello n0"})
        assert sorted(gate.greeted) == names

    try:
        gate.play(act)
    finally:
        live.stop()
