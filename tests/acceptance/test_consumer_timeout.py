"""RabbitMQ's consumer timeout: a delivery that is not acked in time closes its channel, and comes again. 30 minutes by
default; here a few seconds, on new channels of the node."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from adapters import Agent
from bus.core.message import Json, Message
from bus.shell.broker_ctl import rabbitmqctl
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from tests.acceptance.live import LiveBus, arrivals, ask_by_turns, event, playing
from tests.conftest import TestBroker

TIMEOUT_MS, TICK_MS = 2000, 500


@pytest.fixture
def impatient(broker: TestBroker) -> Iterator[None]:
    """Channels that are opened now have little patience."""
    if broker.home is None:
        pytest.skip("needs rabbitmqctl on a node of our own")
    usual = [rabbitmqctl(broker.home, "eval", f"rabbit_misc:get_env(rabbit, {name}, 60000).").strip()
             for name in ("consumer_timeout", "channel_tick_interval")]  # fmt: skip

    def patience(timeout: str | int, tick: str | int) -> None:
        assert broker.home is not None
        settings = f"[application:set_env(rabbit, consumer_timeout, {timeout}), "
        rabbitmqctl(broker.home, "eval", settings + f"application:set_env(rabbit, channel_tick_interval, {tick})].")

    patience(TIMEOUT_MS, TICK_MS)
    yield
    patience(*usual)


@pytest.fixture
def watched(impatient: None, live: LiveBus) -> LiveBus:
    """A bus whose channels have little patience."""
    return live


def _timed_out(log: str) -> bool:
    return "PRECONDITION_FAILED" in log and "timed out" in log


def test_a_bus_that_stood_still_for_too_long_loses_doubles_and_reorders_nothing(watched: LiveBus) -> None:
    live = watched
    live.publish(event("hello.asked", {"name": "first"}, "first"), key="first")
    assert arrivals(live, 1)  # it consumes
    os.kill(live.pid, signal.SIGSTOP)
    asked = ask_by_turns(live, 60)
    time.sleep(2 * TIMEOUT_MS / 1000)
    os.kill(live.pid, signal.SIGCONT)
    assert arrivals(live, 60) == asked
    assert live.stop() == 0
    assert History(SqliteLog(live.home / "bus.db")).ends()["routed"] == 61
    assert _timed_out((live.home / "bus.log").read_text())


def test_a_handler_that_takes_longer_is_called_once_and_answers_once(
    watched: LiveBus, caplog: pytest.LogCaptureFixture
) -> None:
    desk, slow = Agent("desk"), Agent("greeter", concurrency=3)
    calls: list[str] = []

    @slow.capability("greeting")
    async def greet(request: Message) -> dict[str, Json]:
        assert isinstance(request.data, dict)
        calls.append(str(request.data["name"]))
        await asyncio.sleep(3 * TIMEOUT_MS / 1000)
        return {"text": f"Hello {request.data['name']}"}

    answers: list[Json] = []

    async def act(agents: dict[str, Agent]) -> None:
        asking = [desk.ask("hello.asked", {"name": str(number)}, timeout_s=60) for number in range(3)]
        answers.extend(answer.data for answer in await asyncio.gather(*asking))

    asyncio.run(playing(watched, {"desk": desk, "greeter": slow}, act))
    assert answers == [{"text": f"Hello {number}"} for number in range(3)]
    assert sorted(calls) == ["0", "1", "2"]
    assert _timed_out(caplog.text)
    assert watched.stop() == 0
    ends = History(SqliteLog(watched.home / "bus.db")).ends()
    assert ends["routed"] == 6
    assert not {"dead_letter", "invalid", "superseded"} & set(ends)
