"""Tasks that an agent asks the bus about: those that come again, and those that take long."""

from __future__ import annotations

import asyncio

import pytest

from adapters import Agent, Context, Json, Message
from bus.core.message import FAILED, TASK_CLAIM
from bus.core.naming import address_queue, capability_queue
from tests.adapters.sdk_world import NS, PATIENCE_S, echo, request, running


async def test_a_task_that_comes_again_is_worked_on_only_when_the_bus_says_so() -> None:
    calls: list[str] = []

    async def handler(asked: Message) -> Json:
        calls.append(asked.id)
        return "computed"

    async with running(echo(handler)) as world:
        world.put(request("done", fence=2), replay=True)
        claim = await world.claimed()
        assert isinstance(claim.data, dict)
        assert (claim.text("correlationid"), claim.text("replyto"), claim.text("fence"), claim.data["capability"]) == (
            "done", "client:ab!m0!seal", "2", "echo",
        )  # fmt: skip
        world.say(claim, "answered")
        await world.settled()
        world.put(request("done", fence=2))  # known now: neither asked about nor worked on
        await world.settled()
        world.put(request("open"), replay=True)
        claim = await world.claimed()
        assert calls == []
        world.say(claim, "go")
        assert (await world.sent()).data == "computed"
        await world.settled()
        world.put(request("open"), replay=True)  # the own reply is known: nothing to ask
        assert (await world.sent()).type == "echo.replied"
        await world.settled()
    assert calls == ["open"]


async def test_what_comes_later_in_the_conversation_does_not_overtake_a_question_to_the_bus() -> None:
    began: list[str] = []
    other = asyncio.Event()

    async def handler(asked: Message) -> Json:
        began.append(asked.id)
        if asked.conversation == "c2":
            other.set()
        return None

    async with running(echo(handler)) as world:
        for name in ("r1", "r2"):
            world.put(request(name), replay=True)
        world.put(request("r3"))
        world.put(request("r4", conversationid="c2"))
        await asyncio.wait_for(other.wait(), PATIENCE_S)
        first, second = [each for each in [await world.sent() for _ in range(3)] if each.type == TASK_CLAIM]
        world.say(second, "go")
        assert isinstance(second.data, dict)
        await world.broker.until(address_queue(NS, str(second.data["inbox"])), (0, 0))
        assert began == ["r4"]
        world.say(first, "go")
        later = [f"s{number:02}" for number in range(50)]
        for name in later:  # some come when the question is answered, and who waited for that has not gone on yet
            world.put(request(name))
            await asyncio.sleep(0)
        await world.settled()
    assert began == ["r4", "r1", "r2", "r3", *later]


async def test_an_agent_that_the_bus_refuses_the_task_gives_it_back() -> None:
    async with running(echo(lambda _asked: "never")) as world:
        world.put(request(), replay=True)
        claim = await world.claimed()
        attributes = {**request("f").attributes, "type": FAILED, "correlationid": claim.id}
        world.put(Message(attributes, {"class": "contract", "reason": "not yours"}), None)
        again = await world.claimed()
        assert again.id != claim.id
        world.say(again, "answered")
        await world.settled()
        assert world.broker.sent.empty()


async def test_stopping_waits_for_no_verdict() -> None:
    async with running(echo(lambda _asked: "never")) as world:
        world.put(request(), replay=True)
        await world.claimed()
    assert world.broker.depth(capability_queue(NS, "echo")) == (1, 0)


def accepting(claim: Message) -> bool:
    assert isinstance(claim.data, dict)
    return claim.data.get("lease") is True


async def test_long_work_is_accepted_then_settled_then_renewed_until_it_is_answered() -> None:
    go, gone = asyncio.Event(), asyncio.Event()

    async def handler(asked: Message) -> Json:
        gone.set()
        await go.wait()
        return asked.id

    async with running(echo(handler, concurrency=1)) as world:
        for name in ("r1", "r2"):
            world.put(request(name, lease=3))
        claim = await world.claimed()
        assert accepting(claim)
        assert not gone.is_set()
        world.say(claim, "go", lease=3)
        await asyncio.wait_for(gone.wait(), PATIENCE_S)
        await world.broker.until(capability_queue(NS, "echo"), (0, 1))  # the second is not accepted, for want of a slot
        for _ in range(2):
            renewal = await world.claimed()
            assert accepting(renewal)
            assert renewal.text("correlationid") == "r1"
            world.say(renewal, "go", lease=3)
        go.set()
        assert (await world.sent()).data == "r1"
        second = await world.claimed()
        world.say(second, "taken")  # another agent's, by now
        await world.settled()
        assert world.broker.sent.empty()


async def test_work_whose_lease_is_lost_is_stopped_and_answers_nothing() -> None:
    stopped = asyncio.Event()

    async def handler(_asked: Message, context: Context) -> None:
        await context.send("never.leaves")
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    async with running(echo(handler)) as world:
        world.put(request(lease=1))
        world.say(await world.claimed(), "go", lease=1)
        world.say(await world.claimed(), "answered")
        await asyncio.wait_for(stopped.wait(), PATIENCE_S)
    assert world.broker.sent.empty()


async def test_accepted_work_may_take_as_long_as_it_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.sdk.inbox.HOLD_S", 0.3)

    async def handler(_asked: Message, context: Context) -> Json:
        for _ in range(5):
            await context.progress()
            await asyncio.sleep(0.1)
        return "done"

    async with running(echo(handler, timeout_s=0.25)) as world:
        world.put(request("long", lease=60))
        world.say(await world.claimed(), "go", lease=60)
        assert (await world.sent()).data == "done"
        world.put(request("short"))
        answer = await world.sent()
        assert isinstance(answer.data, dict)
        assert answer.data["class"] == "timeout"


async def test_an_event_that_comes_again_is_not_asked_about() -> None:
    agent, seen = Agent("tester"), asyncio.Event()

    @agent.on("order.placed")
    async def placed(_event: Message) -> None:
        seen.set()

    async with running(agent) as world:
        world.put(Message({**request("e1").attributes, "type": "order.placed"}, None), None, replay=True)
        await asyncio.wait_for(seen.wait(), PATIENCE_S)
        assert world.broker.sent.empty()
