"""What the log knows of requests: the gateway keeps no answers, it reads them where the bus has written them.

The log is read on a thread of its own, since SQLite and the network may take their time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

from bus.audit.record import Record
from bus.core.errors import StoreFailed
from bus.core.gateway import PENDING, Result, found_in
from bus.core.identity import GATEWAY
from bus.shell.history import History, Tail

T = TypeVar("T")

LOOK_S = 5.0
"""How long a client waits for the log to answer."""


class Seen(NamedTuple):
    """A request that the log has.

    Args:
        body: the message as it came in.
    """

    body: bytes
    result: Result


class Results:
    """Args:
    history: opens the log for reading; called on the reading thread, and again after it has failed.
    """

    def __init__(self, history: Callable[[], History]) -> None:
        self._open = history
        self._history: History | None = None
        self._tail: Tail | None = None
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gateway-log")

    async def of(self, identity: str) -> Seen | None:
        """What the log has of a request; None when it has none, or not yet.

        Raises:
            StoreFailed: the log cannot be read.
        """
        return await self._on_thread(partial(self._of, identity))

    async def news(self, identities: Collection[str]) -> Mapping[str, Result]:
        """The ends of these requests that were recorded since the last call; with none to ask for, it forgets where it
        was, and the next call looks at all that is recorded.

        Raises:
            StoreFailed: the log cannot be read.
        """
        return await self._on_thread(partial(self._news, frozenset(identities)))

    async def close(self) -> None:
        """Let go of the log, whatever is being read."""
        self._closing = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def _on_thread(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(LOOK_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except TimeoutError:
            # A long log is indexed when it is first looked into; the thread goes on with that.
            raise StoreFailed(f"the log has not answered within {LOOK_S:g} s") from None

    def _go_on(self, position: int, last: int) -> None:
        if self._closing:
            raise StoreFailed("the gateway stops")

    def _close(self) -> None:
        if self._history is not None:
            self._history.close()
        self._history = self._tail = None

    def _reading(self, work: Callable[[History], T]) -> T:
        if self._history is None:
            self._history = self._open()
        try:
            return work(self._history)
        except StoreFailed:
            self._close()
            raise

    def _of(self, identity: str) -> Seen | None:
        return self._reading(partial(self._seen, identity))

    def _news(self, identities: frozenset[str]) -> Mapping[str, Result]:
        return self._reading(partial(self._read, identities))

    def _read(self, identities: frozenset[str], history: History) -> Mapping[str, Result]:
        if not identities:
            self._tail = None
            return {}
        found: dict[str, Result] = {}
        if self._tail is None:
            self._tail = history.tail()
            for identity in identities:
                seen = self._seen(identity, history)
                if seen is not None and seen.result is not PENDING:
                    found[identity] = seen.result
            return found
        while records := self._tail.read():
            for record in records:
                if record.conversation in identities:
                    result = found_in(_to_gateway(history, (record,)), record.conversation)
                    if result is not PENDING:
                        found[record.conversation] = result
        return found

    def _seen(self, identity: str, history: History) -> Seen | None:
        found = history.message(identity, self._go_on)
        first = next((each for each in found if _is_request(each, identity)), None)
        if first is None:
            return None
        body = history.entry(first.partition, first.seq).input
        return Seen(body, found_in(_to_gateway(history, history.conversation(identity, self._go_on)), identity))


def _is_request(record: Record, identity: str) -> bool:
    """Whether it is the gateway's own: others may use the same id, and what repeats it says nothing of it."""
    repeats = record.end == "duplicate" or (record.failure is not None and record.failure.code == "id-reused")
    hop = record.why == "re-keyed"
    return record.source == GATEWAY and record.conversation == identity and not repeats and not hop


def _to_gateway(history: History, records: Iterable[Record]) -> Iterable[bytes]:
    for record in records:
        told = [index for index, each in enumerate(record.outputs) if (each.kind, each.name) == ("agent", GATEWAY)]
        if told:
            outputs = history.entry(record.partition, record.seq).outputs
            yield from (outputs[index].body for index in told)
