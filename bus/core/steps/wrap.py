"""Envelope Wrapper: put the payload into an envelope, for a system that reads nothing but payloads."""

from __future__ import annotations

from typing import Any

from bus.core.message import (
    ATTEMPT,
    BUDGET_COST,
    BUDGET_TOKENS,
    FENCE,
    HOPS,
    LEASE,
    REDRIVE,
    REPLYTO,
)
from bus.core.spec import Record, Spec
from bus.core.work import Ended, Step, Work

_OF_THE_BUS = frozenset((REPLYTO, HOPS, ATTEMPT, FENCE, LEASE, REDRIVE, BUDGET_TOKENS, BUDGET_COST))
"""What the bus steers by; it means nothing outside, and a return address is nobody else's."""


def build(parsed: dict[str, Any]) -> Step:
    def step(work: Work) -> Ended | None:
        msg = work.names["msg"]
        told = {name: value for name, value in msg.items() if name not in _OF_THE_BUS} if isinstance(msg, dict) else {}
        work.names["data"] = {**told, "data": work.names["data"]}
        work.notes.append("wrap")
        return None

    return step


SPEC = Spec(
    kind="wrap",
    pattern="Envelope Wrapper",
    summary="Replaces the payload by an envelope: the message as a CloudEvents 1.0 JSON event, with its attributes "
    "(`id`, `source`, `type`, `conversationid`, ...) and the payload under `data`. What only the bus needs, such as "
    "the return address, is not in it.",
    shape=Record({}),
    build=build,
    example="wrap: {}",
)
