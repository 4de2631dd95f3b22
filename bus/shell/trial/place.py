"""Where a delivery is decided: here, or apart. Both do the same, and only the second survives everything."""

from __future__ import annotations

import logging
from typing import Protocol

from bus.core.actions import Decision, Delivery
from bus.core.facts import Facts
from bus.core.faults import faulted, faulted_run
from bus.core.message import Message
from bus.core.pipeline import decide, understand
from bus.core.redelivery import bounced
from bus.core.running import due
from bus.core.table import RouteTable

_log = logging.getLogger(__name__)

SUSPECT = 2
"""Deliveries before this one from which on it is decided apart: a restart or a handover alone makes no suspect."""


class Place(Protocol):
    """Does what the core can do to a delivery; an exception means that the worker must end."""

    def understand(self, delivery: Delivery, facts: Facts) -> Message | Decision:
        """Decode it; see `bus.core.pipeline.understand`."""

    def decide(self, delivery: Delivery, message: Message, facts: Facts) -> Decision:
        """Decide what was understood; a fault of the bus is a decision, too."""

    def bounced(self, delivery: Delivery, facts: Facts) -> Decision:
        """Decide what the broker gave up on."""

    def due(self, key: str, facts: Facts) -> tuple[Delivery, Decision] | None:
        """Decide what follows when the time of a run has come; see `bus.core.running.due`."""

    def reconfigure(self, table: RouteTable) -> None:
        """Decide by another configuration from now on."""


class Here:
    """In this thread.

    Args:
        table: the compiled configuration.
    """

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def understand(self, delivery: Delivery, facts: Facts) -> Message | Decision:
        """See `Place.understand`."""
        return understand(delivery, self._table, facts)

    def decide(self, delivery: Delivery, message: Message, facts: Facts) -> Decision:
        """See `Place.decide`."""
        try:
            return decide(delivery, self._table, facts, message)
        except Exception as error:  # noqa: BLE001 - a fault of the bus itself must not stop the partition behind this message
            return fault(delivery, message, self._table, facts, error)

    def bounced(self, delivery: Delivery, facts: Facts) -> Decision:
        """See `Place.bounced`."""
        return bounced(delivery, facts)

    def due(self, key: str, facts: Facts) -> tuple[Delivery, Decision] | None:
        """See `Place.due`."""
        try:
            return due(key, facts, self._table)
        except Exception as error:  # noqa: BLE001 - as above: nor may it stop all other runs
            return fault_of_run(key, self._table, facts, error)

    def reconfigure(self, table: RouteTable) -> None:
        """See `Place.reconfigure`."""
        self._table = table


def fault(delivery: Delivery, message: Message, table: RouteTable, facts: Facts, error: Exception) -> Decision:
    """Tell the log of an exception out of `decide`, in whichever process, and make a decision of it."""
    extra = {"message_id": message.id, "conversation_id": message.conversation}
    _log.error("deciding failed", exc_info=error, extra=extra)
    return faulted(delivery, message, table, facts, error)


def fault_of_run(key: str, table: RouteTable, facts: Facts, error: Exception) -> tuple[Delivery, Decision] | None:
    """The same for an exception out of `due`."""
    _log.error("deciding failed when the time of %s had come", key, exc_info=error)
    return faulted_run(key, table, facts, error)
