"""A cluster of broker nodes on one machine, each of which can be killed and brought back.

Every node is a private one as `bus.shell.broker_files` makes it, with ports and folders of its own; what makes them one
cluster is a cookie, a port mapper and passwords that they share. The first boots alone, the others join it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bus.shell.broker import Broker, answers
from bus.shell.broker_files import Identity, node_environment, write_files
from bus.shell.broker_install import port_mapper, server_script
from tests.chaos.children import PATIENCE_S, poll
from tests.chaos.node import Node

BOOT_S = 120.0
CONTROL_TRIES = 5  # a node that has just come back may not answer the first


class Cluster(Node):
    """As a context manager it starts all nodes, and ends them.

    Args:
        home: its folder.
        size: how many nodes.
    """

    def __init__(self, home: Path, size: int) -> None:
        super().__init__(home)
        token, passwords = secrets.token_hex(3), (secrets.token_urlsafe(12), secrets.token_urlsafe(12))
        self._epmd_port, *ports = _free_ports(1 + 2 * size)
        self._cookie = secrets.token_hex(16)
        self._nodes = [
            Identity(f"chaos-{token}-{n + 1}@localhost", ports[2 * n], ports[2 * n + 1], self._epmd_port, *passwords)
            for n in range(size)
        ]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._epmd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        try:
            for number in range(len(self._nodes)):
                self.start(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._processes.values(), *([self._epmd] if self._epmd else [])):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def broker(self) -> Broker:
        """The cluster as one broker, with the hosts of all nodes in its URLs."""
        first = self._nodes[0]
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self._nodes)
        bus_url, agent_url = (url.replace(f"127.0.0.1:{first.port}", hosts) for url in (first.bus_url, first.agent_url))
        return Broker(bus_url, agent_url, first.node, first.port, self._processes[0].pid, True, self._home)

    @property
    def up(self) -> Sequence[int]:
        """Numbers of the nodes that run."""
        return [number for number, process in self._processes.items() if process.poll() is None]

    def start(self, number: int) -> None:
        """Start a node, or start it again, and wait until it takes log-ins.

        Raises:
            AssertionError: it does not come up.
        """
        folder, identity = self._home / str(number + 1), self._nodes[number]
        environment = self._files(folder, identity, number)
        if self._epmd is None:
            words = [str(port_mapper()), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(words, env=environment, start_new_session=True)
        with (folder / "log" / "start.log").open("ab") as log:
            process = subprocess.Popen(
                [str(server_script())], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes[number] = process
        came = poll(lambda: process.poll() is not None or answers(identity), BOOT_S, 0.2)
        assert came, f"node {number + 1} did not come up; see {folder}/log"
        assert process.poll() is None, f"node {number + 1} ended while starting; see {folder}/log"

    def _files(self, folder: Path, identity: Identity, number: int) -> dict[str, str]:
        (folder / "home").mkdir(parents=True, exist_ok=True, mode=0o700)
        cookie = folder / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self._cookie)
            cookie.chmod(0o400)
        environment = write_files(folder, identity, server_script())
        if number:  # it has members in its own database once it has joined; this is for the first boot
            config = folder / "rabbitmq.config"
            join = f"{{cluster_nodes, {{['{self._nodes[0].node}'], disc}}}},"
            config.write_text(config.read_text().replace("{rabbit, [", f"{{rabbit, [{join}", 1))
        return environment

    def kill_one(self, number: int) -> None:
        """kill -9 of a node's process."""
        process = self._processes[number]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def number_of(self, text: str) -> int | None:
        """The node that a text names: by its Erlang name, or by its address."""
        for number, each in enumerate(self._nodes):
            if each.node in text or f"127.0.0.1:{each.port}" in text:
                return number
        return None

    def leader(self, queue: str) -> int | None:
        """The node that leads a queue."""
        for line in self.control("list_queues", "--silent", "name", "leader").splitlines():
            name, _, node = line.partition("\t")
            if name == queue:
                return self.number_of(node)
        return None

    def members(self) -> Sequence[int]:
        """How many nodes hold each queue, for all queues."""
        listed = self.control("list_queues", "--silent", "name", "members").splitlines()
        return [len(re.findall(r"chaos-", line.partition("\t")[2])) for line in listed]

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl` on a node that runs; returns what it says.

        Raises:
            AssertionError: it failed.
        """
        said = "no node runs"
        for _ in range(CONTROL_TRIES):
            for number in self.up:
                identity, folder = self._nodes[number], self._home / str(number + 1)
                scripts = server_script().parent
                done = subprocess.run(
                    [str(scripts / "rabbitmqctl"), "--quiet", "-n", identity.node, *words],
                    env=node_environment(folder, identity, scripts), capture_output=True, text=True,
                    timeout=PATIENCE_S, check=False,
                )  # fmt: skip
                if done.returncode == 0:
                    return done.stdout
                said = done.stderr or done.stdout
            time.sleep(1.0)
        raise AssertionError(f"rabbitmqctl {' '.join(words)}: {said}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in probes]
