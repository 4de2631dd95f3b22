"""The express lane, where its engine is installed: usual messages of a batch decided without the interpreter's lock.

The engine is optional (`bus/express`); without it everything is decided by `bus.core.pipeline`, to the same bytes.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import orjson

from bus.audit.record import FORMAT
from bus.core.actions import Decision, Output
from bus.core.express import plan_of
from bus.core.facts import Facts
from bus.core.message import Message
from bus.core.outputs import NO_HEADERS
from bus.core.table import RouteTable
from bus.ports import InboxKey, Received

_log = logging.getLogger(__name__)

_MOST_PLANS = 4096


class Quick(NamedTuple):
    """One usual message, decided. `record` is its audit record but for place and times."""

    decision: Decision
    key: InboxKey
    record: bytes


class Express:
    """Args:
    table: the compiled configuration.
    facts: seal, identity and limits.
    """

    def __init__(self, table: RouteTable, facts: Facts, module: Any) -> None:
        limits = facts.limits
        self._table = table
        self._known: set[tuple[str, str]] = set()
        self._lane = module.Lane(
            (Output, Decision, Message, InboxKey, Quick), NO_HEADERS, facts.seal, table.catalog.version,
            facts.identity == "shared", limits.body_bytes, limits.depth, limits.hops,
        )  # fmt: skip

    def learn(self, message: Message) -> None:
        """A message came that was not decided here: from now on others like it may be."""
        pair = message.type, message.source
        if pair in self._known or len(self._known) >= _MOST_PLANS or not self._table.find(*pair).declared:
            return
        self._known.add(pair)
        plan = plan_of(self._table, *pair)
        if plan is None:
            return
        try:
            self._lane.learn(*pair, orjson.dumps(plan))
        except (ValueError, TypeError) as error:  # a contract, or a literal, that only Python can read
            _log.warning("`%s` from `%s` is left to Python: %s", *pair, error)

    def judge(self, batch: Sequence[Received], queues: Collection[str], now: str) -> list[Quick | None]:
        """Decide what is usual and came for the first time, from one of these queues; None for all else."""
        made = self._lane.judge([each.delivery for each in batch], now)
        return [
            each if delivery.queue in queues and delivery.redelivered == 0 else None
            for each, (_, delivery, _) in zip(made, batch, strict=True)
        ]


def express_lane(table: RouteTable, facts: Facts) -> Express | None:
    """The lane, or None where its engine is not installed."""
    try:
        module = importlib.import_module("agentbus_express")
    except ImportError:
        return None
    return Express(table, facts, module)


def recorded(made: Quick, queue: str, partition: int, seq: int, received_s: float, decided_s: float) -> bytes:
    """The whole audit record, as `bus.audit.record.encode` writes it but for the order of its fields."""
    head = (
        f'{{"v":{FORMAT},"partition":{partition},"seq":{seq},"received_s":{received_s!r},"decided_s":{decided_s!r},'
        f'"queue":"{queue}"'
    )
    return head.encode() + made.record
