"""A real PostgreSQL for tests: its own data folder, port and user, with fsync on; it can be killed, paused and started.

`initdb` and `postgres` refuse to run as root, so there they run as the user `postgres`, or `nobody`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

DEADLINE_S = 60.0  # a start takes about half a second; a shared machine may be busy
_POLL_S = 0.02
_USERS = ("postgres", "nobody")


def executable(name: str) -> str:
    """Return the path of a program of the server; skips where PostgreSQL is absent, but fails where `CI=true`."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is not None:
        return found
    text = f"{name} is not installed; apt install postgresql"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


class PostgresServer:
    """A server that trusts everyone who reaches its port on 127.0.0.1. Starts when made; `close` removes all of it."""

    def __init__(self) -> None:
        programs = {name: executable(name) for name in ("initdb", "postgres")}
        self._folder = Path(tempfile.mkdtemp(prefix="agentbus-pg-"))
        self._user = pwd.getpwnam(_other_user()) if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._data = self._folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command = [
            programs["postgres"], "-D", str(self._data), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}",
            "-c", "shared_buffers=64MB", "-c", "max_connections=50",
        ]  # fmt: skip
        made = self._spawn([programs["initdb"], "-D", str(self._data), "-U", "bus", "-A", "trust", "-E", "UTF8",
                            "--locale=C", "--no-sync", "--no-instructions"])  # fmt: skip
        if made.wait(DEADLINE_S):
            pytest.fail(f"initdb failed: {self.log()}")
        self.start()

    @property
    def folder(self) -> Path:
        """Its own folder, which belongs to the user that it runs as."""
        return self._folder

    @property
    def url(self) -> str:
        """Log in as the superuser."""
        return self.url_at(self.port)

    def url_at(self, port: int, user: str = "bus", password: str = "") -> str:
        """The same server by another port, as a proxy gives, or as another user."""
        login = f"{user}:{password}" if password else user
        return f"postgresql://{login}@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = self._spawn(self._command)
        until = time.monotonic() + DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PostgreSQL did not start: {self.log()}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop it in good order, as `pg_ctl restart -m fast` begins."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill every process of it with SIGKILL, as a power cut would, but for the disk."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(DEADLINE_S)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop every process of it from running while the block lasts: connections stay, answers do not come."""
        stopped = self.processes()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def processes(self) -> list[int]:
        """Its process ids, the first one's first."""
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, by itself; returns its rows."""
        with psycopg.connect(self.url, autocommit=True) as db:
            done = db.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the running server, and wait until it holds."""
        with psycopg.connect(self.url, autocommit=True) as db:
            # The session must be able to write even where the setting to change forbids it.
            db.execute("SET default_transaction_read_only = off")
            db.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
            db.execute("SELECT pg_reload_conf()")
        until = time.monotonic() + DEADLINE_S
        while self.execute(f"SHOW {name}") != [(value,)]:
            assert time.monotonic() < until, f"{name} does not become {value}"
            time.sleep(_POLL_S)

    def log(self) -> str:
        """What it printed."""
        return (self._folder / "log").read_text()

    def close(self) -> None:
        """Stop it and remove its folder. Idempotent."""
        if self._process.poll() is None:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        user, group, groups = None, None, None
        if self._user is not None:
            user, group, groups = self._user.pw_uid, self._user.pw_gid, list[int]()
        with (self._folder / "log").open("ab") as log:
            # A session of its own: Ctrl-C in the terminal ends the tests, which then end the server.
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=groups,
            )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _other_user() -> str:
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.fail(f"PostgreSQL does not run as root, and there is no user {' or '.join(_USERS)}")


_shared: list[PostgresServer] = []
_sharing = threading.Lock()


def shared_server() -> PostgresServer:
    """The one server of this test run; made when first asked for."""
    with _sharing:
        if not _shared:
            _shared.append(PostgresServer())
            atexit.register(_shared[0].close)
        return _shared[0]


def fresh_namespace() -> str:
    """A namespace, and so a PostgreSQL schema, that no other test has."""
    return f"t{secrets.token_hex(5)}"
