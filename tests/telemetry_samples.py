"""A small configuration and decisions of every sort, for the tests of telemetry."""

from __future__ import annotations

from bus.core.actions import Decision, End, Failure, Output, TargetKind
from bus.core.errors import FailureClass, Finding
from bus.core.expression import Contract
from bus.core.message import Attribute, Json, Message
from bus.core.route import Agent, Capability, Catalog, Match, MessageType, Route
from bus.core.work import Flow


class AnyContract:
    """A contract that everything keeps."""

    name = "any"

    def check(self, data: Json) -> tuple[Finding, ...]:
        return ()


def catalog(version: str = "0123456789ab", route: str = "shop/orders") -> Catalog:
    """Return a configuration with one route, two agents, one capability and a declared type."""
    anything: Contract = AnyContract()
    return Catalog(
        version=version,
        agents={
            "shop": Agent("shop", "sdk", publishes=("order.placed", "stock.*")),
            "scorer": Agent("scorer", "sdk", capabilities=("score",), subscribes=("order.billed",)),
        },
        capabilities={"score": Capability("score", anything, anything)},
        types={"order.placed": MessageType("order.placed", anything)},
        routes=(Route(route, "routes/shop/orders.yaml:1", Match(("order.placed", "order.**")), Flow()),),
    )


def message(type_: str = "order.placed", id_: str = "m-1", **attributes: Attribute) -> Message:
    """Return a message from the shop."""
    return Message({"specversion": "1.0", "id": id_, "source": "shop", "type": type_, **attributes}, {"n": 1})


def output(kind: TargetKind = "capability", name: str = "score", id_: str = "ab" * 16) -> Output:
    """Return an output; the usual one asks for a score."""
    return Output(kind, name, id_, "score.requested", "m-1", b"{}", "application/cloudevents+json", {})


def routed(*outputs: Output, of: Message | None = None, route: str = "shop/orders") -> Decision:
    """Return a decision that went well."""
    return Decision("routed", of or message(), route=route, outputs=outputs or (output(),))


def failed(end: End, failure: FailureClass, code: str, of: Message | None = None, finding: bool = False) -> Decision:
    """Return a decision that set the message aside."""
    aside: TargetKind = "invalid" if end == "invalid" else "dead"
    findings = (Finding("/text", "string", "nothing"),) if finding else ()
    return Decision(
        end, of, reason=code, failure=Failure(failure, code, code, findings=findings), outputs=(output(aside, ""),)
    )
