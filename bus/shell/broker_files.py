"""The files a private RabbitMQ node starts from: definitions, configuration, environment, plugins.

Everything stands in one folder, so that nodes never meet and removing the folder removes the node. Everything listens
on 127.0.0.1 only. The configuration is written as Erlang terms rather than `rabbitmq.conf`: the latter is translated
by every plugin's schema at each start, which costs seconds.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import orjson

from bus.core.message import Json
from bus.shell.broker_install import link_server
from bus.shell.policies import policies

PLUGINS = ("rabbitmq_sharding", "rabbitmq_shovel")
"""The first has the hash exchange that partitions the ingress; the shovel is what `bus bench` compares with."""

AGENTS_CONFIGURE = r"^[^.]+\.client\..*"
AGENTS_WRITE = r"^[^.]+\.in$"
AGENTS_READ = r"^[^.]+\.(agent|capability|client)\..*"
"""What the user `agents` may do: make private client inboxes, write the ingress, read inboxes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same over restarts of a node, so that agents of an earlier start reconnect.

    Args:
        node: Erlang node name.
        port, dist_port, epmd_port: AMQP, Erlang distribution and port mapper, all on 127.0.0.1.
        bus_password, agents_password: passwords of the broker users `bus` and `agents`.
    """

    node: str
    port: int
    dist_port: int
    epmd_port: int
    bus_password: str
    agents_password: str

    @property
    def bus_url(self) -> str:
        return f"amqp://bus:{self.bus_password}@127.0.0.1:{self.port}/%2F"

    @property
    def agent_url(self) -> str:
        return f"amqp://agents:{self.agents_password}@127.0.0.1:{self.port}/%2F"


def definitions(identity: Identity) -> dict[str, Json]:
    """Return the definitions loaded at each boot: virtual host, two users, their permissions, policies."""
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    agents = {"configure": AGENTS_CONFIGURE, "write": AGENTS_WRITE, "read": AGENTS_READ}
    rows: list[Json] = [
        {"user": user, "vhost": "/", **rights} for user, rights in (("bus", everything), ("agents", agents))
    ]
    return {
        "vhosts": [{"name": "/"}],
        "users": [_user("bus", identity.bus_password), _user("agents", identity.agents_password)],
        "permissions": rows,
        "policies": [*policies()],
    }


def write_files(folder: Path, identity: Identity, script: Path) -> dict[str, str]:
    """Write the node's files into `folder`; return the environment to start the server's `script` with."""
    for name in ("home", "mnesia", "log", "plugins"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / "definitions.json", orjson.dumps(definitions(identity)))
    _write(folder / "rabbitmq.config", _erlang_config(folder, identity).encode())
    _write(folder / "enabled_plugins", f"[{','.join(PLUGINS)}].".encode())
    _write(folder / "rabbitmq-env.conf", b"# Empty on purpose: keeps /etc/rabbitmq out.\n")
    cookie = folder / "home" / ".erlang.cookie"
    if not cookie.exists():
        _write(cookie, secrets.token_hex(16).encode())
        cookie.chmod(0o400)
    return node_environment(folder, identity, link_server(folder / "server", script, PLUGINS))


def node_environment(folder: Path, identity: Identity, scripts: Path) -> dict[str, str]:
    """The environment of the node in `folder`, and of RabbitMQ's own commands that are to talk to it."""
    path = os.defpath + ":/usr/local/bin:/usr/sbin:/sbin:/opt/homebrew/bin"
    return {
        "PATH": path,
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "RABBITMQ_SCRIPTS_DIR": str(scripts),
        "RABBITMQ_NODENAME": identity.node,
        "RABBITMQ_DIST_PORT": str(identity.dist_port),
        "ERL_EPMD_PORT": str(identity.epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": str(folder / "log" / "broker.log"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.config"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # Makes the script exec Erlang instead of waiting for it, so that the pid we hold is the node's own.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _erlang_config(folder: Path, identity: Identity) -> str:
    return f"""[
  {{rabbit, [
    {{tcp_listeners, [{{"127.0.0.1", {identity.port}}}]}},
    {{load_definitions, "{_erlang_string(folder / "definitions.json")}"}},
    {{loopback_users, []}}
  ]}}
].
"""


def _erlang_string(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def _user(name: str, password: str) -> dict[str, Json]:
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
    }


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
