"""`bus dev` as a person uses it: it starts, answers, refuses a bad edit, takes up a good one, and stops cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TestBroker

AGENT = """\
from adapters import Agent, Message

agent = Agent("greeter")


@agent.capability("greeting")
def greet(request: Message) -> dict[str, str]:
    return {"text": f"Hello {request.data['name']}"}
"""


class Dev:
    """A running `bus dev` and the environment in which other commands find its broker."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._environment = environment
        self.process = self._popen("dev", str(folder))

    def _popen(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "bus", *words, "--output", "json"]
        return subprocess.Popen(argv, env=self._environment, stdout=subprocess.PIPE, text=True)

    def hears(self) -> dict[str, Any]:
        """The next thing that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"bus dev ended with exit code {self.process.wait()}"
        said: dict[str, Any] = json.loads(line)
        return said

    def ask(self, data: str) -> tuple[int, dict[str, Any]]:
        """`bus send hello.asked DATA --wait`: exit code and what it printed."""
        sending = self._popen("send", "hello.asked", data, "--wait")
        out, _ = sending.communicate(timeout=60)
        return sending.returncode, json.loads(out)


@pytest.fixture
def dev(broker: TestBroker, namespace: str, hello: Path, tmp_path: Path) -> Iterator[Dev]:
    declared = hello / "agents.yaml"
    declared.write_text(declared.read_text().replace("adapter: external", "adapter: sdk, run: 'greeter.py:agent'"))
    (hello / "greeter.py").write_text(AGENT)
    running = Dev(
        hello,
        {
            **os.environ,
            "BUS_AMQP_URL": broker.bus_url,
            "BUS_AGENT_AMQP_URL": broker.agent_url,
            "BUS_IDENTITY": "shared",
            "BUS_NAMESPACE": namespace,
            "BUS_HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def test_the_first_five_minutes(dev: Dev, hello: Path) -> None:
    ready = dev.hears()
    assert (ready["event"], ready["agents"]) == ("ready", ["greeter"])
    code, answer = dev.ask('{"name": "Ada"}')
    assert (code, answer["data"]) == (0, {"text": "Hello Ada"})
    code, refused = dev.ask("{}")
    assert (code, refused["type"]) == (1, "bus.failed")
    (finding,) = refused["data"]["findings"]
    assert [finding[each] for each in ("pointer", "expected", "got")] == ["/name", "string", "nothing"]
    assert (finding["excerpt"], finding["alternatives"]) == ({"type": "string"}, ["name"])

    route = hello / "hello.yaml"
    good = route.read_text()
    route.write_text(good.replace("data.name", "data.nmae"))
    said = dev.hears()
    assert (said["event"], said["code"], said["config"]) == ("refused", "unknown-field", ready["config"])
    assert dev.ask('{"name": "Ada"}')[0] == 0

    route.write_text(good.replace("{{ data.name }}", "dear {{ data.name }}"))
    again = dev.hears()
    assert again["event"] == "ready"
    assert again["config"] != ready["config"]
    assert dev.ask('{"name": "Ada"}')[1]["data"] == {"text": "Hello dear Ada"}

    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(30) == 130
