"""Envelope Wrapper, the other way: take the payload out of its envelope."""

from __future__ import annotations

from typing import Any

from bus.core.errors import Finding, StepFailed
from bus.core.spec import Record, Spec
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    def step(work: Work) -> Ended | None:
        envelope = work.names["data"]
        if not isinstance(envelope, dict) or envelope.get("specversion") != "1.0":
            finding = Finding(
                "" if not isinstance(envelope, dict) else "/specversion", 'a CloudEvent, "1.0"', "no envelope"
            )
            raise StepFailed("contract", "unwrap: the payload is no CloudEvents 1.0 envelope", (finding,))
        work.names["data"] = envelope.get("data")
        work.notes.append("unwrap")
        return None

    return step


SPEC = Spec(
    kind="unwrap",
    pattern="Envelope Wrapper",
    summary="Replaces an envelope, as `wrap` makes it, by the payload in it. Attributes in an envelope are what its "
    "sender wrote, so they change nothing of the message; one that is no CloudEvents 1.0 event fails with class "
    "`contract`.",
    shape=Record({}),
    build=build,
    example="unwrap: {}",
)
