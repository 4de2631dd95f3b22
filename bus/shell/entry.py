"""Where `NS.in` leads: to the exchange of the newest generation, and how it is led to the next one.

`NS.in` is a hash exchange with other exchanges behind it. That makes a change safe which AMQP cannot make
at once: first the new generation's exchange is bound, then the old one unbound. In between both are bound, and a hash
exchange gives each message to just one of them, so nothing is doubled; something is bound at every moment, so nothing
is returned or lost; and a conversation either stays where it was or goes to the place that it will have from then on,
because what is behind each of the two does not change meanwhile. So it moves once, from its old partition to its new
one, and it is enough that the new one is not consumed before the old ones are empty. A crash in between costs nothing:
the next owner does both again. (Binding and unbinding the queues themselves on `NS.in` would move conversations to and
fro at every step; two bindings of a direct or fanout exchange would double messages, which inboxes of two partitions
do not notice; unbinding first would return messages to those who publish mandatory, and lose those of others.)

Who leads `NS.in` must not act on old news, or it would go back to a retired generation. So this is no part of what is
declared when a worker connects: a worker does it after it has leased a slot and read the store, while the lease is
good. Before a generation is served, every partition of the one before has to be declared drained by its owner, who has
led `NS.in` to the new one after it got the lease; whoever acted on older news had that lease before.
"""

from __future__ import annotations

from bus.core import naming
from bus.core.ingress import Ingress
from bus.ports import Way


def way_of(namespace: str, ingress: Ingress) -> Way:
    """Where `NS.in` has to lead."""
    return Way(
        naming.ingress_exchange(namespace),
        naming.generation_exchange(namespace, ingress.last.number),
        tuple(naming.generation_exchange(namespace, each.number) for each in ingress.generations[:-1]),
    )
