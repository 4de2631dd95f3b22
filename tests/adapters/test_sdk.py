"""How an agent behaves, on the link in memory."""

from __future__ import annotations

import asyncio
import threading
from hashlib import blake2b
from typing import Any

import pytest

from adapters import Agent, AgentError, Context, Json, Message
from adapters.memory_link import MemoryBroker, MemoryLink
from adapters.sdk.replies import Recorded, ReplyCache
from bus.core.answering import derived_id
from bus.core.errors import BusError
from bus.core.message import FAILED
from bus.core.naming import agent_queue, capability_queue
from bus.settings import Settings
from tests.adapters.sdk_world import NS, PATIENCE_S, echo, request, running


async def test_a_reply_copies_what_the_bus_needs_to_take_it_home() -> None:
    async def handler(asked: Message) -> Json:
        return {"got": asked.data}

    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    asked = request(data=3, fence=2, attempt=1, labels="pii", traceparent=trace)
    async with running(echo(handler)) as world:
        answer = await world.ask(asked)
        await world.settled()
    identity = derived_id(asked, 0)
    assert answer.data == {"got": 3}
    assert answer.attributes == {
        "specversion": "1.0",
        "id": identity,
        "source": "tester",
        "type": "echo.replied",
        "datacontenttype": "application/json",
        "conversationid": "c1",
        "correlationid": "r1",
        "causationid": "r1",
        "replyto": "client:ab!m0!seal",
        "hopsleft": 5,
        "attempt": 1,
        "fence": 2,
        "labels": "pii",
        "traceparent": "00-" + "a" * 32 + "-" + identity[:16] + "-01",
    }


async def test_reply_ids_follow_the_task_its_fence_and_the_index() -> None:
    assert derived_id(request("r1"), 0) == blake2b(b"r1\x000\x000", digest_size=16).hexdigest()
    assert derived_id(request("r1", fence=3), 2) == blake2b(b"r1\x003\x002", digest_size=16).hexdigest()


async def test_a_duplicate_gets_the_recorded_reply_and_computes_nothing() -> None:
    calls: list[str] = []

    async def handler(asked: Message, context: Context) -> Json:
        calls.append(asked.id)
        await context.send("seen.it", {"number": len(calls)})
        return {"number": len(calls)}

    async with running(echo(handler)) as world:
        world.put(request())
        first = [await world.sent(), await world.sent()]
        world.put(request())
        assert [await world.sent(), await world.sent()] == first
        await world.settled()
    assert calls == ["r1"]
    assert [each.type for each in first] == ["seen.it", "echo.replied"]
    assert first[0].id == derived_id(request(), 1)
    named = {name: first[0].text(name) for name in ("conversationid", "causationid", "correlationid", "replyto")}
    assert named == dict(zip(named, ("c1", "r1", "r1", "client:ab!m0!seal"), strict=True))  # proves whose task it was


async def test_a_duplicate_waits_for_the_one_that_is_being_worked_on() -> None:
    calls, go = 0, asyncio.Event()

    async def handler(_asked: Message) -> Json:
        nonlocal calls
        calls += 1
        await go.wait()
        return calls

    async with running(echo(handler)) as world:
        world.put(request())
        world.put(request())
        await world.broker.until(capability_queue(NS, "echo"), (0, 2))
        go.set()
        assert (await world.sent()) == (await world.sent())
        await world.settled()
    assert calls == 1


async def test_plain_functions_run_in_threads_and_may_use_the_context() -> None:
    def handler(_asked: Message, context: Context) -> Json:
        context.progress(0.5)
        context.send("from.thread", 1)
        return threading.current_thread() is not threading.main_thread()

    async with running(echo(handler)) as world:
        world.put(request())
        assert [(each.type, each.data) for each in [await world.sent(), await world.sent()]] == [
            ("from.thread", 1),
            ("echo.replied", True),
        ]


@pytest.mark.parametrize(
    ("raised", "failure", "reason"),
    [
        (AgentError("rate_limit", "slow down"), "rate_limit", "slow down"),
        (ValueError("no such thing"), "tool_error", "ValueError: no such thing"),
        (TimeoutError("upstream"), "tool_error", "TimeoutError: upstream"),
        (asyncio.CancelledError(), "tool_error", "CancelledError: the handler was cancelled"),
    ],
)
async def test_errors_are_data(raised: BaseException, failure: str, reason: str) -> None:
    async def handler(_asked: Message, context: Context) -> Json:
        await context.send("never.leaves")
        raise raised

    async with running(echo(handler)) as world:
        answer = await world.ask(request(expirytime="2999-01-01T00:00:00Z"))
        await world.settled()
        assert world.broker.sent.empty()
    assert (answer.type, answer.data) == ("echo.failed", {"class": failure, "reason": reason})
    assert answer.text("replyto") == "client:ab!m0!seal"
    assert answer.text("expirytime") is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": {1, 2}}, "a set at /a"),
        ({1: 2}, "keys must be strings"),
        ([float("nan")], "nan at /0"),
        (2**70, "beyond 64 bits"),
        ("x" * 300_000, "the bus accepts"),
        ("\ud800", "cannot be written"),
    ],
)
async def test_what_json_cannot_say_is_an_internal_failure_with_the_place(value: object, reason: str) -> None:
    async def handler(_asked: Message) -> Any:
        return value

    async with running(echo(handler)) as world:
        answer = await world.ask(request())
    assert isinstance(answer.data, dict)
    assert answer.data["class"] == "internal"
    assert reason in str(answer.data["reason"])


async def test_an_expired_request_is_not_begun() -> None:
    calls: list[Message] = []
    async with running(echo(lambda asked: calls.append(asked))) as world:
        answer = await world.ask(request(expirytime="2020-01-01T00:00:00Z"))
    assert isinstance(answer.data, dict)
    assert answer.data["class"] == "expired"
    assert calls == []


async def test_a_handler_past_its_deadline_is_cancelled_and_progress_extends_it() -> None:
    cancelled = asyncio.Event()

    async def handler(asked: Message, context: Context) -> Json:
        for _ in range(4):
            if asked.data == "progress":
                await context.progress("on it")
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                cancelled.set()
                raise
        return "done"

    async with running(echo(handler, timeout_s=0.2)) as world:
        slow = await world.ask(request("r1"))
        alive = await world.ask(request("r2", data="progress"))
    assert isinstance(slow.data, dict)
    assert (slow.data["class"], cancelled.is_set(), alive.data) == ("timeout", True, "done")


async def test_no_more_handlers_run_than_the_concurrency_allows() -> None:
    now, most, gate = 0, 0, asyncio.Event()

    async def handler(_asked: Message) -> Json:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 2:
            gate.set()
        await gate.wait()
        await asyncio.sleep(0)
        now -= 1
        return None

    agent = echo(handler, concurrency=2)
    agent.capability("other")(handler)
    async with running(agent) as world:
        for number in range(6):  # from both queues, so that the prefetch alone would let four run
            world.put(request(f"a{number}"))
            world.put(request(f"b{number}", "other"), "other")
        for _ in range(12):
            await world.sent()
    assert most == 2


async def test_events_reach_exact_handlers_before_globs_and_answer_nothing() -> None:
    seen: list[tuple[str, str]] = []
    agent = Agent("tester")

    @agent.on("order.*")
    async def any_order(event: Message) -> None:
        seen.append(("glob", event.type))

    @agent.on("order.placed")
    async def placed(event: Message, context: Context) -> None:
        seen.append(("exact", event.type))
        await context.send("order.seen", {})

    async with running(agent) as world:
        for number, kind in enumerate(("order.placed", "order.paid", "order.a.b", "other")):
            event = Message({**request(f"e{number}").attributes, "type": kind}, None)
            world.put(event, None)
        assert (await world.sent()).type == "order.seen"
        await world.settled(agent_queue(NS, "tester"))
        assert world.broker.sent.empty()
    assert seen == [("exact", "order.placed"), ("glob", "order.paid")]


async def test_an_event_whose_handler_raises_comes_again() -> None:
    calls: list[str] = []
    agent = Agent("tester")

    @agent.on("order.placed")
    async def placed(event: Message) -> None:
        calls.append(event.id)
        if len(calls) == 1:
            raise ValueError("not yet")

    async with running(agent) as world:
        world.put(Message({**request("e1").attributes, "type": "order.placed"}, None), None)
        await world.settled(agent_queue(NS, "tester"))
    assert calls == ["e1", "e1"]


async def test_ask_gets_its_answer_by_correlation_and_raises_what_the_bus_tells() -> None:
    agent = Agent("tester")
    async with running(agent) as world:
        answers: list[tuple[str, Json]] = [
            ("answer.replied", {"n": 1}),
            (FAILED, {"class": "refusal", "reason": "not allowed"}),
        ]
        for kind, data in answers:
            asking = asyncio.ensure_future(agent.ask("question.asked", {"q": 1}, timeout_s=PATIENCE_S))
            asked = await world.sent()
            assert (asked.source, asked.text("replyto")) == ("tester", "agent:tester")
            assert asked.text("expirytime")
            attributes = {**request(f"x-{kind}").attributes, "type": kind, "correlationid": asked.id}
            world.put(Message(attributes, data), None)
            if kind == FAILED:
                with pytest.raises(AgentError, match="not allowed") as raised:
                    await asking
                assert raised.value.failure == "refusal"
            else:
                assert (await asking).data == data
        with pytest.raises(AgentError, match="no answer"):
            await agent.ask("question.asked", timeout_s=0.05)


async def test_stopping_finishes_what_runs_and_leaves_the_rest() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def handler(_asked: Message) -> Json:
        started.set()
        await go.wait()
        return "finished"

    agent = echo(handler, concurrency=1)
    broker, ready = MemoryBroker(NS), asyncio.Event()
    queue = capability_queue(NS, "echo")
    await broker.declare(queue)
    await broker.declare(agent_queue(NS, "tester"))
    task = asyncio.ensure_future(agent.serve(MemoryLink(broker), Settings(), ready.set))
    await ready.wait()
    broker.put(queue, request("r1"))
    broker.put(queue, request("r2"))
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE_S)
    assert broker.sent.get_nowait().data == "finished"
    assert (broker.sent.empty(), broker.depth(queue)) == (True, (1, 0))


async def test_what_a_handler_publishes_goes_through_its_context() -> None:
    later = asyncio.Event()

    async def handler(_asked: Message) -> Json:
        async def afterwards() -> None:
            await later.wait()
            await agent.send("after.that")

        background.append(asyncio.create_task(afterwards()))
        await agent.send("too.early")
        return None

    background: list[asyncio.Task[None]] = []
    agent = echo(handler)
    async with running(agent) as world:
        failed = await world.ask(request())
        assert isinstance(failed.data, dict)
        assert "context.send('too.early', data)" in str(failed.data["reason"])
        later.set()
        assert (await world.sent()).type == "after.that"
        await background[0]


async def test_a_message_that_is_sent_again_under_its_id_is_the_same() -> None:
    agent = Agent("tester")
    async with running(agent) as world:
        for _ in range(2):
            await agent.send("order.placed", {"n": 1}, message_id="order-1")
        first, second = await world.sent(), await world.sent()
    assert first == second
    assert (first.id, first.conversation) == ("order-1", "order-1")


async def test_send_needs_a_running_agent() -> None:
    with pytest.raises(BusError, match="not running"):
        await Agent("tester").send("a.b")


def test_handlers_that_cannot_be_called_are_refused_at_once() -> None:
    with pytest.raises(BusError, match=r"write `<lambda>\(message\)`"):
        Agent("tester").capability("echo")(lambda: None)
    agent = echo(lambda _asked: None)
    with pytest.raises(BusError, match="has a handler already"):
        agent.capability("echo")(lambda _asked: None)


def test_the_reply_cache_is_bounded_by_number_and_size() -> None:
    cache = ReplyCache(newest=2, octets=100)
    for key, octets in (("a", 10), ("b", 10), ("c", 10)):
        cache.put(key, Recorded((), octets))
    assert [cache.get(key) is not None for key in "abc"] == [False, True, True]
    cache.put("d", Recorded((), 95))
    assert [cache.get(key) is not None for key in "bcd"] == [False, False, True]
