"""The worker's side of a trial: asks the child, waits in small steps, and makes a decision of its death.

It runs on the store's thread, which may wait, but not in silence: between the steps `meanwhile` renews the leases,
which would run out before a trial does, and tells the watchdog that this is no stall.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from bus.core.actions import Decision, Delivery
from bus.core.errors import BusError
from bus.core.facts import Facts
from bus.core.faults import poisoned, poisoned_run
from bus.core.message import Message
from bus.core.running import is_due, occasion
from bus.core.table import RouteTable
from bus.shell.trial.child import OUT_OF_MEMORY, Bounds, serve
from bus.shell.trial.forks import ForkServer
from bus.shell.trial.wire import (
    ANSWER_BYTES,
    CONFIGURATION,
    LENGTH,
    Garbled,
    Needs,
    Question,
    Subject,
    Word,
    answered,
    ask,
)
from bus.shell.versions import Compiler, cannot

_log = logging.getLogger(__name__)

T = TypeVar("T")

_QUESTIONS = 100  # memories that one decision may read: a run, what it shares with others, and those that it wakes
_COMPILING = 12  # times as long as else an answer may take that begins with compiling a configuration
STEP_S = 0.25  # between two looks at the leases, which are renewed each second


class Died(BusError):
    """The message's fault: the process that tried it has ended, or had to be ended; says how."""


class Apart:
    """A `Place` in another process.

    Args:
        forks: from `fork_server`.
        table: the compiled configuration, the same.
        bounds: the same that the fork server was made with.
    """

    def __init__(self, forks: ForkServer, table: RouteTable, bounds: Bounds) -> None:
        self._forks = forks
        self._table = table
        self._bounds = bounds
        self._link: socket.socket | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        """Called at least four times a second while it waits; the worker sets it."""
        self.bundle: Callable[[str], bytes] = lambda version: b""
        """Gives what a configuration can be compiled from; the worker sets it."""

    def understand(self, delivery: Delivery, facts: Facts) -> Message | Decision:
        """See `Place.understand`."""
        try:
            return self._ask("understand", delivery, facts)
        except Died as died:
            return poisoned(delivery, None, self._table, facts, str(died))

    def decide(self, delivery: Delivery, message: Message, facts: Facts) -> Decision:
        """See `Place.decide`."""
        return self._decision("decide", delivery, message, facts)

    def bounced(self, delivery: Delivery, facts: Facts) -> Decision:
        """See `Place.bounced`."""
        return self._decision("bounced", delivery, None, facts)

    def due(self, key: str, facts: Facts) -> tuple[Delivery, Decision] | None:
        """See `Place.due`."""
        if not is_due(key, facts):
            return None
        try:
            made = self._ask("due", key, facts)
            if isinstance(made, Decision) and made.message is not None:
                return occasion(made.message, facts), made
            self._forget()
            raise Died("gave no decision")
        except Died as died:
            return poisoned_run(key, self._table, facts, str(died))

    def reconfigure(self, table: RouteTable) -> None:
        """See `Place.reconfigure`."""
        self._table = table

    def close(self) -> None:
        """End the child and the fork server."""
        self._hang_up()
        self._forks.close()

    def _decision(self, word: Word, delivery: Delivery, message: Message | None, facts: Facts) -> Decision:
        try:
            made = self._ask(word, delivery, facts)
            if isinstance(made, Decision):
                return made
            self._forget()
            raise Died("gave no decision")
        except Died as died:
            return poisoned(delivery, message, self._table, facts, str(died))

    def _ask(self, word: Word, subject: Subject, facts: Facts) -> Message | Decision:
        """Put a question to the child, and again as long as it needs to know more for its answer; see `_once`."""
        known = {subject: facts.recall(subject)} if isinstance(subject, str) else dict[str, bytes | None]()
        versions = (self._table.catalog.version, *self._table.elders)
        question = Question(word, subject, facts, versions, {})
        for _ in range(_QUESTIONS):
            made = self._once(question, known)
            if not isinstance(made, Needs):
                return made
            question = question._replace(bundles={})
            if made.key.startswith(CONFIGURATION):
                version = made.key.removeprefix(CONFIGURATION)
                question = question._replace(bundles={version: self.bundle(version)})
            else:
                known[made.key] = facts.recall(made.key)
        self._forget()
        raise Died("wants to know too much of what is remembered")

    def _once(self, question: Question, known: dict[str, bytes | None]) -> Message | Decision | Needs:
        """Put a question to the child.

        Raises:
            Died: there is no answer; the child is gone.
            BusError: no child can be made: the worker has to begin anew.
        """
        self.meanwhile()
        if self._link is None:
            self._link = self._forks.child()
            self._link.settimeout(STEP_S)
        frame, subject = ask(question, known), question.subject
        patience = 1 if not question.bundles else _COMPILING
        try:
            self._send(self._link, memoryview(LENGTH.pack(len(frame)) + frame))
            (size,) = LENGTH.unpack(self._receive(self._link, LENGTH.size, patience))
            if size > ANSWER_BYTES:
                raise Garbled(f"its answer would be {size} bytes long")
            return answered(self._receive(self._link, size))
        except TimeoutError:
            self._forget()
            died = Died(f"gave no answer within {self._bounds.silence_s:g} s")
        except Garbled as garbled:
            self._forget()
            died = Died(f"gave an answer that cannot be used ({garbled})")
        except (OSError, EOFError):
            died = Died(self._how(self._forget()))
        if isinstance(subject, str):
            _log.error("poison, as the time of %s had come: the process that tried it %s", subject, died)
        else:
            extra = {"queue": subject.queue, "message_id": subject.message_id}
            after = "poison, after %d deliveries: the process that tried it %s"
            _log.error(after, subject.redelivered, died, extra=extra)
        raise died

    def _send(self, link: socket.socket, frame: memoryview) -> None:
        while frame:
            frame = frame[self._waiting(partial(link.send, frame)) :]

    def _receive(self, link: socket.socket, size: int, patience: int = 1) -> bytes:
        frame = bytearray()
        while len(frame) < size:
            piece = self._waiting(partial(link.recv, size - len(frame)), patience)
            if not piece:
                raise EOFError
            frame += piece
        return bytes(frame)

    def _waiting(self, attempt: Callable[[], T], patience: int = 1) -> T:
        """Try until it succeeds. It counts steps and not the clock, so that a pause of the whole process costs one.

        Raises:
            TimeoutError: the child has been silent for too long.
        """
        for _ in range(round(patience * self._bounds.silence_s / STEP_S)):
            try:
                return attempt()
            except TimeoutError:
                self.meanwhile()
        raise TimeoutError

    def _how(self, status: int) -> str:
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGPROF:
            return f"took more than {self._bounds.cpu_s:g} s of processor time"
        if code == OUT_OF_MEMORY:
            return f"took more than {self._bounds.memory_mb} MB of memory"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _forget(self) -> int:
        """End the child, so that the next question gets a new one; returns its wait status."""
        self._hang_up()
        return self._forks.end()

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def fork_server(table: RouteTable, bounds: Bounds, compiler: Compiler = cannot) -> ForkServer:
    """Fork the server that makes the children, while this process has but one thread."""
    return ForkServer(partial(serve, table=table, bounds=bounds, compiler=compiler))
