"""The exchanges, queues and bindings of a namespace: planned purely, declared idempotently, never deleted.

A plan follows from the namespace, its partitions and the catalog alone. Where `NS.in` leads is a thing of its own, see
bus.shell.entry. What is an argument of a queue and
what is a policy is told in bus.shell.policies. No queue that the bus makes is ever deleted by it: a queue of an agent
that is no longer declared may hold messages, and only an operator can know.

Inboxes are bound only to where the bus publishes events: an inbox bound to an exchange that agents may write could be
reached past contracts, routes and the log.

An agent that no longer subscribes must get nothing more, but AMQP can't list bindings, so nobody knows which to remove.
So they are not removed: events are published to an exchange that is named by the set of all subscriptions and bound
for just these. Other subscriptions are another exchange, complete before anything is published to it, and the one
before has no publisher left. Two buses with different configurations each deliver by their own. Whoever watches all
events binds a queue to `NS.events`, which gets them from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pika.exceptions import ChannelClosedByBroker

from bus.core import naming
from bus.core.errors import BusError
from bus.core.ingress import MOST, Ingress
from bus.core.message import Json
from bus.core.route import Agent, Catalog
from bus.ports import Way
from bus.shell.entry import way_of
from bus.shell.policies import policies

Argument: TypeAlias = "str | int | bool"

ANY = ""
"""A hash exchange does not look at the key of a binding."""

_HASH = "x-modulus-hash"
"""Picks by hash of the routing key and number of bindings alone, in the order of their names. An `x-consistent-hash`
exchange won't do: a broker makes its ring anew when it starts, in no certain order, and conversations come to other
partitions (measured on 3.10.8: up to 200 of 200 routing keys after a restart, none with this type)."""
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange; `kind` is an AMQP exchange type."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue; `arguments` are its identity: changing one needs a new queue."""

    name: str
    arguments: Mapping[str, Argument]


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of `exchange` that match `routing_key` go to `queue`, which is an exchange if `to_exchange` says so."""

    exchange: str
    queue: str
    routing_key: str
    to_exchange: bool = False


@dataclass(frozen=True, slots=True)
class Topology:
    """All that a namespace needs, in an order in which it can be declared; `way` is where its ingress leads."""

    namespace: str
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    way: Way
    agents: tuple[Agent, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """What the broker has of a topology, by name.

    Args:
        missing: not there yet; `apply` makes it.
        present: there. Bindings cannot be asked for over AMQP; declaring them again changes nothing.
    """

    missing: tuple[str, ...]
    present: tuple[str, ...]


def plan(namespace: str, ingress: Ingress, catalog: Catalog) -> Topology:
    """Return the topology of a namespace.

    Args:
        namespace: prefix of all names: letters, digits, `_`, `-`.
        ingress: its partitions, 1 to 100 a generation.
        catalog: its agents and capabilities get inboxes, its subscriptions bindings.

    Raises:
        BusError: the namespace or the number of partitions cannot be used.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise BusError(f"namespace `{namespace}` cannot be used; write letters, digits, `_` and `-`, at most 64")
    for size in ingress.sizes or (0,):
        if not 1 <= size <= MOST:
            raise BusError(f"{size} partitions cannot be made; write a number from 1 to {MOST}")
    steps = range(1, len(naming.WAKE_STEPS_S) + 1)
    return Topology(
        namespace=namespace,
        exchanges=(
            Exchange(naming.ingress_exchange(namespace), _HASH),
            *(Exchange(naming.generation_exchange(namespace, each.number), _HASH) for each in ingress.generations),
            Exchange(naming.events_exchange(namespace), "topic"),
            Exchange(naming.subscriptions_exchange(namespace, catalog.subscriptions), "topic"),
            Exchange(naming.bounced(namespace), "fanout"),
            *(Exchange(naming.retry_queue(namespace, step), "fanout") for step in steps),
        ),
        queues=tuple(_queues(namespace, ingress, catalog)),
        bindings=tuple(_bindings(namespace, ingress, catalog)),
        way=way_of(namespace, ingress),
        agents=tuple(catalog.agents[name] for name in sorted(catalog.agents)),
    )


def _queues(ns: str, ingress: Ingress, catalog: Catalog) -> Iterator[Queue]:
    bounced = naming.bounced(ns)
    yield _quorum(bounced)  # first: what the others lead to
    yield _quorum(naming.dead_queue(ns))
    yield _quorum(naming.invalid_queue(ns))
    for number in range(sum(ingress.sizes)):
        arguments: dict[str, Argument] = {"x-dead-letter-exchange": bounced, "x-single-active-consumer": True}
        yield _quorum(naming.ingress_queue(ns, number), arguments)
    for step in range(1, len(naming.WAKE_STEPS_S) + 1):
        # The default exchange, and no routing key: a token comes back to the queue that its own routing key names.
        yield _quorum(naming.retry_queue(ns, step), {"x-dead-letter-exchange": ""})
    for agent in sorted(catalog.agents):
        yield _quorum(naming.agent_queue(ns, agent), {"x-dead-letter-exchange": bounced})
    for capability in sorted(catalog.capabilities):
        yield _quorum(naming.capability_queue(ns, capability), {"x-dead-letter-exchange": bounced})


def _quorum(name: str, arguments: Mapping[str, Argument] | None = None) -> Queue:
    return Queue(name, {"x-queue-type": "quorum", **(arguments or {})})


def _bindings(ns: str, ingress: Ingress, catalog: Catalog) -> Iterator[Binding]:
    yield Binding(naming.bounced(ns), naming.bounced(ns), "")
    for generation in ingress.generations:
        exchange = naming.generation_exchange(ns, generation.number)
        for number in generation.partitions:
            yield Binding(exchange, naming.ingress_queue(ns, number), ANY)
    for step in range(1, len(naming.WAKE_STEPS_S) + 1):
        yield Binding(naming.retry_queue(ns, step), naming.retry_queue(ns, step), "")
    events = naming.subscriptions_exchange(ns, catalog.subscriptions)
    yield Binding(events, naming.events_exchange(ns), "#", to_exchange=True)
    for name in sorted(catalog.agents):
        for pattern in dict.fromkeys(catalog.agents[name].subscribes):
            yield Binding(events, naming.agent_queue(ns, name), routing_pattern(pattern))


def routing_pattern(pattern: str) -> str:
    """Translate a type pattern into a topic binding key: `*` is the same, `**` is one word or more: `*.#`."""
    head, dot, last = pattern.rpartition(".")
    return f"{head}{dot}*.#" if last == "**" else pattern


def apply(channel: Any, topology: Topology) -> None:
    """Declare everything, and lead the ingress where it has to lead; see `declare`."""
    declare(channel, topology)
    lead(channel, topology.way)


def lead(channel: Any, way: Way) -> None:
    """Lead the ingress to its newest generation, on either kind of channel; the order matters."""
    channel.exchange_bind(destination=way.to, source=way.source, routing_key=ANY)
    for exchange in way.no_exchanges:
        channel.exchange_unbind(destination=exchange, source=way.source, routing_key=ANY)


def declare(channel: Any, topology: Topology) -> None:
    """Declare all exchanges and queues, and what is behind each generation; what is already there stays as it is.

    Works on a blocking pika channel, where it returns when all is declared, and on an asynchronous one, where it
    sends everything without waiting: the caller then waits for the answer to any later call on that channel.

    Raises:
        pika.exceptions.ChannelClosedByBroker: something of that name exists and differs (blocking channel only).
    """
    for exchange in topology.exchanges:
        channel.exchange_declare(exchange=exchange.name, exchange_type=exchange.kind, durable=True)
    for queue in topology.queues:
        channel.queue_declare(queue=queue.name, durable=True, arguments=dict(queue.arguments))
    for each in topology.bindings:
        if each.to_exchange:
            channel.exchange_bind(destination=each.queue, source=each.exchange, routing_key=each.routing_key)
        else:
            channel.queue_bind(queue=each.queue, exchange=each.exchange, routing_key=each.routing_key)


def difference(connection: Any, topology: Topology) -> Difference:
    """Ask which exchanges and queues exist, changing nothing.

    Args:
        connection: a blocking pika connection. Asking for what is absent closes a channel; each such one is replaced.
    """
    asked: list[tuple[str, Callable[[Any], object]]] = [
        *((f"exchange {each.name}", _passive_exchange(each.name)) for each in topology.exchanges),
        *((f"queue {each.name}", _passive_queue(each.name)) for each in topology.queues),
    ]
    missing: list[str] = []
    present: list[str] = []
    channel = connection.channel()
    for name, ask in asked:
        try:
            ask(channel)
        except ChannelClosedByBroker as error:
            if error.reply_code != 404:
                raise
            missing.append(name)
            channel = connection.channel()
        else:
            present.append(name)
    channel.close()
    return Difference(tuple(missing), tuple(present))


def _passive_exchange(name: str) -> Callable[[Any], object]:
    return lambda channel: channel.exchange_declare(exchange=name, passive=True)


def _passive_queue(name: str) -> Callable[[Any], object]:
    return lambda channel: channel.queue_declare(queue=name, passive=True)


def export(topology: Topology, vhost: str = "/") -> dict[str, Json]:
    """Return RabbitMQ definitions to import into a broker, with policies and advice on permissions.

    Users are not part of it, for their passwords are the operator's; `permissions_advice` is left alone by an import
    and says what each agent's own user needs and no more.
    """
    ns = topology.namespace
    exchanges: list[Json] = [
        {"name": e.name, "vhost": vhost, "type": e.kind, "durable": True, "auto_delete": False, "arguments": {}}
        for e in topology.exchanges
    ]
    queues: list[Json] = [
        {"name": q.name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": dict(q.arguments)}
        for q in topology.queues
    ]
    bindings: list[Json] = [
        {
            "source": b.exchange,
            "vhost": vhost,
            "destination": b.queue,
            "destination_type": "exchange" if b.to_exchange else "queue",
            "routing_key": b.routing_key,
            "arguments": {},
        }
        for b in topology.bindings
    ]
    bindings.append(
        {
            "source": topology.way.source,
            "vhost": vhost,
            "destination": topology.way.to,
            "destination_type": "exchange",
            "routing_key": ANY,
            "arguments": {},
        }
    )
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": exchanges,
        "queues": queues,
        "bindings": bindings,
        "policies": [*policies(re.escape(ns), vhost)],
        "permissions_advice": [_advice(ns, agent, vhost) for agent in topology.agents],
    }


def _advice(ns: str, agent: Agent, vhost: str) -> dict[str, Json]:
    prefix = re.escape(ns)
    own = [rf"agent\.{re.escape(agent.name)}", *(rf"capability\.{re.escape(name)}" for name in agent.capabilities)]
    return {
        "user": agent.name,
        "vhost": vhost,
        "configure": rf"^{prefix}\.client\..*",
        "write": rf"^{prefix}\.in$",
        "read": rf"^{prefix}\.({'|'.join(own)}|client\..*)$",
    }
