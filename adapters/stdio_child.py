"""The program behind a stdio agent: kept running, given tasks as lines, its lines matched to the tasks by id."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from subprocess import PIPE
from typing import cast

from adapters.process import Backoff, Command, end, lines, relay_log
from adapters.sdk import Context
from bus.core import strict_json
from bus.core.errors import FAILURE_CLASSES, AgentError, FailureClass, Refused
from bus.core.facts import Limits
from bus.core.message import FENCE, Json, Message

LINE_BYTES = 1024 * 1024
"""Longest line that the program may write."""

_LIMITS = Limits(body_bytes=LINE_BYTES)
_UP_S = 15.0  # how long a task waits for the program to be started again
_GRACE_S = 3.0  # for the program to end when its stdin ends
_SHOWN = 200  # characters of a bad line in the log and the failure

log = logging.getLogger(__name__)


class _Ended(Exception):
    """The agent's fault: the program ended with the task unanswered."""


@dataclass(frozen=True, slots=True)
class _Task:
    context: Context
    answer: asyncio.Future[Json]


class Child:
    """Args:
    command: what to run.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._up = asyncio.Event()
        self._tasks: dict[str, _Task] = {}  # oldest first

    async def keep(self) -> None:
        """Run the program, again with back-off whenever it ends, until cancelled."""
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._run()
            except OSError as error:
                log.error("agent %s: cannot start %s: %s", self._command.name, self._command.argv[0], error)
            pause = backoff.pause(loop.time() - began)
            log.warning("agent %s: its program ended; starting it again in %.1f s", self._command.name, pause)
            await asyncio.sleep(pause)

    async def wait_until_up(self) -> None:
        """Wait until the program runs."""
        await self._up.wait()

    async def ask(self, message: Message, capability: str | None, context: Context) -> Json:
        """Have a task done. When the program ends meanwhile, the next one gets it, once.

        Raises:
            AgentError: what the program said, `tool_error` for a line that cannot be read, or `unavailable`.
        """
        fence = message.text(FENCE)
        identity = message.id if fence is None else f"{message.id}.{fence}"
        line: Json = {"id": identity, "type": message.type, "capability": capability, "data": message.data}
        for _ in range(2):
            try:
                return await self._exchange(identity, strict_json.dump(line) + b"\n", context)
            except _Ended:
                context.log.warning("the program of agent %s ended during a task", self._command.name)
        raise AgentError("unavailable", f"the program of {self._command.name} ended twice while it worked on this")

    async def _exchange(self, identity: str, line: bytes, context: Context) -> Json:
        try:
            await asyncio.wait_for(self._up.wait(), _UP_S)
        except TimeoutError:
            raise AgentError("unavailable", f"the program of {self._command.name} does not run") from None
        process = self._process
        if process is None or process.stdin is None:
            raise _Ended
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._tasks[identity] = _Task(context, answer)
        try:
            process.stdin.write(line)
            await process.stdin.drain()
            return await answer
        except (BrokenPipeError, ConnectionResetError):
            raise _Ended from None
        finally:
            del self._tasks[identity]

    async def _run(self) -> None:
        process = await self._command.start(stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._up.set()
        stderr = asyncio.create_task(relay_log(process.stderr, self._command.name))
        try:
            async for line in lines(process.stdout, LINE_BYTES):
                self._on_line(line)
        finally:
            self._up.clear()
            self._process = None
            for task in self._tasks.values():
                if not task.answer.done():
                    task.answer.set_exception(_Ended())
            await end(process, None, _GRACE_S)
            stderr.cancel()

    def _on_line(self, line: bytes | None) -> None:
        if line is None:
            self._bad(f"a line longer than {LINE_BYTES} bytes")
            return
        if not line.strip():
            return
        try:
            answer = strict_json.parse(line, _LIMITS)
        except Refused as error:
            self._bad(f"a line that is no JSON ({error.reason}): {line[:_SHOWN]!r}")
            return
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
            self._bad(f'a line without the task\'s "id": {line[:_SHOWN]!r}')
            return
        task = self._tasks.get(cast(str, answer["id"]))
        if task is None or task.answer.done():
            log.warning("agent %s answered task %.80r, which is not open", self._command.name, answer["id"])
        elif "progress" in answer:
            task.context.progress(str(answer["progress"])[:_SHOWN])
        elif "error" in answer:
            task.answer.set_exception(_failure(answer["error"]))
        else:
            task.answer.set_result(answer.get("data"))

    def _bad(self, what: str) -> None:
        """Fail the task that the line most likely answers: the oldest."""
        reason = (
            f"the program of {self._command.name} wrote {what}; it must write one JSON object a line, logs to stderr"
        )
        log.error(reason)
        for task in self._tasks.values():
            if not task.answer.done():
                task.answer.set_exception(AgentError("tool_error", reason))
                return


def _failure(error: Json) -> AgentError:
    given = error if isinstance(error, dict) else {"reason": error}
    said = given.get("class")
    failure: FailureClass = said if said in FAILURE_CLASSES else "tool_error"
    return AgentError(failure, str(given.get("reason") or "the program gave no reason"))
