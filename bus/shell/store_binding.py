"""A namespace is bound to one store: another store would take up its queues without knowing what is pending.

The id of the store is the `alternate-exchange` argument of the exchange `NS.store`, to which nothing is published.
The broker compares that argument whenever the exchange is declared, so the first declaration binds, every later one is
the check, two at once cannot both win, and nothing has to be published: a bus can start while the broker blocks
publishers. A message in a queue cannot do that: looking at it means taking it out for a while.
"""

from __future__ import annotations

import re

from pika.exceptions import ChannelClosedByBroker

from bus.core import naming
from bus.core.errors import StoreFailed
from bus.shell import probe

_PRECONDITION_FAILED = 406


def bind_store(url: str, namespace: str, store_id: str) -> None:
    """Bind the namespace to this store, or check that it is.

    Args:
        url: broker, as the bus's own user.
        store_id: `Store.store_id`.

    Raises:
        StoreFailed: the namespace belongs to another store.
        Unreachable: the broker cannot be reached.
    """
    name = naming.store_exchange(namespace)
    with probe.connection(url) as connection:
        channel = connection.channel()
        try:
            channel.exchange_declare(name, "fanout", durable=True, arguments={"alternate-exchange": store_id})
        except ChannelClosedByBroker as error:
            if error.reply_code != _PRECONDITION_FAILED:
                raise
            current = re.search(r"current is '([^']*)'", error.reply_text)
            raise StoreFailed(
                f"namespace `{namespace}` belongs to store {current.group(1) if current else 'of another id'}, and "
                f"this one is {store_id}; give the bus that store, or another --namespace, or delete the exchange "
                f"`{name}` if that store is lost for good"
            ) from error
