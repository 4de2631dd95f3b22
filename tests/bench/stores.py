"""What a commit costs: `python -m tests.bench.stores [--output json]`, every store in one run, one writer each.

Batches of 100 messages of 600 B in and 600 B out, random identities, every commit durable. Absolute figures belong to
the machine and to what else runs on it; the ratios within a run are worth something. `client_us_per_message` is the
CPU time of this process: for SQLite that is all there is, for PostgreSQL the server's comes on top.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus.core.actions import Output
from bus.ports import Commit, Entry, InboxKey, Store
from bus.shell.postgres_store import PostgresStore
from bus.shell.sqlite_store import SqliteStore
from tests.postgres_server import PostgresServer

BATCH = 100
BODY = 600
RECORD = 300
SECONDS = 4.0
ROUNDS = 3  # interleaved, so that a slow moment of the machine does not fall on one store alone


def entries(first: int) -> list[Entry]:
    """A batch as the bus writes it."""
    body, record = b"i" * BODY, b"r" * RECORD
    made = []
    for seq in range(first, first + BATCH):
        identity = os.urandom(24)
        out = Output("agent", "greeter", identity.hex()[:32], "t", "c", b"o" * BODY, "application/json", {})
        made.append(Entry(seq, InboxKey(identity[:16], identity[16:]), record, body, (out,)))
    return made


class Writer:
    """Commits without end; adds up what it cost."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._store = open_store()
        self._next = self._store.claim(1)[0].next_seq
        self.commits = 0
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def run(self, seconds: float) -> None:
        """Commit for so long. Making the batches is not counted."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            batch = Commit({0: entries(self._next)}, {0: self._next - 1})
            cpu, wall = _cpu(), time.perf_counter()
            self._store.commit(batch)
            self.wall_s += time.perf_counter() - wall
            self.cpu_s += _cpu() - cpu
            self.commits += 1
            self._next += BATCH

    def result(self) -> dict[str, float]:
        """The figures."""
        messages = self.commits * BATCH
        return {
            "commits_per_s": round(self.commits / self.wall_s, 1),
            "messages_per_s": round(messages / self.wall_s),
            "client_us_per_message": round(self.cpu_s / messages * 1e6, 2),
        }

    def close(self) -> None:
        self._store.close()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run every store in turn; returns the figures by store."""
    server = PostgresServer()
    try:
        with tempfile.TemporaryDirectory(prefix="agentbus-bench-") as folder:
            writers = {
                "sqlite": Writer(lambda: SqliteStore(Path(folder) / "bus.db")),
                "postgres": Writer(lambda: PostgresStore(server.url, "bench")),
            }
            for _ in range(rounds):
                for writer in writers.values():
                    writer.run(seconds / rounds)
            for writer in writers.values():
                writer.close()
    finally:
        server.close()
    return {"batch": BATCH, **{name: writer.result() for name, writer in writers.items()}}


def main() -> None:
    found = measure()
    if sys.argv[1:] == ["--output", "json"]:
        print(json.dumps(found))
        return
    for name in ("sqlite", "postgres"):
        print(f"{name:9}", ", ".join(f"{what} {value:,}" for what, value in found[name].items()))


if __name__ == "__main__":
    main()
