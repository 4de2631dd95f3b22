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

from bus.core import naming
from bus.core.errors import Unreachable
from bus.core.ingress import Ingress
from bus.core.route import Catalog
from bus.shell import probe
from bus.shell.broker import Process, start_broker
from bus.shell.broker_install import link_server, server_script
from bus.shell.topology import apply, plan

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


def _places(url: str, ingress: Ingress) -> dict[str, str]:
    """Publish a message of each of 200 conversations; returns the queue that each came to."""
    found: dict[str, str] = {}
    with probe.connection(url) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(200):
            channel.basic_publish(naming.ingress_exchange("ring"), f"conv-{number}", b"%d" % number, mandatory=True)
        for partition in range(sum(ingress.sizes)):
            queue = naming.ingress_queue("ring", partition)
            for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.5):
                if method is None:
                    break
                found[body.decode()] = queue
            channel.cancel()
    return found


@pytest.mark.broker
def test_a_conversation_keeps_its_partition_when_the_broker_starts_again(home: Path) -> None:
    """Otherwise what is sent after it would overtake what waits, and repeats would not be known as such."""
    ingress = Ingress((8,))
    node = start_broker(home, progress=print)
    try:
        with probe.connection(node.bus_url) as connection:
            apply(connection.channel(), plan("ring", ingress, Catalog("0", {}, {}, {}, ())))
        before = _places(node.bus_url, ingress)
        assert (len(before), len(set(before.values()))) == (200, 8)
        for _ in range(2):  # where places depend on the order in which a broker recovers, one start may keep them
            node.stop()
            node = start_broker(home, progress=print)
            assert _places(node.bus_url, ingress) == before
    finally:
        node.stop()


@pytest.mark.broker
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
