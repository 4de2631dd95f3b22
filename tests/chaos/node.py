"""The broker's side of the harness: a private node that can be killed and brought back, and its `rabbitmqctl`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from bus.core.errors import Unreachable
from bus.shell.broker import Broker, is_free, start_broker
from tests.chaos.children import PATIENCE_S, poll

CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")


class Node:
    """A node of our own. Use as a context manager.

    Args:
        home: its folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._broker: Broker | None = None

    def __enter__(self) -> Node:
        self._broker = self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.stop()

    @property
    def broker(self) -> Broker:
        """The node as it runs now."""
        assert self._broker is not None
        return self._broker

    def kill(self) -> None:
        """kill -9 of the node's process."""
        os.kill(self.broker.pid, signal.SIGKILL)
        assert poll(lambda: not self.broker.alive), "the node outlived a kill -9"

    def restart(self) -> None:
        """Start it again, under the same name and ports, which a client of somebody else may have had meanwhile."""
        identity: dict[str, Any] = json.loads((self._home / "broker.json").read_bytes())["identity"]
        ports = [int(identity[name]) for name in ("port", "dist_port")]
        assert poll(lambda: all(map(is_free, ports))), f"somebody else has taken one of the ports {ports}"
        self._broker = self._start()

    def _start(self) -> Broker:
        for _ in range(3):
            try:
                broker = start_broker(self._home, progress=lambda _text: None)
            except Unreachable:
                continue  # its epmd may take a moment to forget the name
            if self._broker is None or broker.port == self._broker.port:
                return broker
            raise Unreachable("the node came back under another port")
        return start_broker(self._home, progress=lambda _text: None)

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl`; returns what it says.

        Raises:
            AssertionError: it failed.
        """
        folder = self._home / "broker"
        identity: dict[str, Any] = json.loads((self._home / "broker.json").read_bytes())["identity"]
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(identity["epmd_port"]),
            "RABBITMQ_NODENAME": str(identity["node"]),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        }
        done = subprocess.run(
            [str(CONTROL), "--quiet", "-n", str(identity["node"]), *words],
            env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"rabbitmqctl {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout
