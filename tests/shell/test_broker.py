"""The private node's life: found again, adopted from an owner that was killed, stopped without leftovers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from bus.core.errors import Unreachable
from bus.shell.broker import Process, start_broker
from bus.shell.broker_install import link_server, server_script

_OWNER = """
import os, signal, sys
from pathlib import Path
from bus.shell.broker import Process, start_broker
assert start_broker(Path(sys.argv[1]), progress=print).owned
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    try:
        server_script()
    except Unreachable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    folder = Path(tempfile.mkdtemp(prefix="agentbus-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.broker
def test_a_node_outlives_a_killed_owner_and_is_adopted_once(home: Path) -> None:
    owner = subprocess.run([sys.executable, "-c", _OWNER, str(home)], capture_output=True, text=True, check=False)
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    assert "broker starting" in owner.stdout
    adopted = start_broker(home, progress=print)
    again = start_broker(home, progress=print)
    state = orjson.loads((home / "broker.json").read_bytes())
    try:
        assert (adopted.owned, again.owned) == (True, False)
        assert (again.pid, again.bus_url) == (adopted.pid, adopted.bus_url)
        again.stop()
        os.kill(adopted.pid, 0)  # still there: only the owner stops it
    finally:
        adopted.stop()
    assert not adopted.alive
    for name in ("server", "epmd"):
        assert not Process(**state[name]).alive
    adopted.stop()
    kept = orjson.loads((home / "broker.json").read_bytes())
    assert kept["bus_url"] == adopted.bus_url, "agents of this life find the next one"
    assert (home / "broker.json").stat().st_mode & 0o077 == 0


def test_a_folder_with_blanks_starts_from_the_installation_itself(tmp_path: Path) -> None:
    """RabbitMQ's scripts do not quote the folder that they are started from."""
    script = tmp_path / "rabbitmq_server-1" / "sbin" / "rabbitmq-server"
    for name in ("sbin", "escript", "plugins/rabbit-1/ebin", "plugins/rabbitmq_prelaunch-1/ebin", "plugins/unused-1"):
        (tmp_path / "rabbitmq_server-1" / name).mkdir(parents=True)
    for name in ("rabbit", "rabbitmq_prelaunch"):
        (script.parent.parent / "plugins" / f"{name}-1" / "ebin" / f"{name}.app").write_text("{applications, [kernel]}")
    linked = link_server(tmp_path / "server", script, ())
    assert linked == tmp_path / "server" / "sbin"
    assert sorted(each.name for each in (linked.parent / "plugins").iterdir()) == ["rabbit-1", "rabbitmq_prelaunch-1"]
    assert link_server(tmp_path / "my server", script, ()) == script.parent
    assert link_server(tmp_path / "server", script, ("absent",)) == script.parent
