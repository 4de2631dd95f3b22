"""Agents as processes on a real RabbitMQ: hosted, restarted, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from adapters import Agent, Json
from adapters.host import host
from adapters.link import AmqpLink
from bus.core.answering import derived_id
from bus.core.errors import BusError
from bus.core.message import Message
from bus.core.naming import agent_queue, capability_queue
from bus.core.route import Agent as Declared
from bus.settings import Settings
from tests.contract.agent_worlds import RabbitWorld

PATIENCE_S = 40
ROOT = str(Path(__file__).resolve().parents[2])

SDK_AGENT = """
import os, pathlib
from adapters import Agent, Message
agent = Agent("py")
pathlib.Path("py.pid").write_text(str(os.getpid()))

@agent.capability("slow")
async def slow(request: Message) -> object:
    if request.data == "die":
        os._exit(3)
    return {"variables": sorted(os.environ), "folder": os.getcwd()}

agent.run()
"""
STDIO_AGENT = """
import json, os, pathlib, sys
pathlib.Path("prog.pid").write_text(str(os.getpid()))
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "data": "from the program"}), flush=True)
"""
HANGING_AGENT = """
import asyncio, pathlib
from adapters import Agent
agent = Agent("first")

@agent.capability("slow")
async def slow(request):
    pathlib.Path("begun").touch()
    await asyncio.sleep(600)
"""

pytestmark = pytest.mark.broker


def request(identity: str, capability: str, data: Json = None) -> Message:
    given = {"specversion": "1.0", "id": identity, "source": "bus", "type": f"{capability}.requested"}
    return Message({**given, "conversationid": "c1"}, data)


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[RabbitWorld]:
    broker = request.getfixturevalue("broker")
    async with RabbitWorld(broker.bus_url, broker.agent_url, request.getfixturevalue("namespace")).opened() as opened:
        for agent in ("py", "prog", "first", "second"):
            await opened.declare(agent_queue(opened.namespace, agent))
        for capability in ("slow", "greeting"):
            await opened.declare(capability_queue(opened.namespace, capability))
        yield opened


def agents(folder: Path) -> list[Declared]:
    (folder / "agent.py").write_text(SDK_AGENT)
    (folder / "prog.py").write_text(STDIO_AGENT)
    return [
        Declared("py", "sdk", ("slow",), settings={"run": "agent.py:agent", "env": ["NEEDED"]}, folder=str(folder)),
        Declared("prog", "stdio", ("greeting",), settings={"command": ["{python}", "prog.py"]}, folder=str(folder)),
        Declared("far", "external", folder=str(folder)),
    ]


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another process does, which has no event here."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def answer(world: RabbitWorld) -> Message:
    return await asyncio.wait_for(world.sent(), PATIENCE_S)


async def test_hosted_agents_answer_are_restarted_and_end_with_the_host(world: RabbitWorld, tmp_path: Path) -> None:
    ready: asyncio.Queue[str] = asyncio.Queue()
    environment = {**os.environ, "NEEDED": "y", "SECRET": "x"}
    task = asyncio.ensure_future(host(agents(tmp_path), world.settings(), environment, ready.put_nowait))
    try:
        both = {await asyncio.wait_for(ready.get(), PATIENCE_S) for _ in range(2)}
        await world.put(capability_queue(world.namespace, "greeting"), request("r1", "greeting"))
        from_program = await answer(world)
        await world.put(capability_queue(world.namespace, "slow"), request("r2", "slow"))
        from_python = await answer(world)
        first = int((tmp_path / "py.pid").read_text())
        os.kill(first, signal.SIGKILL)
        again = await asyncio.wait_for(ready.get(), PATIENCE_S)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert (both, again) == ({"py", "prog"}, "py")
    assert (from_program.source, from_program.data) == ("prog", "from the program")
    assert isinstance(from_python.data, dict)
    assert from_python.data["folder"] == str(tmp_path)
    seen = from_python.data["variables"]
    assert isinstance(seen, list)
    assert "NEEDED" in seen
    assert "SECRET" not in seen
    second = int((tmp_path / "py.pid").read_text())
    assert second != first
    assert not alive(second)
    assert not alive(int((tmp_path / "prog.pid").read_text()))


async def test_children_end_when_the_host_is_killed(world: RabbitWorld, tmp_path: Path) -> None:
    agents(tmp_path)
    (tmp_path / "host.py").write_text(
        "import asyncio, os\n"
        "from pathlib import Path\n"
        "from adapters.host import host\n"
        "from bus.core.route import Agent\n"
        "from bus.settings import Settings\n"
        "agents = [Agent('py', 'sdk', ('slow',), settings={'run': 'agent.py'}, folder='.'),\n"
        "          Agent('prog', 'stdio', ('greeting',), settings={'command': ['{python}', 'prog.py']}, folder='.')]\n"
        "ready = lambda name: Path(f'{name}.ready').touch()\n"
        "asyncio.run(host(agents, Settings.from_environment(), os.environ, ready))\n"
    )
    settings = world.settings()
    environment = {
        **os.environ,
        "PYTHONPATH": ROOT,
        "BUS_AGENT_AMQP_URL": str(settings.agent_amqp_url),
        "BUS_NAMESPACE": world.namespace,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "host.py", cwd=tmp_path, env=environment)
    await until(lambda: (tmp_path / "py.ready").exists() and (tmp_path / "prog.ready").exists())
    process.kill()
    await process.wait()
    pids = [int((tmp_path / name).read_text()) for name in ("py.pid", "prog.pid")]
    await until(lambda: not any(alive(each) for each in pids))


async def test_a_request_of_a_killed_agent_goes_to_another_under_the_same_reply_id(
    world: RabbitWorld, tmp_path: Path
) -> None:
    (tmp_path / "first.py").write_text(HANGING_AGENT)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ROOT,
        "BUS_AGENT_AMQP_URL": str(world.settings().agent_amqp_url),
        "BUS_NAMESPACE": world.namespace,
    }
    argv = (sys.executable, "-m", "adapters.sdk", "first.py:agent")
    first = await asyncio.create_subprocess_exec(*argv, cwd=tmp_path, env=environment)
    asked = request("r1", "slow")
    await world.put(capability_queue(world.namespace, "slow"), asked)
    await until((tmp_path / "begun").exists)

    second, ready = Agent("second"), asyncio.Event()

    @second.capability("slow")
    async def slow(_asked: Message) -> Json:
        return "from the second"

    settings = world.settings()
    task = asyncio.ensure_future(second.serve(AmqpLink(settings, "second"), settings, ready.set))
    await asyncio.wait_for(ready.wait(), PATIENCE_S)
    first.kill()
    await first.wait()
    got = await answer(world)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert (got.source, got.data, got.id) == ("second", "from the second", derived_id(asked, 0))
    assert await world.ready(capability_queue(world.namespace, "slow")) == 0


async def test_sigterm_lets_a_running_handler_finish(world: RabbitWorld, tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(HANGING_AGENT.replace("sleep(600)", "sleep(1)\n    return 'finished'"))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ROOT,
        "BUS_AGENT_AMQP_URL": str(world.settings().agent_amqp_url),
        "BUS_NAMESPACE": world.namespace,
    }
    argv = (sys.executable, "-m", "adapters.sdk", "first.py:agent")
    process = await asyncio.create_subprocess_exec(*argv, cwd=tmp_path, env=environment)
    await world.put(capability_queue(world.namespace, "slow"), request("r1", "slow"))
    await until((tmp_path / "begun").exists)
    process.terminate()
    assert (await answer(world)).data == "finished"
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    assert await world.ready(capability_queue(world.namespace, "slow")) == 0


@pytest.mark.parametrize(
    ("adapter", "settings", "reason"),
    [
        ("sdk", {}, "does not say what to run"),
        ("sdk", {"run": "../../etc/passwd:agent"}, "no file"),
        ("grpc", {}, "write one of sdk, stdio, bridge, external"),
    ],
)
async def test_wrong_settings_are_refused_before_anything_starts(
    tmp_path: Path, adapter: str, settings: dict[str, Json], reason: str
) -> None:
    with pytest.raises(BusError, match=reason):
        await host([Declared("x", adapter, settings=settings, folder=str(tmp_path))], Settings(), {}, print)
