"""Work that takes longer than its lease, by two agents of which the first falls silent in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters import Agent
from bus.core.message import Json
from tests.acceptance.essayist import WORK_S
from tests.acceptance.live import LiveBus, playing

LEASE_S = 3.0  # as hello/agents.yaml says


async def start(live: LiveBus, name: str, notes: Path) -> Process:
    command = [sys.executable, "-m", "tests.acceptance.essayist", name, str(notes)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=live.environment)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def noted(notes: Path, what: str) -> tuple[str, int]:
    """Wait for a note; returns the fence and the process."""
    while True:
        text = await asyncio.to_thread(lambda: notes.read_text() if notes.exists() else "")
        for line in text.splitlines():
            if line.startswith(what):
                _, fence, pid = line.split()
                return fence, int(pid)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_work_goes_to_another_agent_when_its_own_is_silent_and_is_answered_once(
    live: LiveBus, tmp_path: Path, how: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    notes, desk = tmp_path / "notes", Agent("desk")
    answers: list[tuple[Json, str]] = []

    async def act(_agents: dict[str, Agent]) -> None:
        members = [await start(live, name, notes) for name in ("essayist", "novelist")]
        try:
            asking = asyncio.create_task(desk.ask("hello.long", {"name": "x"}, timeout_s=80))
            fence, first = await noted(notes, "began 0")
            await asyncio.sleep(LEASE_S * 1.2)  # renewed meanwhile, or it would have been given away
            os.kill(first, how)
            silent = time.monotonic()
            fence, second = await noted(notes, "began 1")
            record_property(f"given to the other after {how.name}, s", round(time.monotonic() - silent, 1))
            assert (fence, second != first) == ("1", True)
            if how == signal.SIGSTOP:
                os.kill(first, signal.SIGCONT)
                await noted(notes, f"stopped 0 {first}")
            answer = await asking
            answers.append((answer.data, answer.conversation))
            assert answer.data == {"text": f"an essay of {second}"}
        finally:
            for member in members:
                if member.returncode is None:
                    member.kill()
                await member.wait()

    asyncio.run(playing(live, {"desk": desk}, act))
    assert WORK_S > 3 * LEASE_S
    assert len(answers) == 1
    traced = live.command("trace", answers[0][1], "--output", "text").stdout
    assert "lease of try 0 ran out" in traced
    assert "has not been heard of for 3 s" in traced
    assert [line.split()[0] for line in notes.read_text().splitlines()].count("done") == 1
    assert live.queue("agent.desk") == []
