"""Publishing in order: pipelined across keys, one unconfirmed publish per (conversation, target).

A nack breaks a pipeline: a full queue may refuse one message and take the next. So later outputs of a key wait until
the earlier one is confirmed, and a refused one becomes a held row that the rest of its key queues behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bus.core import naming
from bus.core.actions import Output
from bus.core.outputs import REPLAY
from bus.ports import Held, Outcome, Outgoing
from bus.shell.ledger import Open

Key: TypeAlias = tuple[str, str, str]  # conversation, target kind, target name


@dataclass(slots=True, eq=False)
class Job:
    """One output on its way.

    Args:
        owner: the input it belongs to, or None once that is finished (it was held).
        held: its row in the store while it waits or is tried again.
        way: where outputs went when it was decided, if that was another configuration than the one in force.
        key: what it must not overtake within.
    """

    partition: int
    seq: int
    index: int
    output: Output
    owner: Open | None
    held: Held | None = None
    way: Addresses | None = None
    key: Key = field(init=False)

    def __post_init__(self) -> None:
        output = self.output
        self.key = output.conversation, output.kind, output.name


def replayed(output: Output) -> Output:
    """The output as it is published when it may have been before: agents then ask the bus before they work."""
    if output.kind not in ("agent", "capability"):
        return output
    return output._replace(headers={**output.headers, REPLAY: True})


class Addresses:
    """Where outputs go: exchange and routing key by kind and name.

    Args:
        namespace: the bus's.
        subscriptions: `Catalog.subscriptions` of its configuration.
    """

    def __init__(self, namespace: str, subscriptions: str) -> None:
        self._ns = namespace
        self._ingress = naming.ingress_exchange(namespace)
        self._events = naming.subscriptions_exchange(namespace, subscriptions)
        self._queues: dict[tuple[str, str], tuple[str, str]] = {}

    def of(self, output: Output) -> tuple[str, str]:
        """Return (exchange, routing key); "" is the default exchange, where the key is the queue."""
        if output.kind == "ingress":
            return self._ingress, output.conversation
        if output.kind == "event":
            return self._events, output.name
        found = self._queues.get((output.kind, output.name))
        if found is None:
            found = ("", self._queue(output))
            if output.kind != "client":  # clients come and go; remembering each would grow without end
                self._queues[output.kind, output.name] = found
        return found

    def _queue(self, output: Output) -> str:
        if output.kind == "agent":
            return naming.agent_queue(self._ns, output.name)
        if output.kind == "capability":
            return naming.capability_queue(self._ns, output.name)
        if output.kind == "client":
            return naming.client_queue(self._ns, output.name)
        return naming.dead_queue(self._ns) if output.kind == "dead" else naming.invalid_queue(self._ns)


class Outflow:
    """Args:
    addresses: where outputs go.
    publish: hands a batch to the transport.
    clock: seconds.
    """

    def __init__(
        self, addresses: Addresses, publish: Callable[[Sequence[Outgoing]], None], clock: Callable[[], float]
    ) -> None:
        self._addresses = addresses
        self._publish = publish
        self._clock = clock
        self._sent: deque[tuple[float, int]] = deque()  # when each batch was sent, and its last handle
        self._looked_at = 0
        self._flying: dict[int, Job] = {}
        self._waiting: dict[Key, deque[Job] | None] = {}  # keys with a publish in flight; None: nothing behind it
        self._batch: list[Outgoing] = []
        self._handle = 0

    def __len__(self) -> int:
        return len(self._flying)

    def add(self, job: Job) -> None:
        """Send now, or behind the one of its key that is not yet confirmed."""
        key = job.key
        if key not in self._waiting:
            self._waiting[key] = None
            self._send(job)
            return
        waiting = self._waiting[key]
        if waiting is None:
            self._waiting[key] = deque((job,))
        else:
            waiting.append(job)

    def busy(self, key: Key) -> bool:
        """Whether one of this key is in flight, and what comes later must stay behind it."""
        return key in self._waiting

    def _send(self, job: Job) -> None:
        self._handle += 1
        self._flying[self._handle] = job
        exchange, routing_key = (job.way or self._addresses).of(job.output)
        self._batch.append(tuple.__new__(Outgoing, (self._handle, exchange, routing_key, job.output)))

    def reconfigure(self, addresses: Addresses) -> None:
        """Send what comes from now on by these; what is behind another one of its key goes where it was decided to."""
        for waiting in self._waiting.values():
            for job in waiting or ():
                job.way = job.way or self._addresses
        self._addresses = addresses

    def outcome(self, outcome: Outcome) -> Job | None:
        """Take the job that an outcome is about; None when it was forgotten."""
        return self._flying.pop(outcome.handle, None)

    def next(self, key: Key) -> None:
        """The one of this key is settled: send the next, if any waits."""
        waiting = self._waiting.get(key)
        if waiting:
            self._send(waiting.popleft())
        else:
            self._waiting.pop(key, None)

    def stop(self, key: Key) -> list[Job]:
        """The one of this key is to be held: give back all that waited behind it, in order."""
        return list(self._waiting.pop(key, None) or ())

    def flush(self) -> None:
        """Hand what has gathered to the transport, as one batch."""
        if self._batch:
            batch, self._batch = self._batch, []
            self._sent.append((self._clock(), self._handle))
            self._publish(batch)

    def overdue(self, before: float) -> list[Job]:
        """Take out what was sent before then and has no outcome yet; an outcome that comes later finds nothing."""
        upto = self._looked_at
        while self._sent and self._sent[0][0] < before:
            upto = self._sent.popleft()[1]
        late = [handle for handle in range(self._looked_at + 1, upto + 1) if handle in self._flying]
        self._looked_at = upto
        return [self._flying.pop(handle) for handle in late]
