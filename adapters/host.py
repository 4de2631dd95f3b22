"""Runs the declared agents of this machine: one entry in a table for each adapter.

    sdk       a Python file with an Agent in it, in a process of its own      run: FILE.py:agent   env: [NAMES]
    stdio     any program that speaks JSON lines, tasks handled in-process    command: [ARGV...]   env: [NAMES]
    bridge    carries events to and from another bus      url: URL   namespace: NAME   as: NAME
    external  connects by itself; nothing is run

What ends is started again with back-off. Nothing outlives the host: on cancellation agents finish what they work on
and are ended in order, and when the host is killed its children read the end of their pipe.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Protocol

from adapters.bridge import Bridge
from adapters.process import Backoff, Command, allowed, end, relay_log
from adapters.stdio import StdioAgent
from bus.core.errors import BusError
from bus.core.route import Agent as Declared
from bus.settings import Settings

_GRACE_S = 23.0  # an agent takes at most 20 to finish what it works on

log = logging.getLogger(__name__)


class Hosted(Protocol):
    """An agent that the host runs."""

    name: str

    async def run(self, settings: Settings, ready: Callable[[], None]) -> None:
        """Work until cancelled, over every crash; call `ready` whenever everything is consumed."""


class SdkProcess:
    """A Python agent in a process of its own.

    Args:
        declared: the agent; `run: FILE.py:agent` and `env: [NAMES]` are read from its settings.
        environment: where allowed variables are taken from.

    Raises:
        BusError: no `run`, or no such file inside the integration's folder.
    """

    def __init__(self, declared: Declared, environment: Mapping[str, str]) -> None:
        self.name = declared.name
        self._folder = Path(declared.folder or ".").resolve()
        run = declared.settings.get("run")
        if not isinstance(run, str) or not run:
            raise BusError(f"agent `{self.name}` does not say what to run; write run: FILE.py:agent")
        file, _, variable = run.partition(":")
        path = (self._folder / file).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise BusError(f"agent `{self.name}`: no file `{file}` in {self._folder}; write run: FILE.py:agent")
        # -P keeps the folder from hiding modules of the standard library before the agent's own imports.
        argv = [sys.executable, "-P", "-m", "adapters.sdk", f"{path}:{variable or 'agent'}", "--name", self.name]
        argv += ["--concurrency", str(declared.concurrency)]
        if declared.timeout_s is not None:
            argv += ["--timeout", str(declared.timeout_s)]
        for each in declared.capabilities:
            argv += ["--capability", each]
        self._argv = tuple(argv)
        self._allowed = allowed(declared, environment)

    async def run(self, settings: Settings, ready: Callable[[], None]) -> None:
        """Keep the process running until cancelled."""
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                code = await self._once(settings, ready)
                log.warning("agent %s ended with exit code %s", self.name, code)
            except OSError as error:
                log.error("agent %s cannot be started: %s", self.name, error)
            await asyncio.sleep(backoff.pause(loop.time() - began))

    async def _once(self, settings: Settings, ready: Callable[[], None]) -> int | None:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                command = Command(
                    self.name,
                    (*self._argv, "--parent", str(theirs.fileno())),
                    self._folder,
                    {**self._allowed, **_for_child(settings)},
                )
                process = await command.start(stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, pass_fds=(theirs.fileno(),))
            assert process.stdout is not None
            watching = asyncio.create_task(_watch(ours, ready))
            relaying = asyncio.create_task(relay_log(process.stdout, self.name))
            try:
                return await process.wait()
            finally:
                await end(process, signal.SIGTERM, _GRACE_S)
                watching.cancel()
                await asyncio.wait({relaying}, timeout=1)
                relaying.cancel()


ADAPTERS: Mapping[str, Callable[[Declared, Mapping[str, str]], Hosted]] = {
    "sdk": SdkProcess,
    "stdio": StdioAgent,
    "bridge": Bridge,
}
"""Adapters that the host runs."""

EXTERNAL = "external"
"""Adapter of agents that connect by themselves."""


async def host(
    agents: Sequence[Declared],
    settings: Settings,
    environment: Mapping[str, str],
    ready: Callable[[str], None],
) -> None:
    """Run the agents until cancelled, then stop them all.

    Args:
        environment: variables that agents may be allowed to see.
        ready: called with an agent's name whenever it is connected and consumes, so again after a restart.

    Raises:
        BusError: an agent's settings are wrong; nothing has been started then.
    """
    hosted = [_hosted(each, environment) for each in agents if each.adapter != EXTERNAL]
    async with asyncio.TaskGroup() as group:
        for each in hosted:
            group.create_task(each.run(settings, functools.partial(ready, each.name)))


def _hosted(declared: Declared, environment: Mapping[str, str]) -> Hosted:
    adapter = ADAPTERS.get(declared.adapter)
    if adapter is None:
        known = ", ".join((*ADAPTERS, EXTERNAL))
        raise BusError(f"agent `{declared.name}`: no adapter `{declared.adapter}`; write one of {known}")
    return adapter(declared, environment)


def _for_child(settings: Settings) -> dict[str, str]:
    """What an SDK process needs to find the bus and this code; nothing else of the host's environment."""
    return {
        "BUS_AGENT_AMQP_URL": settings.agent_amqp_url or settings.amqp_url or "",
        "BUS_NAMESPACE": settings.namespace,
        "BUS_LOG_LEVEL": settings.log_level,
        "BUS_LOG_FORMAT": "json",  # read back by relay_log
        "BUS_BODY_BYTES": str(settings.body_bytes),
        "BUS_CONNECT_TIMEOUT_S": str(settings.connect_timeout_s),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONUNBUFFERED": "1",
    }


async def _watch(ours: socket.socket, ready: Callable[[], None]) -> None:
    ours.setblocking(False)
    if await asyncio.get_running_loop().sock_recv(ours, 64):
        ready()
