"""A namespace is bound to one store: another store would take up its queues without knowing what is pending.

The id of the store lies as the one message in `NS.store`. It is read by getting it and putting it back anew, because
giving it back would count towards the delivery limit that newer brokers set by default. Two buses that start at once
cannot both find the queue empty: who publishes second finds the first one's id when it looks again.
"""

from __future__ import annotations

from typing import Any

import pika
from pika.exceptions import AMQPError

from bus.core import naming
from bus.core.errors import StoreFailed, Unreachable


def bind_store(url: str, namespace: str, store_id: str) -> None:
    """Bind the namespace to this store, or check that it is.

    Args:
        url: broker, as the bus's own user.
        store_id: `Store.store_id`.

    Raises:
        StoreFailed: the namespace belongs to another store.
        Unreachable: the broker cannot be reached.
    """
    try:
        connection = pika.BlockingConnection(pika.URLParameters(url))
    except (AMQPError, OSError) as error:
        raise Unreachable(
            f"the broker cannot be reached to bind the store: {str(error) or type(error).__name__}"
        ) from error
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = naming.store_queue(namespace)
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        owner = _owner(channel, queue)
        if owner is None:
            _claim(channel, queue, store_id)
            owner = _owner(channel, queue)
    finally:
        connection.close()
    if owner != store_id:
        raise StoreFailed(
            f"namespace `{namespace}` belongs to store {owner}, and this one is {store_id}; "
            "give the bus that store, or another --namespace"
        )


def _owner(channel: Any, queue: str) -> str | None:
    """The oldest id in the queue; it is put back before it is taken away."""
    method, _, body = channel.basic_get(queue)
    if method is None:
        return None
    owner = str(bytes(body).decode("ascii", "replace"))
    _claim(channel, queue, owner)
    channel.basic_ack(method.delivery_tag)
    return owner


def _claim(channel: Any, queue: str, store_id: str) -> None:
    properties = pika.BasicProperties(delivery_mode=2)
    channel.basic_publish("", queue, store_id.encode(), properties, mandatory=True)
