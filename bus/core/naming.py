"""Names of the exchanges and queues of a namespace: the one place that spells them.

`NS.in` is the only exchange that agents may write. `NS.events`, `NS.events.*` and every inbox are written by the bus
alone.
"""

from __future__ import annotations

from bus.core.errors import BusError

WAKE_STEPS_S: tuple[int, ...] = (1, 5, 30, 300)
"""Fixed times to live of the retry queues, seconds. A longer wait passes through the longest several times."""


def ingress_exchange(ns: str) -> str:
    """Exchange that agents write, and the way to the newest generation's; the routing key is the conversation."""
    return f"{ns}.in"


def generation_exchange(ns: str, generation: int) -> str:
    """Hash exchange of one generation of partitions, behind `NS.in`; nobody publishes to it directly."""
    return f"{ns}.in.{generation}"


def ingress_queue(ns: str, partition: int) -> str:
    return f"{ns}.ingress.{partition:02d}"


def events_exchange(ns: str) -> str:
    """Topic exchange that gets every event, for whoever watches; the routing key is the event type."""
    return f"{ns}.events"


def subscriptions_exchange(ns: str, subscriptions: str) -> str:
    """Where the bus publishes events: bound to the inboxes for just these subscriptions, and to `NS.events`."""
    return f"{events_exchange(ns)}.{subscriptions}"


def agent_queue(ns: str, agent: str) -> str:
    return f"{ns}.agent.{agent}"


def capability_queue(ns: str, capability: str) -> str:
    return f"{ns}.capability.{capability}"


def client_queue(ns: str, client: str) -> str:
    """Private, exclusive inbox of a command or gateway instance."""
    return f"{ns}.client.{client}"


def retry_queue(ns: str, step: int) -> str:
    """Delay queue for wake-up tokens; `step` is an index into WAKE_STEPS_S, counted from 1."""
    return f"{ns}.retry.{step}"


def bounced(ns: str) -> str:
    """Exchange and queue, of the same name, to which every dead-letter exchange setting leads."""
    return f"{ns}.bounced"


def dead_queue(ns: str) -> str:
    """Dead Letter Channel: understood, cannot be delivered."""
    return f"{ns}.dead"


def invalid_queue(ns: str) -> str:
    """Invalid Message Channel: cannot be understood."""
    return f"{ns}.invalid"


def store_exchange(ns: str) -> str:
    """Holds in an argument the id of the store that this namespace is bound to; nothing is published to it."""
    return f"{ns}.store"


def address_queue(ns: str, address: str) -> str:
    """Queue behind a return address: `agent:NAME` or `client:ID`.

    Raises:
        BusError: not an address.
    """
    kind, _, name = address.partition(":")
    if kind == "agent" and name:
        return agent_queue(ns, name)
    if kind == "client" and name:
        return client_queue(ns, name)
    raise BusError(f"`{address}` is no address; write `agent:NAME` or `client:ID`")
