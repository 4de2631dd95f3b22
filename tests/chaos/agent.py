"""The SDK agents of the harness: `python -m tests.chaos.agent NAME`. They do an effect durably, then answer.

`CHAOS_EFFECTS` is the file of effects. `CHAOS_DIE` has them kill themselves, once, at the n-th pass of a place:
`before-reply=N` between the effect and the reply, `after-reply=N` between the confirmed reply and the ack.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from adapters import Agent, AgentError, Context
from adapters.link import AmqpLink
from adapters.logs import configure
from bus.core.message import TASK_CLAIM, Json, Message
from bus.ports import Handler, Inbound
from bus.settings import Settings
from tests.chaos.effects import EffectFile, digest_of_value

PLACES = {"worker_one": ("work",), "worker_two": ("work",), "solo": ("single",), "grumbler": ("moody", "broken")}
CONCURRENCY = {"worker_one": 16, "worker_two": 16, "solo": 8, "stepper": 8, "grumbler": 8}


def bomb(text: str) -> Callable[[str], None]:
    """Make what kills this process at the n-th pass of the place that `text` names."""
    place, _, count = text.partition("=")
    left = int(count) if count else 0

    def passed(where: str) -> None:
        nonlocal left
        if where == place:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return passed


class MortalLink(AmqpLink):
    """A link that may die once a reply is confirmed, before the request is acked.

    It notes of each message whether its first delivery in this life was a redelivery.
    """

    def __init__(self, settings: Settings, name: str, passed: Callable[[str], None], given: dict[str, bool]) -> None:
        super().__init__(settings, name)
        self._passed, self._given = passed, given

    async def listen(self, queues: Sequence[str], prefetch: int, handler: Handler) -> None:
        """Consume, and note what comes."""

        async def noting(inbound: Inbound) -> None:
            self._given.setdefault(inbound.message.id, inbound.redelivered)
            await handler(inbound)

        await super().listen(queues, prefetch, noting)

    async def send(self, message: Message) -> None:
        """Send, then pass the place."""
        await super().send(message)
        if message.type != TASK_CLAIM:
            self._passed("after-reply")


def make(name: str, effects: EffectFile, passed: Callable[[str], None], given: dict[str, bool]) -> Agent:
    """The agent of this name."""
    agent = Agent(name, concurrency=CONCURRENCY[name])
    life = f"{name}/{os.getpid()}/{time.time():.3f}"

    def perform(place: str, message: Message) -> dict[str, Json]:
        data = message.data
        assert isinstance(data, dict)
        token, number = str(data["token"]), int(str(data["number"]))
        whole = {**message.attributes, "data": data}
        effects.perform(place, token, number, message.id, digest_of_value(whole), life, given[message.id])
        passed("before-reply")
        return {"token": token, "number": number}

    if name == "stepper":

        @agent.on("chaos.began")
        async def began(event: Message, context: Context) -> None:
            await context.send("chaos.ended", perform("stepper", event))

        return agent

    for place in PLACES[name]:
        agent.capability(place)(_answering(place, perform))
    return agent


def _answering(
    place: str, perform: Callable[[str, Message], dict[str, Json]]
) -> Callable[[Message], Awaitable[dict[str, Json]]]:
    """The handler of a capability.

    The reply must be the same whoever computes it: a recorded one is never superseded by another life's. So it hangs on
    the request alone whether one that fails at times does.
    """

    async def work(request: Message) -> dict[str, Json]:
        done = perform(place, request)
        if place == "broken" or (place == "moody" and int(request.id[:2], 16) % 2):
            raise AgentError("unavailable", "not now")
        return done

    return work


async def main(name: str) -> None:
    """Serve until SIGTERM; says `ready` on standard output."""
    settings = Settings.from_environment()
    configure(settings)
    passed = bomb(os.environ.get("CHAOS_DIE", ""))
    given: dict[str, bool] = {}
    agent = make(name, EffectFile(Path(os.environ["CHAOS_EFFECTS"])), passed, given)
    link = MortalLink(settings, name, passed, given)
    serving = asyncio.ensure_future(agent.serve(link, settings, lambda: print('{"event": "ready"}', flush=True)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
