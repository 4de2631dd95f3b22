"""RabbitMQ's own command `rabbitmqctl`, spoken to a private node: for what AMQP has no words for, such as shovels."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bus.core.errors import Unreachable
from bus.shell.broker import identity_of
from bus.shell.broker_files import node_environment
from bus.shell.broker_install import server_script

_TIMEOUT_S = 60.0  # it starts an Erlang of its own: 2 s, far longer on a loaded machine


def rabbitmqctl(home: Path, *words: str) -> str:
    """Run one command on the private node of `home`.

    Args:
        home: folder of the node.
        words: the command and its arguments; they can be seen in the process list, so no secrets.

    Returns:
        What it wrote to standard output.

    Raises:
        Unreachable: there is no such node, or the command failed; says why.
    """
    folder, identity = home.resolve() / "broker", identity_of(home)
    if identity is None:
        raise Unreachable(f"there is no private broker in {home}")
    linked = folder / "server" / "sbin"
    scripts = linked if linked.is_dir() else server_script().parent
    try:
        ended = subprocess.run(
            [str(scripts / "rabbitmqctl"), "--quiet", "--node", identity.node, *words],
            env=node_environment(folder, identity, scripts),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"rabbitmqctl cannot be run: {error}") from error
    if ended.returncode != 0:
        said = " ".join((ended.stderr or ended.stdout).split())
        raise Unreachable(f"rabbitmqctl {words[0]} failed: {said[:500]}")
    return ended.stdout
