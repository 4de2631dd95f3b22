"""Express lane: which messages are so plain that all the configuration says of them is one small value.

A message of a (type, source) that has a plan is owned by a route without memory whose steps filter and translate by
paths, literals and comparisons, and goes to agents, capabilities or events. An engine that knows the plan can decide it
without this package; whatever it is not sure of it leaves to `bus.core.pipeline.decide`, the only place that knows what
goes wrong and how to say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from bus.core.dispatch import name_of
from bus.core.identity import CLIENT, GATEWAY
from bus.core.message import TASK_CLAIM, Json
from bus.core.outputs import BUS
from bus.core.plain import form_of
from bus.core.route import Route
from bus.core.table import RouteTable
from bus.core.work import Flow, Placed, Target

Plan = dict[str, Json]

_NOT_ALIKE = "multipleOf"
"""A keyword that depends on how exactly an engine reads decimal fractions."""


class _NotPlain(Exception):
    """There is no plan."""


def plan_of(table: RouteTable, type_: str, source: str) -> Plan | None:
    """The plan for messages of a type from a source, or None when they are not plain."""
    found = table.find(type_, source)
    if not found.declared or found.answers is not None or source in (BUS, CLIENT, GATEWAY) or type_ == TASK_CLAIM:
        return None
    if found.serial or found.observers or found.subscribers or type_.startswith("bus."):
        return None
    try:
        owners: list[Json] = []
        for route, why in found.owners:
            if route.match.labels:  # a plain message has none
                continue
            owners.append(_owner(route, why))
            if route.match.when is None:
                break
        return {"contract": _contract(found.contract), "owners": owners} if owners else None
    except _NotPlain:
        return None


def _owner(route: Route, why: str) -> Json:
    if route.memory or route.deadline_s is not None:
        raise _NotPlain
    when = route.match.when
    return {
        "when": None if when is None else _form(when),
        "passed": "" if when is None else f"{route.name}: when {when.text} is false",
        "route": route.name,
        "place": route.where,
        "why": why,
        "config": cast("dict[str, Json]", dict(route.config)),
        "steps": [_step(each) for each in route.flow.steps],
        "to": _targets(route.flow),
    }


def _form(piece: object) -> Json:
    form = form_of(piece)
    if form is None:
        raise _NotPlain
    return form


def _step(placed: Placed) -> Json:
    form = _form(placed.run)
    assert isinstance(form, dict)
    when = None if placed.when is None else _form(placed.when)
    return {**form, "when": when, "skipped": f"{placed.id}: skipped"}


def _targets(flow: Flow) -> list[Json]:
    if not flow.to:
        raise _NotPlain
    return [_target(each) for each in flow.to]


def _target(target: Target) -> Json:
    if target.among is not None or target.lease_s is not None or target.kind == "reply":
        raise _NotPlain
    kind: str = target.kind
    if kind == "capability" and target.audience is not None and not target.audience.whole:
        raise _NotPlain
    if kind == "event":
        if not (target.to_route or target.to_subscribers):
            raise _NotPlain
        kind = "ingress" if target.to_route else "event"
    return {
        "kind": kind,
        "name": target.name,
        "type": target.type,
        "data": None if target.data is None else _form(target.data),
        "contract": _contract(target.contract),
        "sealed": kind in ("agent", "capability"),
        "note": f"to {name_of(target)}",
    }


def _contract(contract: object | None) -> Json:
    if contract is None:
        return None
    uri, files = cast("tuple[str, Mapping[str, Json]]", getattr(contract, "sources", ("", {})))
    if not uri or any(_mentions(each) for each in files.values()):
        raise _NotPlain
    return {"uri": uri, "files": dict(files)}


def _mentions(schema: Any) -> bool:
    if isinstance(schema, dict):
        return _NOT_ALIKE in schema or any(map(_mentions, schema.values()))
    return isinstance(schema, list) and any(map(_mentions, schema))
