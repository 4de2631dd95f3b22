"""The express lane, where its engine is installed: usual messages of a batch decided without the interpreter's lock.

The engine is optional (`bus/express`); without it everything is decided by `bus.core.pipeline`, to the same bytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from bus.core.actions import Decision, Delivery, Output
from bus.core.express import plan_of
from bus.core.facts import Facts
from bus.core.message import Message
from bus.core.outputs import _NO_HEADERS
from bus.core.table import RouteTable
from bus.ports import InboxKey

_MOST_PLANS = 4096


class Quick(NamedTuple):
    """One usual message, decided. `record` is its audit record but for place and times."""

    decision: Decision
    key: InboxKey
    record: bytes


def engine() -> Any:
    """The engine's module, or None."""
    try:
        return importlib.import_module("agentbus_express")
    except ImportError:
        return None


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
            (Output, Decision, Message, InboxKey), _NO_HEADERS, facts.seal, table.catalog.version,
            facts.identity == "shared", limits.body_bytes, limits.depth, limits.hops,
        )  # fmt: skip

    def learn(self, message: Message) -> None:
        """A message came that was not decided here: from now on others like it may be."""
        pair = message.type, message.source
        if pair in self._known or len(self._known) >= _MOST_PLANS or not self._table.find(*pair).declared:
            return
        self._known.add(pair)
        plan = plan_of(self._table, *pair)
        if plan is not None:
            self._lane.learn(*pair, orjson.dumps(plan))

    def judge(self, deliveries: Sequence[Delivery], now: str) -> list[Any]:
        """Per delivery a `Quick`, or None."""
        return self._lane.judge(list(deliveries), now)
