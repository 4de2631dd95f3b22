"""The promises of the bus, against a real RabbitMQ and a bus process that is really killed."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from typing import Any

import orjson
import pytest

from adapters import Agent, AgentError
from bus.core.message import TASK_CLAIM, Json
from bus.core.times import rfc3339
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from tests.acceptance.live import LiveBus, event, greeter, playing


def asking(live: LiveBus, count: int, answers: dict[str, Any], **kill: Any) -> None:
    """`desk` asks `count` greetings and keeps every answer it gets, also a second one."""
    desk = Agent("desk", concurrency=64)

    async def act(agents: dict[str, Agent]) -> None:
        async def one(number: int) -> None:
            answer = await desk.ask("hello.asked", {"name": str(number)}, timeout_s=60)
            answers[str(number)] = (answer.id, answer.data)

        tasks = [asyncio.create_task(one(number)) for number in range(count)]
        if kill:
            while len(answers) < kill["after"]:
                await asyncio.sleep(0.002)
            await asyncio.to_thread(live.kill)
            await asyncio.to_thread(live.start)
        await asyncio.gather(*tasks)

    asyncio.run(playing(live, {"desk": desk, "greeter": greeter()}, act))


def test_an_answer_comes_back_and_the_trace_tells_how(live: LiveBus) -> None:
    async def act(agents: dict[str, Agent]) -> None:
        sent = await asyncio.to_thread(live.command, "send", "hello.asked", '{"name":"Ada"}', "--wait")
        assert sent.returncode == 0, sent.stderr
        said.update(json.loads(sent.stdout.splitlines()[-1]))

    said: dict[str, Any] = {}
    asyncio.run(playing(live, {"greeter": greeter()}, act))
    assert said["data"] == {"text": "Hello Ada"}
    traced = live.command("trace", said["conversation"][:8], "--output", "text").stdout
    assert "hello.asked  cli -> route hello/hello (" in traced
    assert "hello.yaml:1, exact type)" in traced
    assert "greeting.requested" in traced
    assert "capability greeting" in traced or "capability:greeting" in traced
    assert "greeting.replied  greeter" in traced
    assert " ms" in traced


def test_killed_in_the_middle_nothing_is_lost_and_nothing_answered_twice(live: LiveBus) -> None:
    answers: dict[str, Any] = {}
    asking(live, 400, answers, after=60)
    assert {number: data for number, (_, data) in answers.items()} == {
        str(number): {"text": f"Hello {number}"} for number in range(400)
    }
    assert live.stop() == 0
    records = History(SqliteLog(live.home / "bus.db")).tail(None).read(100_000)
    # After the restart agents may ask whether what they get is still to be done.
    ends = Counter(record.end for record in records if record.type != TASK_CLAIM)
    assert ends["routed"] == 800
    assert not {"dead_letter", "invalid", "superseded"} & set(ends)
    # No second answer: what the restart published again has the id of an answer that was given, so agents drop it.
    given = {identity for identity, _ in answers.values()}
    assert {properties.message_id for properties, _ in live.queue("agent.desk")} <= given


BAD = [
    ("not-json", b"{nope", "not JSON"),
    ("contract", event("hello.asked", {"name": 7}, "bad-1"), "/name expected"),
    ("too-deep", event("hello.asked", orjson.loads("[" * 90 + "]" * 90), "bad-2"), "deep"),
    ("too-big", event("hello.asked", {"name": "x" * 300_000}, "bad-3"), "262144"),
    ("expired", event("hello.asked", {"name": "x"}, "bad-4", expirytime="2020-01-01T00:00:00Z"), "deadline"),
    ("no_route", event("hello.lost", {}, "bad-5"), "no route owns `hello.lost`"),
    ("hops", event("hello.asked", {"name": "x"}, "bad-6", hopsleft=0), "hops"),
    ("unknown-agent", event("hello.asked", {"name": "x"}, "bad-7").replace(b'"desk"', b'"mallory"'), "mallory"),
]


def test_bad_input_ends_in_its_channel_is_told_and_stops_nothing(live: LiveBus) -> None:
    for number, (_, body, _) in enumerate(BAD, 1):
        live.publish(body, key=f"bad-{number - 1}", message_id=None, reply_to="agent:desk")
    listed: dict[str, str] = {}
    for channel in ("invalid", "dead"):
        shown = wait_for_rows(live, channel, 5 if channel == "invalid" else 3)
        listed.update({row["code"]: row["reason"] for row in shown})
    for code, _, text in BAD:
        assert text in listed[code], (code, listed)
    told = {orjson.loads(body)["data"]["code"] for _, body in live.queue("agent.desk")}
    assert told == {code for code, _, _ in BAD} - {"unknown-agent"}  # nobody of that name has an inbox
    answers: dict[str, Any] = {}
    asking(live, 3, answers)
    assert len(answers) == 3
    traced = live.command("trace", "bad-5", "--output", "text")
    assert "no route owns `hello.lost`" in traced.stdout


def wait_for_rows(live: LiveBus, channel: str, count: int) -> list[dict[str, Any]]:
    """List a channel until it holds `count` messages; `dlq list` disturbs nothing."""
    for _ in range(60):
        shown = live.command("dlq", "list", "--channel", channel, "--output", "json")
        assert shown.returncode == 0, shown.stderr
        rows = [json.loads(line) for line in shown.stdout.splitlines()]
        if len(rows) >= count:
            return rows
    raise AssertionError(f"{channel} holds {rows}")


def test_a_duplicate_is_recorded_and_not_done_again(live: LiveBus) -> None:
    body = event("hello.asked", {"name": "twice"}, "dup-1")
    for _ in range(3):
        live.publish(body, key="dup-1")
    live.publish(event("hello.asked", {"name": "other"}, "dup-1"), key="dup-1")
    rows = wait_for_rows(live, "invalid", 1)
    assert rows[0]["code"] == "id-reused"
    assert live.stop() == 0
    ends = History(SqliteLog(live.home / "bus.db")).ends()
    assert (ends["routed"], ends["duplicate"], ends["invalid"]) == (1, 2, 1)
    assert len(live.queue("capability.greeting")) == 1


def test_an_agent_that_fails_or_breaks_its_contract_is_data_to_the_asker(live: LiveBus) -> None:
    desk, bad = Agent("desk"), Agent("greeter")
    replies: list[Any] = [AgentError("rate_limit", "too many"), {"wrong": 1}, ValueError("oops")]

    @bad.capability("greeting")
    async def greet(request: object) -> Json:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return dict(reply)

    seen: list[tuple[str, str]] = []

    async def act(agents: dict[str, Agent]) -> None:
        for _ in range(3):
            with pytest.raises(AgentError) as caught:
                await desk.ask("hello.asked", {"name": "x"}, timeout_s=30)
            seen.append((caught.value.failure, caught.value.reason))

    asyncio.run(playing(live, {"desk": desk, "greeter": bad}, act))
    assert [failure for failure, _ in seen] == ["rate_limit", "contract", "tool_error"]
    assert "/wrong expected no such field" in seen[1][1]
    assert "ValueError" in seen[2][1]


def taken(live: LiveBus, name: str, count: int) -> list[dict[str, Any]]:
    """Take `count` messages from a queue, waiting for them."""
    bodies: list[bytes] = []
    for _ in range(200):
        bodies += [body for _, body in live.queue(name)]
        if len(bodies) >= count:
            return [orjson.loads(body) for body in bodies]
    raise AssertionError(f"{name} holds {bodies}")


def test_second_and_late_answers_go_nowhere_and_the_trace_and_the_agent_are_told(live: LiveBus) -> None:
    until_s = time.time() + 2.0
    late = event("hello.asked", {"name": "x"}, "late-2", replyto="agent:desk", expirytime=rfc3339(until_s))
    live.publish(late, key="late-2")
    live.publish(event("hello.asked", {"name": "x"}, "twice-2", replyto="agent:desk"), key="twice-2")
    requests = {request["conversationid"]: request for request in taken(live, "capability.greeting", 2)}

    def answer(conversation: str, source: str) -> None:  # an agent without the SDK, which brings back the least it must
        request = requests[conversation]
        named = {"correlationid": request["id"], "replyto": request["replyto"], "conversationid": conversation}
        body = event("greeting.replied", {"text": source}, f"r-{conversation}-{source}", source=source, **named)
        live.publish(body, key=conversation)

    answer("twice-2", "greeter")
    answer("twice-2", "welcomer")
    time.sleep(max(0.0, until_s - time.time()))
    answer("late-2", "greeter")
    answers = {message["conversationid"]: message for message in taken(live, "agent.desk", 2)}
    assert answers["twice-2"]["data"] == {"text": "greeter"}
    assert (answers["late-2"]["type"], answers["late-2"]["data"]["class"]) == ("bus.failed", "expired")
    told = [taken(live, f"agent.{name}", 1)[0]["data"]["code"] for name in ("welcomer", "greeter")]
    assert told == ["superseded", "expired"]
    assert "another answer to this request was recorded first" in live.command("trace", "twice-2").stdout
    assert "after the deadline of the request" in live.command("trace", "late-2").stdout
    assert live.queue("agent.desk") == []


def test_what_expires_in_an_inbox_is_recorded_and_dead_lettered(live: LiveBus) -> None:
    live.publish(event("hello.odd", {}, "late-1"), key="late-1")
    rows = wait_for_rows(live, "dead", 1)
    assert (rows[0]["code"], rows[0]["conversation"]) == ("expired", "late-1")
    assert "agent.absent" in rows[0]["reason"]
    assert "bounced" in live.command("trace", "late-1", "--output", "text").stdout


def test_redriven_once_the_cause_is_mended(live: LiveBus) -> None:
    live.publish(event("hello.lost", {}, "lost-1"), key="lost-1")
    wait_for_rows(live, "dead", 1)
    assert live.stop() == 0
    mended = live.home / "mended" / "hello"
    shutil.copytree(live.folder, mended)
    (mended / "more.yaml").write_text(
        'route: mended\nmatch: {type: hello.lost}\nto: {capability: greeting, data: {name: "again"}}\n'
    )
    live.folder = mended
    live.start()
    dry = live.command("dlq", "redrive", "--all", "--channel", "dead", "--dry-run", "--output", "json")
    assert dry.returncode == 0, dry.stderr
    assert len(wait_for_rows(live, "dead", 1)) == 1
    driven = live.command("dlq", "redrive", "--all", "--channel", "dead", "--output", "json")
    assert driven.returncode == 0, driven.stderr

    async def act(agents: dict[str, Agent]) -> None:
        while live.metric("agentbus_outputs_confirmed_total") < 2:
            await asyncio.sleep(0.05)

    asyncio.run(playing(live, {"greeter": greeter()}, act))
    traced = live.command("trace", "lost-1", "--output", "text").stdout
    assert "route hello/mended" in traced
    assert "hello.lost" not in {properties.type for properties, _ in live.queue("dead")}


def test_two_buses_cannot_share_a_store_nor_two_stores_a_namespace(live: LiveBus) -> None:
    same_store = live.command("run", str(live.folder))
    assert same_store.returncode == 3
    assert "another process" in same_store.stderr
    environment_home = live.home
    live.home = environment_home.parent / "elsewhere"
    try:
        other_store = live.command("run", str(live.folder))
    finally:
        live.home = environment_home
    assert other_store.returncode == 3
    assert f"namespace `{live.namespace}` belongs to store" in other_store.stderr
