"""Settings: flags, then `BUS_*` variables, then defaults. The only reader of the environment.

`Settings.from_environment()` is called by the composition root and the agent SDK; everything else is handed a frozen
`Settings`. Each field's variable is `BUS_` and its name in capitals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bus.core.errors import BusError

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """URLs hold passwords, so they are not part of its `repr`.

    Args:
    amqp_url: broker of the bus, one host or several (`bus.core.endpoints`); None starts a private node.
    agent_amqp_url: broker as agents see it (their own user); defaults to the private node's, or amqp_url.
    management_url: RabbitMQ management API, for policies; None leaves policies to `bus topology export`.
    namespace: prefix of every exchange and queue.
    home: folder for the private broker, the store and the run's state.
    store: SQLite file, or `postgresql://...`; None is `home/bus.db`.
    blobs: where large values wait for their claim check: a folder, or `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`;
        None is `home/blobs`.
    blobs_key, blobs_secret: access key for S3.
    partitions: ingress partitions of a namespace that has none yet; None is 4. Later the store says how many there are.
    prefetch: unacked deliveries at most, of all partitions together; each has its part, whoever owns it.
    identity: `broker` (verified user = source agent) or `shared`; None: shared on a private node, else broker.
    bus_user: broker user of the bus.
    http: where the gateway listens, `HOST:PORT`; port 0 picks a free one.
    metrics_port: Prometheus endpoint; 0 picks a free one, -1 turns it off.
    log_level: debug, info, warning, error.
    log_format: `json`, or `text` for people.
    otlp_endpoint: OTLP/HTTP endpoint for spans; None exports none.
    inbox_window: newest message identities per partition that are known as duplicates.
    body_bytes: longest accepted message body.
    hops: hops a message may take when it does not say.
    connect_timeout_s: how long agents and commands wait for their first connection; the bus itself waits on.
    stall_s: a worker that does not get on for so long ends, to be started again; 0 lets it hang.
    failpoints: where the process is to die, for tests of the delivery promise: see bus.shell.failpoints.
    """

    amqp_url: str | None = field(default=None, repr=False)
    agent_amqp_url: str | None = field(default=None, repr=False)
    management_url: str | None = field(default=None, repr=False)
    namespace: str = "agentbus"
    home: Path = Path(".agentbus")
    store: str | None = field(default=None, repr=False)
    blobs: str | None = None
    blobs_key: str = field(default="", repr=False)
    blobs_secret: str = field(default="", repr=False)
    partitions: int | None = None
    prefetch: int = 2000
    identity: str | None = None
    bus_user: str = "bus"
    http: str = "127.0.0.1:8080"
    metrics_port: int = 0
    log_level: str = "info"
    log_format: str = "json"
    otlp_endpoint: str | None = None
    inbox_window: int = 250_000
    body_bytes: int = 256 * 1024
    hops: int = 32
    connect_timeout_s: float = 60.0
    stall_s: float = 60.0
    failpoints: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
        """Build from flags that are not None, then `BUS_*`, then defaults.

        Raises:
            BusError: a variable has a value that its field cannot take.
        """
        source = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for each in fields(cls):
            text = source.get(f"BUS_{each.name.upper()}")
            if flags.get(each.name) is not None:
                values[each.name] = flags[each.name]
            elif text:
                values[each.name] = _convert(each.name, str(each.type), text)
        return cls(**values)

    def as_environment(self) -> dict[str, str]:
        """The same as `BUS_*` variables, for child processes; URLs hold passwords, so none is an argument of theirs."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {f"BUS_{name.upper()}": str(value) for name, value in values.items() if value is not None}

    @property
    def first_partitions(self) -> int:
        """Partitions of a namespace that has none yet."""
        return PARTITIONS if self.partitions is None else self.partitions

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the gateway.

        Raises:
            BusError: it is none.
        """
        host, _, port = self.http.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise BusError(f"BUS_HTTP is `{self.http}`; write HOST:PORT, such as 127.0.0.1:8080")
        return host.strip("[]") or "127.0.0.1", int(port)

    @property
    def store_url(self) -> str | None:
        """The store's PostgreSQL URL; None where it is a file.

        Raises:
            BusError: it is a URL of something else.
        """
        scheme, separator, _ = (self.store or "").partition("://")
        if not separator:
            return None
        if scheme not in ("postgresql", "postgres"):
            raise BusError("BUS_STORE is a URL of something else; write a file's path, or postgresql://...")
        return self.store

    @property
    def store_path(self) -> Path:
        """The store's SQLite file."""
        return Path(self.store) if self.store else self.home / "bus.db"


def environment() -> dict[str, str]:
    """The process's environment, for what is handed on: to child processes, and to `${VAR}` in integrations."""
    return dict(os.environ)


def _convert(name: str, kind: str, text: str) -> Any:
    try:
        if "Path" in kind:
            return Path(text)
        if kind.startswith("int"):
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError as error:
        wanted = "a whole number" if kind.startswith("int") else "a number"
        raise BusError(f"BUS_{name.upper()} is `{text}`; write {wanted}") from error
    return text
