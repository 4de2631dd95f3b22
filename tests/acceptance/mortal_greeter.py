"""A greeter that kills itself between a confirmed reply and the ack of the request: `python -m ... NAME EVERY FILE`.

It writes to the file, a line each, what it began to work on and what the broker has confirmed the reply to. Its answers
say who gave them, so a second one would differ from the first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from adapters import Agent
from adapters.link import AmqpLink
from bus.core.message import CORRELATION, TASK_CLAIM, Json, Message
from bus.settings import Settings


class MortalLink(AmqpLink):
    """Args:
    every: with which confirmed reply it ends.
    file: where to note the confirmed ones.
    """

    def __init__(self, settings: Settings, name: str, every: int, file: int) -> None:
        super().__init__(settings, name)
        self._left, self._file = every, file

    async def send(self, message: Message) -> None:
        """Send; after the reply's confirm, note it and perhaps die."""
        await super().send(message)
        if message.type != TASK_CLAIM:
            os.write(self._file, f"confirmed {message.text(CORRELATION)} {os.getpid()}\n".encode())
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def main(name: str, every: int, path: Path) -> None:
    """Serve until killed; says `ready` on standard output."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    agent, settings = Agent(name, concurrency=4), Settings.from_environment()

    @agent.capability("greeting")
    async def greet(request: Message) -> Json:
        os.write(file, f"began {request.id} {os.getpid()}\n".encode())
        await asyncio.sleep(0.005)
        return {"text": f"{name} {os.getpid()}"}

    await agent.serve(MortalLink(settings, name, every, file), settings, lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
