"""Running an agent as a program: log, link, signals, and the pipe to a parent that hosts it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from adapters.link import AmqpLink
from adapters.logs import configure
from bus.ports import AgentLink
from bus.settings import Settings

Serve: TypeAlias = Callable[[AgentLink, Settings, Callable[[], None]], Awaitable[None]]

READY = b"ready\n"
"""What a hosted agent writes to its parent when everything is consumed."""

log = logging.getLogger(__name__)


def run_until_signal(name: str, serve: Serve, settings: Settings, parent: int | None = None) -> None:
    """Run `serve` until SIGTERM, SIGINT, or the parent's end.

    Args:
        parent: file descriptor of a socket to the hosting process: readiness is written to it, and its end of file
            means that the parent is gone and this process must go too. None for a program of its own.

    Raises:
        Unreachable: no connection to the broker.
    """
    configure(settings)
    asyncio.run(_main(name, serve, settings, parent))


async def _main(name: str, serve: Serve, settings: Settings, parent: int | None) -> None:
    loop = asyncio.get_running_loop()

    def ready() -> None:
        log.info("agent %s is ready", name)
        if parent is not None:
            os.write(parent, READY)

    work = asyncio.ensure_future(serve(AmqpLink(settings, name), settings, ready))

    def stop() -> None:
        if not work.cancelled():
            work.cancel()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    if parent is not None:
        loop.add_reader(parent, _on_parent, parent, stop)
    try:
        await work
    except asyncio.CancelledError:
        log.info("agent %s has stopped", name)


def _on_parent(parent: int, stop: Callable[[], None]) -> None:
    if not os.read(parent, 64):
        asyncio.get_running_loop().remove_reader(parent)
        stop()
