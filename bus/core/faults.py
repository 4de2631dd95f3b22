"""What the bus itself failed on, as ordinary decisions: a fault while deciding, and poison.

Poison is a message whose deciding ends the process that does it, or never ends. It has been tried in a process of its
own, so all that is known of it here is what that process said before, and how it ended. Nothing in this module looks
into the message's body. A run of a route with memory may be poison, too, when its time comes: then the run ends.
"""

from __future__ import annotations

from hashlib import blake2b

from bus.core.actions import Decision, Delivery, Failure
from bus.core.address import ReturnAddress
from bus.core.errors import Refused
from bus.core.facts import Facts
from bus.core.identity import check_sender
from bus.core.instance import memory_key
from bus.core.message import FLOW_TOLD, REPLYTO, Message
from bus.core.outputs import BUS, set_aside
from bus.core.pipeline import rejected, who_waits
from bus.core.running import given_up, occasion
from bus.core.table import RouteTable
from bus.core.telling import tell_about_bytes
from bus.core.undecodable import vouched_address

POISON = "poison"


def faulted(delivery: Delivery, message: Message, table: RouteTable, facts: Facts, error: Exception) -> Decision:
    """Decide a message on which `decide` raised: a dead letter, and whoever waits is told."""
    try:
        return _set_aside(delivery, message, table, facts, _bus_fault(error))
    except Exception:  # noqa: BLE001 - whatever it was that raised, may raise again here
        return rejected(delivery, message, facts, table, "dead_letter", _bus_fault(error), None)


def faulted_run(key: str, table: RouteTable, facts: Facts, error: Exception) -> tuple[Delivery, Decision] | None:
    """Decide a run on which deciding raised when its time had come: it ends as a dead letter, and its asker is told.

    Args:
        key: under which it is remembered.

    Returns:
        As `bus.core.running.due`.
    """
    return _run_over(key, table, facts, _bus_fault(error))


def poisoned_run(key: str, table: RouteTable, facts: Facts, how: str) -> tuple[Delivery, Decision] | None:
    """The same for a run on which a process of its own has ended; see `poisoned`."""
    reason = f"it ends the bus: its time came, and the process that tried what follows {how}"
    return _run_over(key, table, facts, Failure("internal", POISON, reason))


def poisoned(delivery: Delivery, message: Message | None, table: RouteTable, facts: Facts, how: str) -> Decision:
    """Decide a message on which a process of its own has ended: a dead letter, and whoever waits is told.

    Args:
        message: what was understood of it, or None when that already was too much.
        how: what became of that process, e.g. `was killed by SIGABRT`.

    Returns:
        A dead letter with the code `poison`; a refusal, as `decide` gives it, when the sender may not send this at all.
    """
    reason = f"it ends the bus: it was delivered {delivery.redelivered + 1} times, and the process that tried it {how}"
    failure = Failure("internal", POISON, reason)
    if message is None:
        return _unread(delivery, table, facts, failure)
    return _set_aside(delivery, message, table, facts, failure)


def _bus_fault(error: Exception) -> Failure:
    return Failure("internal", "bus-fault", f"the bus itself failed on it: {type(error).__name__}: {error}")


def _run_over(key: str, table: RouteTable, facts: Facts, failure: Failure) -> tuple[Delivery, Decision] | None:
    decision = given_up(key, failure, facts, table)
    if decision is None or decision.message is None:
        return None
    return occasion(decision.message, facts), decision


def _set_aside(delivery: Delivery, message: Message, table: RouteTable, facts: Facts, failure: Failure) -> Decision:
    """A dead letter. A run that waits for an answer is told that none will come; if it cannot take that, it is over."""
    try:
        back = _asker(delivery, message, table, facts)
    except Refused as refused:
        failure = Failure("contract", refused.code, refused.reason, agent=message.source, findings=refused.findings)
        return rejected(delivery, message, facts, table, "invalid", failure, None)
    if message.type == FLOW_TOLD and isinstance(message.data, dict):
        over = given_up(memory_key(str(message.data["flow"])), failure, facts, table, message)
        if over is not None:
            return over
    return rejected(delivery, message, facts, table, "dead_letter", failure, back)


def _asker(delivery: Delivery, message: Message, table: RouteTable, facts: Facts) -> ReturnAddress | None:
    """Who waits for it, by the rules of `decide`, which come before anything that a message could break."""
    found = table.find(message.type, message.source)
    check_sender(message, delivery, table, facts, found)
    answers = None if message.source == BUS else found.answers
    if not answers and REPLYTO not in message.attributes:
        return None
    return who_waits(message, delivery, answers, table, facts)


def _unread(delivery: Delivery, table: RouteTable, facts: Facts, failure: Failure) -> Decision:
    cause = delivery.message_id or blake2b(delivery.body, digest_size=16).hexdigest()
    aside = set_aside(delivery, None, facts, "dead_letter", failure, "")
    address = vouched_address(delivery, table, facts)
    told = () if address is None else (tell_about_bytes(facts, failure, cause, address, delivery.type or ""),)
    return Decision("dead_letter", None, None, None, POISON, failure.reason, failure, (), (aside, *told))
