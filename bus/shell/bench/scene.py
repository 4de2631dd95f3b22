"""The integration that the benchmarks run: orders become shipments."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bus.core.route import Catalog, Match
from bus.shell.bench.load import ORDER, SHOP, SINK

LOADED = 200
"""Further routes that are worth loading; see `with_others`."""

_STEPS = """\
steps:
- filter: data.amount > 1.0 && data.currency == "EUR"
- translate:
    data:
      order: "{{ data.order_id }}"
      customer: "{{ data.customer.id }}"
      country: "{{ data.customer.country }}"
      lines: "{{ data.lines }}"
      note: "{{ data.note }}"
"""
_ORDER = {
    "type": "object",
    "required": ["order_id", "customer", "amount", "currency", "lines", "note"],
    "additionalProperties": False,
    "properties": {
        "order_id": {"type": "string", "minLength": 1},
        "customer": {
            "type": "object",
            "required": ["id", "country"],
            "properties": {"id": {"type": "string"}, "country": {"type": "string"}, "vip": {"type": "boolean"}},
        },
        "amount": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "USD"]},
        "lines": {"type": "array", "items": {"type": "object", "required": ["sku", "quantity"]}},
        "note": {"type": "string"},
    },
}
_SHIPMENT = {
    "type": "object",
    "required": ["order", "customer", "country", "lines", "note"],
    "properties": {"order": {"type": "string"}, "lines": {"type": "array"}, "note": {"type": "string"}},
}


def write_scene(folder: Path, others: int = 0) -> Path:
    """Write the integration: one type with a contract, one route with a condition and a translate of five fields.

    Args:
        folder: where to.
        others: further routes, each with a type of its own and the same work; see `other`.

    Returns:
        Its folder, `folder/bench`.
    """
    root = folder / "bench"
    (root / "schemas").mkdir(parents=True)
    (root / "schemas" / "order.v1.json").write_text(json.dumps(_ORDER))
    (root / "schemas" / "shipment.v1.json").write_text(json.dumps(_SHIPMENT))
    types = [ORDER, *(other(number)[1] for number in range(others))]
    declared = "".join(f"  {each}: {{contract: schemas/order.v1.json}}\n" for each in types)
    (root / "integration.yaml").write_text(f"integration: bench\ntypes:\n{declared}")
    (root / "agents.yaml").write_text(
        "agents:\n"
        f"  {SHOP}: {{adapter: external, publishes: [{', '.join(types)}]}}\n"
        f"  {SINK}: {{adapter: external, capabilities: [{SINK}]}}\n"
        "capabilities:\n"
        f"  {SINK}: {{request: schemas/shipment.v1.json, reply: schemas/shipment.v1.json}}\n"
    )
    routes = [_route("orders", ORDER), *(_route(f"other-{number}", other(number)[0]) for number in range(others))]
    (root / "orders.yaml").write_text("---\n".join(routes))
    return root


def other(number: int) -> tuple[str, str]:
    """What a further route matches, and a type that only it matches: exact types and globs by turns."""
    if number % 2 == 0:
        return f"bench.exact.t{number}", f"bench.exact.t{number}"
    return f"bench.glob.t{number}.*", f"bench.glob.t{number}.placed"


def _route(name: str, kind: str) -> str:
    return f'route: {name}\nmatch: {{type: "{kind}"}}\n{_STEPS}to: {{capability: {SINK}}}\n'


def with_others(catalog: Catalog, others: int) -> Catalog:
    """The catalog of a scene with so many further routes, made out of one with fewer or more.

    Loading takes about 10 ms a route, most of it for checking expressions. So routes past those that were loaded share
    the compiled steps of these, in turn; `LOADED` of them are more than a processor's caches hold, so that sharing
    does not flatter the figures. Every route has its own entry in the table, and its own type.
    """
    shop, first, *loaded = catalog.agents[SHOP], *catalog.routes
    kinds = [other(number) for number in range(others)]
    like = catalog.types[ORDER]
    types = {ORDER: like, **{name: replace(like, name=name) for _, name in kinds}}
    routes = [
        replace(loaded[number % len(loaded)], name=f"bench/other-{number}", match=Match((pattern,)))
        for number, (pattern, _) in enumerate(kinds)
    ]
    return replace(
        catalog,
        agents={**catalog.agents, SHOP: replace(shop, publishes=tuple(types))},
        types=types,
        routes=(first, *routes),
    )
