"""Two agents behind one capability, killed again and again between a confirmed reply and the ack of its request."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

from adapters import Agent
from bus.core.message import TASK_CLAIM, Json
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from tests.acceptance.live import LiveBus, playing

ASKED = 240
EVERY = 10  # replies that each life of an agent gives
MEMBERS = ("greeter", "welcomer")


async def keep_alive(live: LiveBus, name: str, notes: Path) -> None:
    """Run the agent, anew whenever it has ended."""
    command = [sys.executable, "-m", "tests.acceptance.mortal_greeter", name, str(EVERY), str(notes)]
    while True:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=live.environment)
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def ask_all(live: LiveBus, notes: Path, answers: dict[str, Json]) -> None:
    desk = Agent("desk", concurrency=16)
    members = [asyncio.create_task(keep_alive(live, name, notes)) for name in MEMBERS]

    async def act(_agents: dict[str, Agent]) -> None:
        async def one(number: int) -> None:
            answer = await desk.ask("hello.asked", {"name": str(number)}, timeout_s=80)
            answers[str(answer.text("causationid"))] = answer.data

        await asyncio.gather(*(one(number) for number in range(ASKED)))

    try:
        await playing(live, {"desk": desk}, act)
    finally:
        for each in members:
            each.cancel()
        await asyncio.gather(*members, return_exceptions=True)


def test_what_is_answered_is_never_worked_on_again_by_anybody(
    live: LiveBus, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    notes, answers = tmp_path / "notes", dict[str, Json]()
    asyncio.run(ask_all(live, notes, answers))
    assert len(answers) == ASKED
    assert live.stop() == 0

    confirmed: dict[str, str] = {}
    again, lives = [], set()
    for line in notes.read_text().splitlines():
        what, task, pid = line.split()
        lives.add(pid)
        if what == "confirmed":
            confirmed.setdefault(task, pid)
        elif task in confirmed:
            again.append(task)
    assert again == []  # not one was begun after a reply to it was confirmed
    records = History(SqliteLog(live.home / "bus.db")).tail(None).read(100_000)
    verdicts = [record.why.partition(",")[0] for record in records if record.type == TASK_CLAIM]
    answered, go = verdicts.count("claim: answered"), verdicts.count("claim: go")
    record_property("lives of two agents", len(lives))
    record_property("claims: answered, go", (answered, go))
    assert answered >= len(lives) - len(MEMBERS)  # every death left at least one behind
    assert not any(record.end == "superseded" for record in records)
