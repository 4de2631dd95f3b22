"""A small hand-built catalog and bench for the pure core, without any file or engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bus.core.actions import Decision, Delivery, Output
from bus.core.errors import ExpressionFailed, Finding
from bus.core.expression import Expression, Names
from bus.core.facts import Facts, Limits
from bus.core.message import Json
from bus.core.pipeline import decide
from bus.core.route import Agent, Capability, Catalog, Match, MessageType, Route
from bus.core.table import RouteTable
from bus.core.work import Flow, Placed, Step, Target

FACTS = Facts(now_s=1_800_000_000.0, now="2027-01-15T08:00:00.000Z", seal=b"k" * 32, limits=Limits())


@dataclass(frozen=True)
class Says:
    """An expression given as a Python function of the names; a KeyError is an absent field."""

    text: str
    value: Callable[[Any], Json]

    def __call__(self, names: Names) -> Json:
        try:
            return self.value(names)
        except (KeyError, TypeError) as error:
            raise ExpressionFailed(f"{self.text}: no such field {error}") from error


def expr(text: str, value: Callable[[Any], Json]) -> Expression:
    return Says(text, value)


@dataclass(frozen=True)
class Needs:
    """A contract that wants these fields, each a string."""

    name: str
    fields: tuple[str, ...]

    def check(self, data: Json) -> tuple[Finding, ...]:
        if not isinstance(data, dict):
            return (Finding("", "object", repr(data)),)
        wrong = [field for field in self.fields if not isinstance(data.get(field), str)]
        return tuple(Finding(f"/{field}", "string", repr(data.get(field, "nothing"))) for field in wrong)


ANYTHING = Needs("any", ())
TEXT = Needs("text.v1", ("text",))


def flow(*steps: tuple[str, Step], to: tuple[Target, ...] = ()) -> Flow:
    placed = tuple(Placed(f"{kind}#{number}", kind, step) for number, (kind, step) in enumerate(steps, 1))
    return Flow(placed, to)


def to_capability(name: str, contract: Any = None, data: Any = None) -> Target:
    return Target("capability", name, f"{name}.requested", data, contract)


def catalog(*routes: Route, types: Mapping[str, MessageType] | None = None) -> Catalog:
    agents = [
        Agent("desk", "external", publishes=("asked", "order.**", "ping")),
        Agent("grader", "sdk", capabilities=("grade",)),
        Agent("other", "sdk", capabilities=("other",), subscribes=("news.*",), publishes=("news.*",)),
    ]
    capabilities = {name: Capability(name, ANYTHING, TEXT) for name in ("grade", "other")}
    return Catalog("c0ffee", {agent.name: agent for agent in agents}, capabilities, types or {}, routes)


def route(name: str, types: str | tuple[str, ...], flow_: Flow, **more: Any) -> Route:
    match = Match(
        (types,) if isinstance(types, str) else types,
        more.pop("source", None),
        more.pop("labels", ()),
        more.pop("when", None),
    )
    return Route(f"t/{name}", f"t.yaml:{len(name)}", match, flow_, **more)


def structured(type_: str, data: Json, *, source: str = "desk", id_: str = "m1", **attributes: Any) -> Delivery:
    body = {"specversion": "1.0", "id": id_, "source": source, "type": type_, **attributes, "data": data}
    return raw(orjson.dumps(body), key=str(attributes.get("conversationid", id_)))


def raw(body: bytes, *, key: str = "m1", user: str | None = "agents", **more: Any) -> Delivery:
    return Delivery(body, "application/cloudevents+json", {}, user, None, None, key, "ns.ingress.00", **more)


def carried(output: Output, *, user: str = "bus") -> Delivery:
    """An output as the next consumer receives it."""
    return Delivery(output.body, output.content_type, output.headers, user, output.id, output.type,
                    output.conversation, "ns.ingress.00")  # fmt: skip


def opened(output: Output) -> dict[str, Any]:
    return dict(orjson.loads(output.body))


def run(delivery: Delivery, made: Catalog, facts: Facts = FACTS) -> Decision:
    return decide(delivery, RouteTable(made), facts)
