"""Taking in what another partition has kept that is retired, on its word: leases, and what is remembered."""

from __future__ import annotations

from typing import Any, cast

from bus.core.actions import Change, Decision
from bus.core.leases import at_home, lease_of
from bus.core.memory import CELL
from bus.core.message import Message
from bus.core.moving import arrived
from bus.ports import Store
from bus.shell.inbox import Inbox, answer_key
from bus.shell.leases import Leases
from bus.shell.remembered import Remembered
from bus.shell.versions import Versions


def take_lease(leases: Leases, inbox: Inbox, store: Store, word: Message, decision: Decision) -> Decision:
    """Take over a lease from the partition that had it; nothing, if its task is answered."""
    data = cast("dict[str, Any]", word.data)
    try:
        output = store.entry(data["partition"], data["seq"]).outputs[data["index"]]
        lease = lease_of(output)
    except (KeyError, IndexError, TypeError):  # nothing that comes in may end the worker, over and over again
        return decision._replace(reason="it names no lease")
    if inbox.earlier(answer_key(lease.task, lease.fence)) is not None:
        return decision
    leases.arrive(inbox.partition, lease, data["due_s"], data["attempts"], data["reason"])
    return decision._replace(end="routed", reason="its lease is kept here from now on", outputs=(at_home(output),))


def take_state(
    remembered: Remembered, versions: Versions, store: Store, word: Message, decision: Decision, partition: int
) -> Decision:
    """Remember here from now on what the partition remembered that its key had before."""
    data = cast("dict[str, Any]", word.data)
    try:
        state = arrived(store.entry(data["partition"], data["seq"]).input)
    except (KeyError, IndexError, TypeError, ValueError):
        return decision._replace(reason="it tells of no state")
    if state.key.startswith(CELL) and remembered.recall(partition, state.key) is not None:
        return decision._replace(reason="there is such a cell here already")
    versions.learn(state.version)
    reason = "what it tells of is remembered here from now on"
    return decision._replace(end="waiting", reason=reason, changes=(Change(*state),))
