"""A small integration on disk, and the command line as a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bus.cli import run_command

NAMED = '{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}'

FILES = {
    "integration.yaml": """\
integration: hello
types:
  hello.asked: {contract: schemas/hello.v1.json}
""",
    "agents.yaml": """\
agents:
  greeter: {adapter: external, capabilities: [greeting]}
capabilities:
  greeting: {request: schemas/greeting.request.v1.json, reply: schemas/greeting.reply.v1.json}
""",
    "hello.yaml": """\
route: hello
match: {type: hello.asked}
to: {capability: greeting, data: {name: "{{ data.name }}"}}
""",
    "schemas/hello.v1.json": NAMED,
    "schemas/greeting.request.v1.json": NAMED,
    "schemas/greeting.reply.v1.json": NAMED.replace("name", "text"),
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Bus: TypeAlias = Callable[..., Ran]


@pytest.fixture
def bus(capfd: pytest.CaptureFixture[str]) -> Bus:
    """`bus("lint", path)` runs the command and returns its exit code and what it wrote."""

    def run(*words: str | Path) -> Ran:
        code = run_command([str(word) for word in words])
        written = capfd.readouterr()
        return Ran(code, written.out, written.err)

    return run


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """An integration without mistakes: one route to one capability."""
    folder = tmp_path / "routes" / "hello"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def broken(hello: Path) -> Path:
    """The same with a field that its contract does not have."""
    path = hello / "hello.yaml"
    path.write_text(path.read_text().replace("data.name", "data.nmae"))
    return hello
