"""The worlds of the transport contract: a link that records what it is told, in memory and on RabbitMQ."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pika import URLParameters

from bus.core import naming
from bus.core.actions import Output
from bus.core.ingress import Ingress
from bus.core.message import Attribute
from bus.core.route import Agent, Catalog
from bus.ports import Outcome, Outgoing, Received, Tag, Transport
from bus.shell.amqp.transport import PikaTransport
from bus.shell.memory_broker import MemoryBroker
from bus.shell.memory_transport import MemoryTransport
from bus.shell.topology import Queue, Topology, apply, plan
from tests.proxy import Proxy

PATIENCE_S = 30.0  # for a loaded machine; nothing here waits that long when it works
LIMIT = 3  # messages that the queue `full` takes

T = TypeVar("T")


class Recorder:
    """Transport events, kept in order and awaitable. `on_each` is called on the loop thread for each batch."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.connected = 0
        self.lost: list[str] = []
        self.received: list[Received] = []
        self.outcomes: list[Outcome] = []
        self.blocked: list[tuple[bool, str]] = []
        self.on_each: Callable[[Sequence[Received]], None] = lambda _batch: None

    def on_connected(self) -> None:
        with self.changed:
            self.connected += 1
            self.changed.notify_all()

    def on_batch(self, batch: Sequence[Received]) -> None:
        assert batch, "a batch is never empty"
        with self.changed:
            self.received += batch
            self.changed.notify_all()
        self.on_each(batch)

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        with self.changed:
            self.outcomes += outcomes
            self.changed.notify_all()

    def on_lost(self, reason: str) -> None:
        with self.changed:
            self.lost.append(reason)
            self.changed.notify_all()

    def on_blocked(self, blocked: bool, reason: str) -> None:
        with self.changed:
            self.blocked.append((blocked, reason))
            self.changed.notify_all()

    def wait(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE_S), (
                self.connected,
                self.lost,
                len(self.received),
                self.outcomes,
            )


class Link:
    """A running transport, driven from the test's thread."""

    def __init__(
        self,
        ns: str,
        transport: Transport,
        cut: Callable[[], None],
        advance: Callable[[float], None],
        inject: Callable[[bytes], None] = lambda _data: None,
    ) -> None:
        self.ns = ns
        self.inject = inject
        self.transport = transport
        self.cut = cut
        self.advance = advance
        self.events = Recorder()
        self.failure: BaseException | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.transport.run(self.events)
        except BaseException as error:  # noqa: BLE001 # the test looks at it
            self.failure = error
        self.ended.set()

    def start(self) -> None:
        self._thread.start()
        self.events.wait(lambda: self.events.connected > 0)

    def stop(self) -> None:
        self.transport.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the loop thread and return what it returned."""
        done = threading.Event()
        results: list[T] = []

        def run() -> None:
            results.append(function())
            done.set()

        self.transport.call_threadsafe(run)
        assert done.wait(PATIENCE_S)
        return results[0]

    def inbox(self, name: str = "a") -> str:
        return naming.agent_queue(self.ns, name)

    def consume(self, *queues: str, prefetch: int = 1000) -> None:
        self.call(lambda: self.transport.consume(queues, prefetch))

    def publish(self, batch: Sequence[Outgoing]) -> None:
        self.call(lambda: self.transport.publish(batch))

    def ack(self, tag: Tag) -> None:
        self.call(lambda: self.transport.ack(tag))

    def receive(self, count: int) -> list[Received]:
        self.events.wait(lambda: len(self.events.received) >= count)
        return self.events.received

    def settle(self, count: int) -> dict[int, Outcome]:
        self.events.wait(lambda: len(self.events.outcomes) >= count)
        outcomes = {each.handle: each for each in self.events.outcomes}
        assert len(outcomes) == len(self.events.outcomes), "a handle had two outcomes"
        return outcomes


def message(
    body: bytes = b"{}",
    identity: str = "id",
    headers: Mapping[str, Attribute] | None = None,
    expires_ms: int | None = None,
) -> Output:
    return Output(
        "agent", "a", identity, "order.placed", "c1", body, "application/cloudevents+json", headers or {}, expires_ms
    )


def outgoing(queue: str, handles: range, exchange: str = "") -> list[Outgoing]:
    return [Outgoing(n, exchange, queue, message(b"%d" % n, f"id-{n}")) for n in handles]


AGENTS = {"a": Agent("a", "external"), "b": Agent("b", "external", subscribes=("order.**",))}
CATALOG = Catalog("test", AGENTS, {}, {}, ())


def make_topology(ns: str) -> Topology:
    # The second generation is there and not led to.
    made = replace(plan(ns, Ingress((2, 3)), CATALOG), way=plan(ns, Ingress((2,)), CATALOG).way)
    limits: dict[str, str | int | bool] = {
        "x-queue-type": "quorum",
        "x-max-length": LIMIT,
        "x-overflow": "reject-publish",
    }
    return replace(made, queues=(*made.queues, Queue(f"{ns}.full", limits)))


@contextmanager
def memory_link(ns: str) -> Iterator[Link]:
    broker = MemoryBroker(make_topology(ns), limits={f"{ns}.full": LIMIT})
    transport = MemoryTransport(broker)
    yield Link(ns, transport, lambda: transport.lose("cut"), broker.advance)


@contextmanager
def pika_link(ns: str, url: str) -> Iterator[Link]:
    parameters = URLParameters(url)
    with Proxy(parameters.host, parameters.port) as proxy:
        near = url.replace(f":{parameters.port}/", f":{proxy.port}/")
        transport = PikaTransport(
            near,
            partial(apply, topology=make_topology(ns)),
            connect_timeout_s=PATIENCE_S,
            logger=logging.getLogger(__name__),
        )
        yield Link(ns, transport, proxy.cut, lambda _seconds: None, proxy.inject)
