"""Several workers on one machine: the same `bus run` N times, started, watched, started again, and stopped together.

SIGHUP goes to each of them: they look at their configuration.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

from bus.shell.supervisor import Part


async def run_crew(parts: Sequence[Part], ready: Callable[[], None]) -> None:
    """Run the parts until SIGTERM; SIGINT ends it, too, as KeyboardInterrupt from `asyncio.run`.

    Args:
        ready: called once, when every part has been ready.

    Raises:
        BusError: a part ended before it was ever ready; the others are stopped.
    """
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _hang_up, parts)
    running = [asyncio.create_task(part.run()) for part in parts]
    waiting = [asyncio.create_task(ended.wait()), asyncio.create_task(_all_ready(parts))]
    try:
        await asyncio.wait([*running, *waiting], return_when=asyncio.FIRST_COMPLETED)
        if waiting[1].done():
            ready()
            await asyncio.wait([*running, waiting[0]], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*[part.stop() for part in parts])
        await asyncio.wait(running)
    for task in running:
        task.result()


async def _all_ready(parts: Sequence[Part]) -> None:
    for part in parts:
        await part.ready.wait()


def _hang_up(parts: Sequence[Part]) -> None:
    for part in parts:
        part.hang_up()
