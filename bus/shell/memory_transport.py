"""The transport over a `MemoryBroker`: same contract as RabbitMQ's, no sockets, no waiting.

`run` is a loop over `step`, which does one turn: calls from other threads, due timers, outcomes, one batch. A test
that wants every turn in its own hands calls `start` and then `step` until it returns False. Time is the broker's: it
moves by `MemoryBroker.advance` alone.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Sequence

from bus.core.actions import Delivery
from bus.core.errors import BusError
from bus.ports import Outcome, Outgoing, Received, Tag, TransportEvents, Way
from bus.shell.memory_broker import MemoryBroker, Stored

_NO_ROUTE = "NO_ROUTE: {where} has no queue for key `{key}`"
_FULL = "the queue is full or its leader is away"


class MemoryTransport:
    """See `bus.ports.Transport`.

    Args:
        broker: shared with other transports and the test.
        user: broker user of this connection, the `user_id` of its publishes.
        declare: declares the topology at each connect.
    """

    def __init__(
        self, broker: MemoryBroker, user: str = "bus", declare: Callable[[MemoryBroker], None] = lambda broker: None
    ) -> None:
        self._declare = declare
        self._broker = broker
        self._user = user
        self._events: TransportEvents | None = None
        self._changed = threading.Condition()
        self._dirty = True
        self._stopping = False
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._timer_count = 0
        self._generation = 0
        self._connected = False
        self._lost: str | None = None
        self._queues: dict[str, int] = {}  # consumed queue -> its prefetch
        self._unacked: deque[tuple[int, Stored]] = deque()
        self._next_tag = 1
        self._outcomes: list[Outcome] = []
        broker.listen(self._wake)

    # --- For any thread ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """See `Transport.stop`."""
        self._stopping = True
        self._wake()

    def call_threadsafe(self, call: Callable[[], None]) -> None:
        """See `Transport.call_threadsafe`."""
        self._calls.append(call)
        self._wake()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def disconnect(self) -> None:
        """Drop the connection without telling anyone, as the end of the process does."""
        self._disconnect()

    def lose(self, reason: str) -> None:
        """Lose the connection, as a network would; it comes back in the turn after `on_lost`."""
        self._lost = reason
        self._wake()

    # --- The loop ---------------------------------------------------------------------------------------------------

    def run(self, events: TransportEvents) -> None:
        """See `Transport.run`."""
        self.start(events)
        try:
            while not self._stopping:
                if not self.step():
                    self._sleep()
        finally:
            self._disconnect()

    def start(self, events: TransportEvents) -> None:
        """Set who is told; nothing happens before the first `step`."""
        self._events = events

    def step(self) -> bool:
        """Do one turn; False when there was nothing to do."""
        if self._lost is not None:
            return self._step_lost()
        if not self._connected:
            self._generation += 1
            self._connected = True
            self._declare(self._broker)
            self._handler().on_connected()
            return True
        done = self._step_calls() + self._step_timers() + self._step_outcomes() + self._step_batch()
        return done > 0

    def _step_lost(self) -> bool:
        reason, self._lost = self._lost or "", None
        if self._connected:
            self._disconnect()
            self._handler().on_lost(reason)
        return True

    def _step_calls(self) -> int:
        count = len(self._calls)
        for _ in range(count):
            self._calls.popleft()()
        return count

    def _step_timers(self) -> int:
        count = 0
        while self._timers and self._timers[0][0] <= self._broker.now_s and not self._stopping:
            _, number, call = heapq.heappop(self._timers)
            if number not in self._cancelled:
                call()
                count += 1
            self._cancelled.discard(number)
        return count

    def _step_outcomes(self) -> int:
        if not self._outcomes or self._stopping:
            return 0
        outcomes, self._outcomes = self._outcomes, []
        self._handler().on_outcomes(outcomes)
        return len(outcomes)

    def _step_batch(self) -> int:
        if self._stopping or not self._connected:
            return 0
        batch: list[Received] = []
        for queue, share in self._queues.items():
            held = sum(1 for _, stored in self._unacked if stored.delivery.queue == queue)
            for stored in self._broker.take(queue, share - held, self):
                self._unacked.append((self._next_tag, stored))
                batch.append(Received(Tag(self._generation, self._next_tag), stored.delivery))
                self._next_tag += 1
        if batch:
            self._handler().on_batch(batch)
        return len(batch)

    # --- For the loop thread ----------------------------------------------------------------------------------------

    def restart(self, reason: str) -> None:
        """See `Transport.restart`."""
        if self._lost is None:
            self.lose(reason)

    def lead(self, way: Way, then: Callable[[], None]) -> None:
        """See `Transport.lead`; binding and unbinding are turns of their own, between which the process may die."""
        self._broker.lead(way)
        generation = self._generation

        def unlead() -> None:
            if self._connected and generation == self._generation:
                self._broker.unlead(way)
                self._calls.append(finished)

        def finished() -> None:
            if self._connected and generation == self._generation:
                then()

        self._calls.append(unlead)

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        """See `Transport.consume`."""
        if self._lost is not None:
            return
        for queue in queues:
            if not self._broker.subscribe(queue, self):
                self.lose(f"NOT_FOUND - no queue '{queue}'")
                return
            self._queues[queue] = prefetch

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """See `Transport.publish`."""
        if not self._connected:
            raise BusError("the transport is not connected; publish between on_connected and on_lost")
        if self._lost is not None:
            return
        for each in batch:
            output = each.output
            delivery = Delivery(
                body=output.body,
                content_type=output.content_type,
                headers=dict(output.headers),
                user_id=self._user,
                message_id=output.id,
                type=output.type or None,
                routing_key=each.routing_key,
                queue="",
            )
            expires_s = None if output.expires_ms is None else output.expires_ms / 1000
            self._outcomes.append(_outcome(each, self._broker.publish(each.exchange, delivery, expires_s)))

    def ack(self, upto: Tag) -> None:
        """See `Transport.ack`."""
        if upto.generation == self._generation and self._lost is None:
            while self._unacked and self._unacked[0][0] <= upto.number:
                self._unacked.popleft()
            self._wake()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """See `Transport.call_later`; the seconds are the broker's."""
        self._timer_count += 1
        number = self._timer_count
        heapq.heappush(self._timers, (self._broker.now_s + seconds, number, call))
        return lambda: self._cancelled.add(number)

    # --- Inside -----------------------------------------------------------------------------------------------------

    def _disconnect(self) -> None:
        self._connected = False
        self._queues.clear()
        self._outcomes.clear()
        unacked = [stored for _, stored in self._unacked]
        self._unacked.clear()
        self._next_tag = 1
        # In this order: whoever consumes next must find them at the head.
        self._broker.give_back(unacked)
        self._broker.unsubscribe(self)

    def _wake(self) -> None:
        with self._changed:
            self._dirty = True
            self._changed.notify()

    def _sleep(self) -> None:
        with self._changed:
            while not self._dirty:
                self._changed.wait()
            self._dirty = False

    def _handler(self) -> TransportEvents:
        assert self._events is not None
        return self._events


def _outcome(outgoing: Outgoing, how: str) -> Outcome:
    if how == "returned":
        where = f"exchange `{outgoing.exchange}`" if outgoing.exchange else "the default exchange"
        return Outcome(outgoing.handle, "returned", _NO_ROUTE.format(where=where, key=outgoing.routing_key))
    if how == "nacked":
        return Outcome(outgoing.handle, "nacked", _FULL)
    return Outcome(outgoing.handle, "confirmed")
