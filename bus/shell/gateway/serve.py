"""Runs a gateway: listens at once, connects to the broker for as long as it takes, and ends in order.

It has an event loop and a thread of its own, so it runs beside a worker or alone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from bus.core.errors import BusError
from bus.core.facts import Limits
from bus.core.identity import GATEWAY
from bus.core.naming import agent_queue
from bus.core.notices import Notice
from bus.core.route import Catalog
from bus.ports import AgentLink
from bus.shell.gateway.desk import Desk
from bus.shell.gateway.http import HttpServer
from bus.shell.gateway.results import Results
from bus.shell.telemetry.gateway import GatewayMeter
from bus.shell.versions import Configuration

_log = logging.getLogger(__name__)

_PREFETCH = 1000  # notices taken at once; each is acked as soon as it is passed on
_GRACE_S = 3.0  # for answers that are being written when it ends


class Gateway:
    """Serves until `close`, on a thread of its own.

    Args:
        catalog: what it takes.
        link: the gateway's link, not yet open.
        results: what the log knows.
        limits: what a message may be.
        meter: told of every answer.
        namespace: of the bus.
        host, port: where it listens; port 0 picks a free one.

    Attributes:
        port: the port it listens on.
        ready: set once answers are heard.

    Raises:
        BusError: the address cannot be had.
    """

    def __init__(
        self,
        catalog: Catalog,
        link: AgentLink,
        results: Results,
        limits: Limits,
        meter: GatewayMeter,
        namespace: str,
        host: str,
        port: int,
    ) -> None:
        self.port = 0
        self.ready = threading.Event()
        self._queue = agent_queue(namespace, GATEWAY)
        self._catalog, self._link, self._results = catalog, link, results
        self._limits, self._meter = limits, meter
        self._listening = threading.Event()
        self._error: OSError | None = None
        self._stop: Callable[[], object] = lambda: None
        self._changed: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(host, port)), name="gateway", daemon=True)
        self._thread.start()
        self._listening.wait()
        if self._error is not None:
            raise BusError(
                f"the gateway cannot listen on {host}:{port} ({self._error.strerror}); write --http HOST:PORT with "
                "another port, or 0 for a free one"
            ) from self._error

    def follow(self, catalog: Catalog) -> None:
        """Take what another configuration says from now on. Thread-safe."""
        self._catalog = catalog
        self._changed()

    def reconfigure(self, after: Configuration, done: Callable[[BusError | None], None]) -> None:
        """The same, for a gateway that runs alone; see bus.shell.reload."""
        self.follow(after.table.catalog)
        done(None)

    def notice(self, notice: Notice) -> None:
        """A gateway writes no log; the workers do."""

    def close(self) -> None:
        """Take no more requests, answer those that are held, and let go of broker and log."""
        self._stop()
        self._thread.join()

    async def _main(self, host: str, port: int) -> None:
        desk = Desk(self._catalog, self._link, self._results, self._limits, self._meter)
        server = HttpServer(desk.handle, self._limits.body_bytes)
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stopping.set)
        self._changed = lambda: loop.call_soon_threadsafe(lambda: desk.reconfigure(self._catalog))
        try:
            self.port = await server.open(host, port)
        except OSError as error:
            self._error = error
            self._listening.set()
            return
        self._listening.set()
        tasks = [asyncio.create_task(each) for each in (self._connect(desk), desk.sweep())]
        try:
            await stopping.wait()
        finally:
            desk.close()
            await server.close(_GRACE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._link.close()
            await self._results.close()

    async def _connect(self, desk: Desk) -> None:
        try:
            await self._link.open()
            await self._link.listen([self._queue], _PREFETCH, desk.hear)
        except BusError as error:
            _log.error("the gateway has no broker, and every request is refused: %s", error)
            return
        _log.info("the gateway hears answers in %s", self._queue)
        self.ready.set()
