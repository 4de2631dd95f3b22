"""Group commit for asyncio: handlers that wait for the log at the same time share one transaction."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from tests.bench.peers.work import Log, Mediated


class GroupLog:
    """While one commit runs on a thread, rows gather for the next."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Mediated, asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None

    async def append(self, row: Mediated) -> None:
        """Return when the row is on disk."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._running is None:
            self._running = asyncio.create_task(self._commit())
        await done

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            await loop.run_in_executor(self._thread, self._log.write, [row for row, _ in group])
            for _, done in group:
                done.set_result(None)
        self._running = None
