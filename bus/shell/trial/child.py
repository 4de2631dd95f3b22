"""The child that tries suspects: one question, one answer, until something ends it.

Its bounds are the kernel's, so that they hold inside a C library that never returns to Python, too: address space, and
a timer that counts the processor time of one question and ends the process. Processor time and not the clock's, because
on a busy machine an innocent message takes long. The clock is watched by the worker (bus.shell.trial.apart).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import socket
from dataclasses import dataclass

from bus.core.actions import Decision, Delivery
from bus.core.facts import Facts
from bus.core.message import Message
from bus.core.pipeline import decide, understand
from bus.core.redelivery import bounced
from bus.core.running import due
from bus.core.table import RouteTable
from bus.shell.trial.place import fault, fault_of_run
from bus.shell.trial.wire import CONFIGURATION, LENGTH, Needs, Question, Word, answer, asked
from bus.shell.versions import Compiler, cannot

OUT_OF_MEMORY = 86
"""Exit code of a child that may not have as much memory as it wants."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What deciding one message may take.

    Args:
        cpu_s: processor seconds. An ordinary decision takes well under a thousandth of one.
        silence_s: seconds without an answer that the worker waits, for what waits itself and so uses no processor.
        memory_mb: megabytes beyond what the child has when it starts.
    """

    cpu_s: float = 2.0
    silence_s: float = 5.0
    memory_mb: int = 256


def serve(link: socket.socket, table: RouteTable, bounds: Bounds, compiler: Compiler = cannot) -> None:
    """Answer questions until the worker hangs up.

    Args:
        table: the configuration that the worker began with; others it sends when they are asked for.
    """
    tables = {table.catalog.version: table}
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold other agents' messages
    _bound_memory(bounds.memory_mb)
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.register(signal.SIGPROF, all_threads=False, chain=True)  # says where it was, then ends it
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            question = asked(_read(link))
            current = _taken_up(question, tables, compiler)
            signal.setitimer(signal.ITIMER_PROF, bounds.cpu_s)
            try:
                made = _answer(question, current)
            except MemoryError:
                os._exit(OUT_OF_MEMORY)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            link.sendall(LENGTH.pack(len(made)) + made)


def _taken_up(question: Question, tables: dict[str, RouteTable], compiler: Compiler) -> RouteTable | Needs:
    """The configuration to decide by, with its elders; compiling is no part of what a message may take."""
    for version, bundle in question.bundles.items():
        tables[version] = RouteTable(compiler(version, bundle))
    for version in tables.keys() - {*question.versions}:
        del tables[version]
    for version in question.versions:
        if version not in tables:
            return Needs(CONFIGURATION + version)
    current, *elders = question.versions
    tables[current].succeed({version: tables[version] for version in elders})
    return tables[current]


def _answer(question: Question, table: RouteTable | Needs) -> bytes:
    if isinstance(table, Needs):
        return answer(table)
    word, subject, facts = question.word, question.subject, question.facts
    try:
        made = _due(subject, table, facts) if isinstance(subject, str) else _try(word, subject, table, facts)
        return answer(made)
    except Needs as needs:
        return answer(needs)


def _try(word: Word, delivery: Delivery, table: RouteTable, facts: Facts) -> Message | Decision:
    if word == "bounced":
        return bounced(delivery, facts)
    understood = understand(delivery, table, facts)
    if word == "understand" or isinstance(understood, Decision):
        return understood
    try:
        return decide(delivery, table, facts, understood)
    except (MemoryError, Needs):  # the first is in here the message's doing
        raise
    except Exception as error:  # noqa: BLE001 - as in the worker: see bus.shell.trial.place
        return fault(delivery, understood, table, facts, error)


def _due(key: str, table: RouteTable, facts: Facts) -> Decision:
    """What follows when the time of a run has come; the worker asks only about such as are due."""
    try:
        made = due(key, facts, table)
    except (MemoryError, Needs):
        raise
    except Exception as error:  # noqa: BLE001 - as in the worker: see bus.shell.trial.place
        made = fault_of_run(key, table, facts, error)
    assert made is not None
    return made[1]


def _bound_memory(more_mb: int) -> None:
    """Bound the address space: what it has now, which is mostly shared with the worker, and so much more."""
    with contextlib.suppress(OSError, ValueError):  # not every system counts it; the clock still bounds the rest
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = now + more_mb * 1024 * 1024
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _read(link: socket.socket) -> bytes:
    (size,) = LENGTH.unpack(_exactly(link, LENGTH.size))
    return _exactly(link, size)


def _exactly(link: socket.socket, size: int) -> bytes:
    frame = bytearray()
    while len(frame) < size:
        piece = link.recv(min(size - len(frame), 1 << 20))
        if not piece:
            raise EOFError
        frame += piece
    return bytes(frame)
