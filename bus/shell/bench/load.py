"""The messages of the benchmarks, and what puts a backlog of them into the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from bus.core import naming
from bus.core.actions import Output
from bus.core.errors import Unreachable
from bus.core.outputs import STRUCTURED
from bus.ports import Outcome, Outgoing, Received, Transport

CONVERSATIONS = 1000
SHOP = "shop"  # the agent that orders come from
SINK = "sink"  # the capability that they go to
ORDER = "bench.order"

_CHUNK = 2000  # publishes in flight while filling: enough to keep the broker busy, few enough for its memory

Place: TypeAlias = tuple[str, str]
"""An exchange and a routing key."""


def conversation(number: int) -> str:
    """The conversation of the message of that number."""
    return f"conv-{number % CONVERSATIONS:04d}"


def order(run: str, number: int, kind: str = ORDER) -> bytes:
    """A structured message of about 600 bytes.

    Args:
        run: part of the id, so that no two backlogs share one.
        number: of the message in its backlog.
        kind: its type.
    """
    data = {
        "order_id": f"{run}-{number:07d}",
        "customer": {"id": f"C{number % CONVERSATIONS:05d}", "country": "DE", "vip": number % 7 == 0},
        "amount": 10.5 + number % 90,
        "currency": "EUR",
        "lines": [{"sku": f"SKU-{number % 50:04d}", "quantity": 1 + number % 3, "price": 5.25}],
        "note": "please leave it with the neighbour " * 9,
    }
    event = {"specversion": "1.0", "id": f"{run}-{number}", "source": SHOP, "type": kind,
             "conversationid": conversation(number), "data": data}  # fmt: skip
    return orjson.dumps(event)


def outgoing(number: int, place: Place, run: str, kind: str = ORDER) -> Outgoing:
    """A publish of one of these messages; its handle is its number."""
    body = order(run, number, kind)
    output = Output("ingress", "", f"{run}-{number}", kind, conversation(number), body, STRUCTURED, {})
    return Outgoing(number, place[0], place[1], output)


class Quiet:
    """What a benchmark does with the events that it does not want."""

    def on_connected(self) -> None: ...
    def on_batch(self, batch: Sequence[Received]) -> None: ...
    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None: ...
    def on_blocked(self, blocked: bool, reason: str) -> None: ...

    def on_lost(self, reason: str) -> None:
        raise Unreachable(f"the broker went away during the benchmark: {reason}")


def confirmed(outcomes: Sequence[Outcome]) -> int:
    """Count them.

    Raises:
        Unreachable: one is no confirm; a benchmark that lost messages is worth nothing.
    """
    for outcome in outcomes:
        if outcome.how != "confirmed":
            raise Unreachable(f"the broker refused a message of the benchmark: {outcome}")
    return len(outcomes)


def into_ingress(namespace: str) -> Callable[[int], Place]:
    """Messages go to the namespace's ingress, as agents send them."""
    exchange = naming.ingress_exchange(namespace)
    return lambda number: (exchange, conversation(number))


def into_queue(queue: str) -> Callable[[int], Place]:
    """Messages go straight into a queue."""
    return lambda number: ("", queue)


@dataclass(slots=True)
class Fill(Quiet):
    """Publishes `count` messages and stops when all are confirmed.

    Args:
        place: where the message of a number goes.
        kind: the type of the message of a number.
    """

    transport: Transport
    run: str
    count: int
    place: Callable[[int], Place]
    kind: Callable[[int], str] = lambda number: ORDER
    _sent: int = 0
    _confirmed: int = 0

    def on_connected(self) -> None:
        self._more()

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        self._confirmed += confirmed(outcomes)
        if self._confirmed == self.count:
            self.transport.stop()
        elif self._sent - self._confirmed < _CHUNK:
            self._more()

    def _more(self) -> None:
        numbers = range(self._sent, min(self.count, self._sent + _CHUNK))
        self._sent += len(numbers)
        self.transport.publish([outgoing(each, self.place(each), self.run, self.kind(each)) for each in numbers])
