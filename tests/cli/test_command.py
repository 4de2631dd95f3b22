"""The command line as a shell sees it: help, exit codes, and errors that say what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bus.cli import COMMANDS
from bus.core.errors import BusError
from bus.settings import Settings
from tests.cli.conftest import Bus


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_that_teaches(bus: Bus, command: str) -> None:
    ran = bus(command, "--help")
    assert ran.code == 0
    assert f"bus {command}" in ran.out
    assert "Examples" in ran.out


def test_help_loads_nothing_heavy() -> None:
    """`bus --help` must stay quick: no AMQP, no CEL, no configuration."""
    heavy = {"pika", "cel_expr_python", "jsonschema_rs", "jinja2", "yaml", "prometheus_client", "asyncio", "orjson"}
    code = (
        "import sys\nfrom bus.cli import run_command\nassert run_command(['--help']) == 0\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize(("name", "says"), [("partitions", "a whole number"), ("stall_s", "a number")])
def test_a_setting_that_is_no_number_says_what_to_write(name: str, says: str) -> None:
    with pytest.raises(BusError, match=f"BUS_{name.upper()} is `abc`; write {says}$"):
        Settings.from_environment({f"BUS_{name.upper()}": "abc"})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["lint", "--nonsense"], "see `bus lint --help`"),
        (["lint", "there/is/no/such"], "there is no `there/is/no/such`"),
        (["send", "hello.asked", "{"], "is not JSON"),
        (["send", "hello.asked", "@no/such/file"], "cannot read `no/such/file`"),
        (["send", "hello.asked", "{}", "--timeout", "10"], "write a number with ms, s, m, h or d"),
        (["send", "hello.asked", "{}", "--wait", "--source", "greeter"], "leave out --source or --wait"),
        (["dlq", "redrive"], "write --reason TEXT, or --all"),
    ],
)
def test_wrong_usage_is_2_and_says_what_instead(bus: Bus, words: list[str], says: str) -> None:
    ran = bus(*words)
    assert ran.code == 2
    assert ran.err.startswith("bus: ")
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert not ran.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["send", "hello.asked", "{}"], "start `bus dev` or `bus run` there, or set BUS_AMQP_URL"),
        (["dlq", "list"], "no bus runs in"),
        (["trace", "abcd"], "there is no store at"),
        (["tap", "--no-follow"], "there is no store at"),
        (["agents", "run"], "no bus runs in"),
        (["dlq", "list", "--amqp-url", "amqp://a:secret@127.0.0.1:1/"], "no broker answers at 127.0.0.1:1"),
    ],
)
def test_unreachable_is_3_and_keeps_passwords_to_itself(bus: Bus, tmp_path: Path, words: list[str], says: str) -> None:
    ran = bus(*words, "--home", tmp_path / "nobody")
    assert ran.code == 3
    assert says in ran.err
    assert "secret" not in ran.err
    assert "Traceback" not in ran.err


def test_debug_shows_the_traceback(bus: Bus, tmp_path: Path) -> None:
    ran = bus("--debug", "trace", "abcd", "--home", tmp_path)
    assert ran.code == 3
    assert "Traceback" in ran.err
