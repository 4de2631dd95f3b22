"""An agent whose work takes longer than its lease: `python -m tests.acceptance.essayist NAME FILE`.

It writes a line to the file when it begins, has done, or is stopped in, a task: what, fence, process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from adapters import Agent
from adapters.link import AmqpLink
from bus.core.message import FENCE, Json, Message
from bus.settings import Settings

WORK_S = 10.0


async def main(name: str, path: Path) -> None:
    """Serve until killed; says `ready` on standard output."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    agent, settings = Agent(name, concurrency=1), Settings.from_environment()

    def note(what: str, request: Message) -> None:
        os.write(file, f"{what} {request.text(FENCE) or 0} {os.getpid()}\n".encode())

    @agent.capability("essay")
    async def write(request: Message) -> Json:
        note("began", request)
        try:
            await asyncio.sleep(WORK_S)
        except asyncio.CancelledError:
            note("stopped", request)
            raise
        note("done", request)
        return {"text": f"an essay of {os.getpid()}"}

    await agent.serve(AmqpLink(settings, name), settings, lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
