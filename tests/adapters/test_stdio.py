"""Programs as agents: real child processes, on the link in memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.memory_link import MemoryBroker, MemoryLink
from adapters.stdio import StdioAgent
from bus.core.errors import BusError
from bus.core.message import Json, Message
from bus.core.naming import agent_queue, capability_queue
from bus.core.route import Agent as Declared
from bus.settings import Settings

NS = "agentbus"
PATIENCE_S = 20
LOOP = "import json, sys, os, pathlib\nfor line in sys.stdin:\n    task = json.loads(line)\n"
ECHO = LOOP + "    print(json.dumps({'id': task['id'], 'data': task}), flush=True)\n"


def declared(folder: Path, script: str, **settings: Json) -> Declared:
    (folder / "agent.py").write_text(script)
    given: dict[str, Json] = {"command": ["{python}", "agent.py"], **settings}
    return Declared("prog", "stdio", ("echo",), ("order.*",), (), 4, 10.0, settings=given, folder=str(folder))


def request(identity: str, data: Json = None, type_: str = "echo.requested") -> Message:
    given = {"specversion": "1.0", "id": identity, "source": "bus", "type": type_, "conversationid": "c1"}
    return Message(given, data)


class Running:
    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    def put(self, message: Message) -> None:
        self.broker.put(capability_queue(NS, "echo"), message)

    async def sent(self) -> Message:
        return await asyncio.wait_for(self.broker.sent.get(), PATIENCE_S)

    async def ask(self, identity: str, data: Json = None) -> Message:
        self.put(request(identity, data))
        return await self.sent()


@contextlib.asynccontextmanager
async def running(agent: StdioAgent) -> AsyncIterator[Running]:
    broker, ready = MemoryBroker(NS), asyncio.Event()
    for queue in (agent_queue(NS, "prog"), capability_queue(NS, "echo")):
        await broker.declare(queue)
    task = asyncio.ensure_future(agent.serve(MemoryLink(broker), Settings(), ready.set))
    try:
        await asyncio.wait_for(ready.wait(), PATIENCE_S)
        yield Running(broker)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_task_is_one_line_and_so_is_its_answer(tmp_path: Path) -> None:
    async with running(StdioAgent(declared(tmp_path, ECHO), os.environ)) as world:
        answer = await world.ask("r1", {"text": "grüße\n"})
    assert answer.type == "echo.replied"
    assert answer.data == {"id": "r1", "type": "echo.requested", "capability": "echo", "data": {"text": "grüße\n"}}


async def test_tasks_are_pipelined_and_answered_in_any_order(tmp_path: Path) -> None:
    reverse = (
        "import json, sys\nheld = []\nfor line in sys.stdin:\n    held.append(json.loads(line))\n"
        "    if len(held) == 3:\n        for task in reversed(held):\n"
        "            print(json.dumps({'id': task['id'], 'data': task['data']}), flush=True)\n"
    )
    async with running(StdioAgent(declared(tmp_path, reverse), os.environ)) as world:
        for number in range(3):
            world.put(request(f"r{number}", number))
        answers = [await world.sent() for _ in range(3)]
    assert {each.text("correlationid"): each.data for each in answers} == {"r0": 0, "r1": 1, "r2": 2}
    assert answers[0].data == 2


async def test_a_program_that_dies_gets_the_task_once_more(tmp_path: Path) -> None:
    dies_once = LOOP + (
        "    flag = pathlib.Path('died')\n    if not flag.exists():\n        flag.touch()\n        os._exit(1)\n"
        "    print(json.dumps({'id': task['id'], 'data': 'second try'}), flush=True)\n"
    )
    async with running(StdioAgent(declared(tmp_path, dies_once), os.environ)) as world:
        assert (await world.ask("r1")).data == "second try"


async def test_a_program_that_dies_twice_is_unavailable(tmp_path: Path) -> None:
    async with running(StdioAgent(declared(tmp_path, LOOP + "    os._exit(1)\n"), os.environ)) as world:
        answer = await world.ask("r1")
    assert answer.type == "echo.failed"
    assert isinstance(answer.data, dict)
    assert answer.data["class"] == "unavailable"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("'not json'", "no JSON"),
        ("'[1]'", 'without the task\'s "id"'),
        ("'{\"id\": NaN}'", "no JSON"),
        ('\'{"id": "r1", "id": "r1"}\'', "twice"),
        ("'x' * 3_000_000", "longer than"),
    ],
)
async def test_a_bad_line_fails_the_task_and_the_program_goes_on(tmp_path: Path, written: str, reason: str) -> None:
    script = LOOP + (
        f"    print({written} if task['data'] == 'bad' else json.dumps({{'id': task['id'], 'data': 1}}), flush=True)\n"
    )
    async with running(StdioAgent(declared(tmp_path, script), os.environ)) as world:
        bad, good = await world.ask("r1", "bad"), await world.ask("r2")
    assert isinstance(bad.data, dict)
    assert bad.data["class"] == "tool_error"
    assert reason in str(bad.data["reason"])
    assert good.data == 1


async def test_errors_progress_and_unknown_ids(tmp_path: Path) -> None:
    script = LOOP + (
        "    for answer in ({'id': 'who'}, {'id': task['id'], 'progress': 0.5},\n"
        "                   {'id': task['id'], 'error': {'class': 'refusal', 'reason': 'will not'}}):\n"
        "        print(json.dumps(answer), flush=True)\n"
    )
    async with running(StdioAgent(declared(tmp_path, script), os.environ)) as world:
        answer = await world.ask("r1")
    assert (answer.type, answer.data) == ("echo.failed", {"class": "refusal", "reason": "will not"})


async def test_events_are_tasks_without_a_capability_and_answer_nothing(tmp_path: Path) -> None:
    script = LOOP + (
        "    pathlib.Path('seen').write_text(repr(task['capability']))\n"
        "    print(json.dumps({'id': task['id'], 'data': 'ignored'}), flush=True)\n"
    )
    async with running(StdioAgent(declared(tmp_path, script), os.environ)) as world:
        world.broker.put(agent_queue(NS, "prog"), request("e1", type_="order.placed"))
        await asyncio.wait_for(world.broker.until(agent_queue(NS, "prog"), (0, 0)), PATIENCE_S)
        assert world.broker.sent.empty()
    assert (tmp_path / "seen").read_text() == "None"


async def test_the_program_sees_only_what_it_is_allowed_and_its_stderr_is_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    script = LOOP + (
        "    print('a word\\nand another', file=sys.stderr, flush=True)\n"
        "    print(json.dumps({'id': task['id'], 'data': sorted(os.environ)}), flush=True)\n"
    )
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SECRET": "x", "NEEDED": "y"}
    async with running(StdioAgent(declared(tmp_path, script, env=["NEEDED", "ABSENT"]), environment)) as world:
        answer = await world.ask("r1")
    assert isinstance(answer.data, list)
    assert set(answer.data) - {"LC_CTYPE"} == {"LANG", "NEEDED", "PATH"}
    assert {"a word", "and another"} <= {each.getMessage() for each in caplog.records if each.name == "agent.prog"}


async def test_the_program_ends_with_the_agent_even_when_it_ignores_its_stdin(tmp_path: Path) -> None:
    script = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)\n"
    pid = tmp_path / "pid"
    async with running(StdioAgent(declared(tmp_path, script), os.environ)):
        async with asyncio.timeout(PATIENCE_S):
            while not (pid.exists() and pid.read_text()):
                await asyncio.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"command": []}, "has no command"),
        ({"command": "prog --x"}, "must be a list of strings"),
        ({"command": ["no-such-program"]}, "no program"),
        ({"command": ["./missing"]}, "no program"),
    ],
)
def test_wrong_settings_say_what_to_write(tmp_path: Path, settings: dict[str, Json], reason: str) -> None:
    with pytest.raises(BusError, match=reason):
        StdioAgent(declared(tmp_path, "", **settings), os.environ)
