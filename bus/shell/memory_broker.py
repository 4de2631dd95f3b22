"""A broker in memory, for tests and the route tester: deterministic, with a clock that only moves by hand.

It takes the same `Topology` as RabbitMQ and does what the bus relies on: default exchange, fanout, topic and hash
exchanges, mandatory returns, queue limits that refuse publishes, times to live and dead-letter exchanges, delivery
counts and requeueing in order. It keeps nothing over a restart. One lock makes it usable from several threads.
"""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from bus.core import naming
from bus.core.actions import Delivery
from bus.ports import Way
from bus.shell.topology import Binding, Exchange, Queue, Topology


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a queue. `expires_at` is on the broker's clock."""

    delivery: Delivery
    expires_at: float | None


@dataclass(slots=True)
class _Queue:
    dead_letter_exchange: str | None
    ttl_s: float | None
    limit: int | None
    single: bool
    messages: deque[Stored] = field(default_factory=deque)
    returned: int = 0  # how many of them, at the head, were given back
    consumers: list[object] = field(default_factory=list)


class MemoryBroker:
    """Args:
    topology: what to declare at first.
    limits: most messages by queue name; a publish to a full one is refused.
    """

    def __init__(self, topology: Topology, limits: Mapping[str, int] | None = None) -> None:
        self.lock = threading.RLock()
        self.now_s = 0.0
        self._limits = dict(limits or {})
        self._kinds: dict[str, str] = {}
        self._bindings: dict[str, list[Binding]] = {}
        self._behind: dict[str, list[str]] = {}  # exchanges behind exchanges
        self._queues: dict[str, _Queue] = {}
        self._listeners: list[Callable[[], None]] = []
        self.declare(topology)
        self.lead(topology.way)
        self.unlead(topology.way)

    def declare(self, topology: Topology) -> None:
        """Declare what is not there yet."""
        with self.lock:
            ttls = {
                naming.retry_queue(topology.namespace, step): float(seconds)
                for step, seconds in enumerate(naming.WAKE_STEPS_S, start=1)
            }
            for exchange in topology.exchanges:
                self._declare_exchange(exchange)
            for queue in topology.queues:
                self._declare_queue(queue, ttls.get(queue.name))
            for binding in topology.bindings:
                if binding not in self._bindings[binding.exchange]:
                    self._bindings[binding.exchange].append(binding)

    def lead(self, way: Way) -> None:
        """Bind what `way` leads to."""
        with self.lock:
            behind = self._behind.setdefault(way.source, [])
            if way.to not in behind:
                behind.append(way.to)

    def behind(self, exchange: str) -> list[str]:
        """The exchanges that are bound to an exchange."""
        return list(self._behind.get(exchange, ()))

    def unlead(self, way: Way) -> None:
        """Unbind what `way` does not lead to."""
        with self.lock:
            self._behind[way.source] = [each for each in self._behind[way.source] if each not in way.no_exchanges]

    def _declare_exchange(self, exchange: Exchange) -> None:
        self._kinds[exchange.name] = exchange.kind
        self._bindings.setdefault(exchange.name, [])

    def _declare_queue(self, queue: Queue, ttl_s: float | None) -> None:
        if queue.name not in self._queues:
            target = queue.arguments.get("x-dead-letter-exchange")
            self._queues[queue.name] = _Queue(
                dead_letter_exchange=None if target is None else str(target),
                ttl_s=ttl_s,
                limit=self._limits.get(queue.name),
                single=bool(queue.arguments.get("x-single-active-consumer")),
            )

    # --- For publishers ---------------------------------------------------------------------------------------------

    def publish(self, exchange: str, delivery: Delivery, expires_s: float | None = None) -> str:
        """Route a message by its `routing_key`.

        Returns:
            `confirmed`, `nacked` (a target is full; none of them took it) or `returned` (no target).
        """
        with self.lock:
            targets = self._route(exchange, delivery.routing_key)
            if not targets:
                return "returned"
            queues = [self._queues[name] for name in targets]
            if any(queue.limit is not None and len(queue.messages) >= queue.limit for queue in queues):
                return "nacked"
            for name, queue in zip(targets, queues, strict=True):
                lives = [s for s in (expires_s, queue.ttl_s) if s is not None]
                expires_at = self.now_s + min(lives) if lives else None
                queue.messages.append(Stored(delivery._replace(queue=name, redelivered=0), expires_at))
        self._wake()
        return "confirmed"

    def _route(self, exchange: str, key: str) -> list[str]:
        if exchange == "":
            return [key] if key in self._queues else []
        bindings = self._bindings.get(exchange, [])
        kind = self._kinds.get(exchange)
        if kind == "x-modulus-hash":
            behind = sorted(self._behind.get(exchange, []))
            queues = sorted({each.queue for each in bindings})
            places = len(behind) + len(queues)
            if not places:
                return []
            at = zlib.crc32(key.encode()) % places
            return self._route(behind[at], key) if at < len(behind) else [queues[at - len(behind)]]
        if kind == "topic":
            words = key.split(".")
            fitting = [each for each in bindings if topic_fits(each.routing_key.split("."), words)]
            found = [self._route(each.queue, key) if each.to_exchange else [each.queue] for each in fitting]
            return list(dict.fromkeys(chain.from_iterable(found)))
        return list(dict.fromkeys(each.queue for each in bindings))

    # --- For consumers ----------------------------------------------------------------------------------------------

    def subscribe(self, queue: str, consumer: object) -> bool:
        """Register a consumer; False when there is no such queue."""
        with self.lock:
            known = self._queues.get(queue)
            if known is not None and consumer not in known.consumers:
                known.consumers.append(consumer)
        self._wake()
        return known is not None

    def unsubscribe(self, consumer: object) -> None:
        """Forget a consumer."""
        with self.lock:
            for queue in self._queues.values():
                if consumer in queue.consumers:
                    queue.consumers.remove(consumer)
        self._wake()

    def take(self, queue: str, most: int, consumer: object | None = None) -> Sequence[Stored]:
        """Take the oldest messages out; nothing while another consumer is the single active one."""
        with self.lock:
            self._expire()
            known = self._queues[queue]
            if consumer is not None and known.single and known.consumers[0] is not consumer:
                return ()
            count = max(min(most, len(known.messages)), 0)
            known.returned = max(known.returned - count, 0)
            return [known.messages.popleft() for _ in range(count)]

    def give_back(self, messages: Sequence[Stored]) -> None:
        """Put unacked messages back, in order, each delivered once more than before.

        They come before what was never taken, but behind what was given back earlier and is not taken again yet.
        """
        with self.lock:
            for stored in messages:
                again = stored.delivery._replace(redelivered=stored.delivery.redelivered + 1)
                queue = self._queues[again.queue]
                queue.messages.insert(queue.returned, replace(stored, delivery=again))
                queue.returned += 1
        self._wake()

    def limit(self, queue: str, most: int | None) -> None:
        """Set how many messages a queue takes, as an operator does by policy; None is without bound."""
        with self.lock:
            self._queues[queue].limit = most

    def bodies(self, queue: str) -> list[bytes]:
        """Return the bodies that wait in a queue, oldest first."""
        with self.lock:
            return [each.delivery.body for each in self._queues[queue].messages]

    # --- Time and news ----------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass: times to live run out, and timers of the transports on this broker become due."""
        with self.lock:
            self.now_s += seconds
            self._expire()
        self._wake()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from any thread, whenever something may have changed."""
        with self.lock:
            self._listeners.append(wake)

    def _wake(self) -> None:
        for wake in tuple(self._listeners):
            wake()

    def _expire(self) -> None:
        """Dead-letter what has expired at the head of a queue, as quorum queues do."""
        for queue in self._queues.values():
            while queue.messages:
                expires_at = queue.messages[0].expires_at
                if expires_at is None or expires_at > self.now_s:
                    break
                expired = queue.messages.popleft()
                queue.returned = max(queue.returned - 1, 0)
                if queue.dead_letter_exchange is not None:
                    self.publish(queue.dead_letter_exchange, expired.delivery)


def topic_fits(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Whether words fit an AMQP topic pattern: `*` is one word, `#` any number of them."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(topic_fits(pattern[1:], words[at:]) for at in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and topic_fits(pattern[1:], words[1:])
