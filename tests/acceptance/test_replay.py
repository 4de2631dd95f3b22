"""The rehearsal and the real thing: what a bus on a real broker has decided, a stage decides again, the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import Agent, AgentError
from bus.core.message import Json, Message
from tests.acceptance.live import LiveBus, playing
from tests.conftest import TestBroker

FILES = {
    "integration.yaml": """\
integration: rehearsed
types:
  asked: {contract: any}
  noted: {contract: any}
""",
    "agents.yaml": """\
agents:
  desk: {adapter: external, publishes: [asked]}
  quick: {adapter: external, capabilities: [grade], subscribes: [noted]}
  slow: {adapter: external, capabilities: [other]}
capabilities:
  grade: {request: schemas/any.v1.json, reply: schemas/any.v1.json}
  other: {request: schemas/any.v1.json, reply: schemas/any.v1.json}
""",
    "routes.yaml": """\
route: gather
match: {type: asked}
serial_by: data.account
deadline: 30s
steps:
- scatter_gather:
    branches: {grade: {capability: grade}, other: {capability: other, timeout: 300ms}}
    join: {policy: best_effort, deadline: 5s}
    into: vars.found
- wire_tap: {event: noted, data: {n: 1}}
- call: {capability: grade, data: {refuse: true}}
  on_error: [{class: refusal, retry: {attempts: 2, initial: 200ms}, then: continue}]
to: {reply: ok, data: {missing: "{{ vars.found.missing }}"}}
---
route: notes
match: {type: noted}
steps: [{filter: data.n > 1}]
to: {event: noted}
""",
    "schemas/any.v1.json": "{}",
}


@pytest.fixture
def rehearsed(broker: TestBroker, namespace: str, tmp_path: Path) -> Iterator[LiveBus]:
    """A bus with a route that waits, joins, tries again and serves one message of a key at a time."""
    folder = tmp_path / "routes" / "rehearsed"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    bus = LiveBus(folder, tmp_path / "home", namespace, broker.bus_url, broker.agent_url)
    bus.start()
    yield bus
    bus.stop()


def crew() -> dict[str, Agent]:
    quick, slow, desk = Agent("quick"), Agent("slow"), Agent("desk")

    @quick.capability("grade")
    async def grade(request: Message) -> dict[str, Json]:
        assert isinstance(request.data, dict)
        if request.data.get("refuse"):
            raise AgentError("refusal", "not today")
        return {"grade": 1}

    @quick.on("noted")
    async def note(event: Message) -> None:
        pass

    @slow.capability("other")
    async def other(request: Message) -> dict[str, Json]:
        assert isinstance(request.data, dict)
        await asyncio.sleep(0.6 if request.data["slow"] else 0.02)
        return {"n": 2}

    return {"quick": quick, "slow": slow, "desk": desk}


def test_what_a_real_bus_decided_a_rehearsal_decides_the_same(rehearsed: LiveBus) -> None:
    answers: list[Json] = []

    async def act(agents: dict[str, Agent]) -> None:
        asked: list[Json] = [
            {"account": account, "slow": slow} for account, slow in (("a", True), ("a", False), ("b", False))
        ]
        got = await asyncio.gather(*(agents["desk"].ask("asked", each, timeout_s=60) for each in asked))
        answers.extend(each.data for each in got)

    asyncio.run(playing(rehearsed, crew(), act))
    assert answers == [{"missing": ["other"]}, {"missing": []}, {"missing": []}]
    assert rehearsed.stop() == 0
    replayed = rehearsed.command("replay", "--since", "1h", "--against", str(rehearsed.folder), "--output", "text")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "no difference in 3 conversations" in replayed.stdout
    changed = rehearsed.folder / "routes.yaml"
    changed.write_text(changed.read_text().replace("n: 1", "n: 2").replace("then: continue", "then: dead_letter"))
    other = rehearsed.command("replay", "--since", "1h", "--against", str(rehearsed.folder))
    assert other.returncode == 1
    *differing, summary = map(json.loads, other.stdout.splitlines())
    assert (summary["differ"], len(differing)) == (3, 3)
