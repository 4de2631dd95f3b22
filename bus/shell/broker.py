"""A private RabbitMQ node per home folder: started, found again, stopped.

Theory of operation. `home/broker.json` tells of the node: its process, ports, URLs, and which process owns it. A start,
under the home's lock, either finds the recorded node alive and answering AMQP, or starts one with the same identity, so
that agents of an earlier start reconnect by themselves. The node runs in a session of its own: Ctrl-C in the terminal
reaches us and not it, and we stop it in order. An owner that was killed leaves the node running; the next start adopts
it. Only an owner stops a node.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

import orjson
import pika
from pika.exceptions import AMQPError

from bus.core.errors import Unreachable
from bus.shell.broker_files import Identity, write_files
from bus.shell.broker_install import port_mapper, server_script

START_TIMEOUT_S = 120.0  # a start takes 5 to 20 s; a loaded machine may need far longer
STOP_TIMEOUT_S = 20.0  # a clean stop takes 1 to 4 s; then SIGKILL
POLL_S = 0.05

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Process:
    """A process by pid and start time, because pids are reused. `started` is 0 where /proc is absent."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _start_time(pid))

    @property
    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Broker:
    """A running private node.

    Args:
        bus_url: AMQP URL of the user `bus`, who may do everything.
        agent_url: AMQP URL of the user `agents`, who writes the ingress and reads inboxes.
        node: Erlang node name.
        port: AMQP port on 127.0.0.1.
        pid: process of the node.
        owned: this process stops it: it started it, or adopted it from an owner that died.
        home: folder of the node.
    """

    bus_url: str
    agent_url: str
    node: str
    port: int
    pid: int
    owned: bool
    home: Path

    @property
    def alive(self) -> bool:
        """Whether the node's process still runs."""
        state = _load(self.home)
        return state is not None and state.server is not None and state.server.pid == self.pid and state.server.alive

    def stop(self) -> None:
        """Stop the node in order if we own it; else do nothing. Idempotent; takes 1 to 4 s."""
        if not self.owned:
            return
        with _lock(self.home, lambda _text: None):
            state = _load(self.home)
            if state is None or state.server is None or state.server.pid != self.pid:
                return
            _terminate(state.server)
            if state.epmd is not None:
                _terminate(state.epmd)
            _save(self.home, replace(state, server=None, epmd=None, owner=None))


@dataclass(frozen=True, slots=True)
class _State:
    """What `broker.json` holds."""

    identity: Identity
    server: Process | None = None
    epmd: Process | None = None
    owner: Process | None = None


def start_broker(home: Path, *, progress: Progress) -> Broker:
    """Start the private node of `home`, or find the one that runs.

    Args:
        home: folder of the node; made if absent.
        progress: told about once a second what is being waited for.

    Raises:
        Unreachable: RabbitMQ is not installed, or the node did not come up within two minutes.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    me = Process.of(os.getpid())
    with _lock(home, progress):
        state = _load(home)
        if state is not None and state.server is not None and state.server.alive:
            return _reuse(home, state, me, progress)
        if state is not None and state.epmd is not None:
            _terminate(state.epmd)
        return _start(home, state, me, progress)


def identity_of(home: Path) -> Identity | None:
    """The node of `home`, running or not; None when there never was one."""
    state = _load(home.resolve())
    return state.identity if state is not None else None


def _reuse(home: Path, state: _State, me: Process, progress: Progress) -> Broker:
    adopt = state.owner is None or not state.owner.alive
    if adopt:
        state = replace(state, owner=me)
        _save(home, state)
    _wait_ready(home, state, progress)
    return _broker(home, state, owned=adopt)


def _start(home: Path, old: _State | None, me: Process, progress: Progress) -> Broker:
    script, mapper = server_script(), port_mapper()
    identity = _identity(home, old.identity if old else None)
    folder = home / "broker"
    environment = write_files(folder, identity, script)
    progress("broker starting")
    epmd = _spawn([str(mapper), "-port", str(identity.epmd_port), "-address", "127.0.0.1"], environment, folder)
    server = _spawn([str(script)], environment, folder)
    state = _State(identity, Process.of(server.pid), Process.of(epmd.pid), me)
    _save(home, state)
    broker = _broker(home, state, owned=True)
    try:
        _wait_ready(home, state, progress)
    except BaseException:
        _terminate(Process.of(server.pid))
        _terminate(Process.of(epmd.pid))
        _save(home, _State(identity))
        raise
    return broker


def _broker(home: Path, state: _State, *, owned: bool) -> Broker:
    assert state.server is not None
    identity = state.identity
    return Broker(identity.bus_url, identity.agent_url, identity.node, identity.port, state.server.pid, owned, home)


def _identity(home: Path, old: Identity | None) -> Identity:
    """Keep the identity of earlier starts; take new ports only where an old one is in use."""
    if old is None:
        node = f"agentbus-{blake2b(str(home).encode(), digest_size=5).hexdigest()}@localhost"
        old = Identity(node, 0, 0, 0, secrets.token_urlsafe(18), secrets.token_urlsafe(18))
    wanted = (old.port, old.dist_port, old.epmd_port)
    if all(port and is_free(port) for port in wanted):
        return old
    port, dist_port, epmd_port = _free_ports(3)
    return replace(old, port=port, dist_port=dist_port, epmd_port=epmd_port)


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 with this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _spawn(argv: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log" / "start.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_ready(home: Path, state: _State, progress: Progress) -> None:
    began = told = time.monotonic()
    while not answers(state.identity):
        now = time.monotonic()
        if state.server is None or not state.server.alive or _reaped(state.server.pid):
            raise Unreachable(f"the private broker ended while starting{_log_tail(home)}")
        if now - began > START_TIMEOUT_S:
            raise Unreachable(f"the private broker did not come up in {START_TIMEOUT_S:.0f} s{_log_tail(home)}")
        if now - told >= 1.0:
            told = now
            progress(f"broker starting, {now - began:.0f} s")
        time.sleep(POLL_S)


def answers(identity: Identity) -> bool:
    """Whether the node accepts a log-in. A bare connect comes first, for pika logs every refusal as an error."""
    try:
        socket.create_connection(("127.0.0.1", identity.port), timeout=1.0).close()
    except OSError:
        return False
    parameters = pika.URLParameters(identity.bus_url)
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = 10.0
    try:
        pika.BlockingConnection(parameters).close()
    except (AMQPError, OSError):
        return False
    return True


def _reaped(pid: int) -> bool:
    """Collect the process if it is our child and has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _terminate(process: Process) -> None:
    """SIGTERM, which RabbitMQ takes as a clean stop; SIGKILL its session when it does not end in time."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    sent = 0
    while not _reaped(process.pid) and process.alive:
        late = time.monotonic() > deadline
        wanted = signal.SIGKILL if late else signal.SIGTERM
        if sent != wanted:
            sent = wanted
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, wanted)
        time.sleep(POLL_S)


def _start_time(pid: int) -> int:
    """Start time in clock ticks since boot: field 22 of /proc/PID/stat, counted after the name's parenthesis.

    A zombie has ended, whoever has yet to collect it: -1, which no process was ever started at.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[0] == "Z" else int(fields[19])


def _log_tail(home: Path) -> str:
    lines: list[str] = []
    for name in ("start.log", "broker.log"):
        with contextlib.suppress(OSError):
            lines += (home / "broker" / "log" / name).read_text(errors="replace").splitlines()[-8:]
    return "; its log ends:\n" + "\n".join(lines) if lines else ""


@contextlib.contextmanager
def _lock(home: Path, progress: Progress) -> Iterator[None]:
    with (home / "broker.lock").open("w") as handle:
        began = told = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                if now - told >= 1.0:
                    told = now
                    progress(f"waiting for another start of this broker, {now - began:.0f} s")
                time.sleep(POLL_S)
        yield


def _load(home: Path) -> _State | None:
    try:
        raw = orjson.loads((home / "broker.json").read_bytes())
        return _State(
            Identity(**raw["identity"]),
            **{name: Process(**raw[name]) for name in ("server", "epmd", "owner") if raw.get(name)},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(home: Path, state: _State) -> None:
    identity = state.identity
    shown = {"pid": state.server.pid if state.server else None, "node": identity.node, "port": identity.port}
    urls = {"bus_url": identity.bus_url, "agent_url": identity.agent_url}
    path = home / "broker.json.new"
    path.touch(mode=0o600)
    path.write_bytes(orjson.dumps({**shown, **urls, **asdict(state)}, option=orjson.OPT_INDENT_2))
    path.replace(home / "broker.json")
