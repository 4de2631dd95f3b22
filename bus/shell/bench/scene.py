"""The integration that the benchmarks run: orders become shipments."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bus.core.route import Catalog
from bus.shell.bench.load import ORDER, SHOP, SINK

_A_FILE = 500  # routes: a file has a largest size

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
    (root / "a-orders.yaml").write_text(_route("orders", ORDER))  # first by name: `fewer` counts on it
    for first in range(0, others, _A_FILE):
        numbers = range(first, min(others, first + _A_FILE))
        routes = [_route(f"other-{number}", other(number)[0]) for number in numbers]
        (root / f"b-others-{first:06d}.yaml").write_text("---\n".join(routes))
    return root


def other(number: int) -> tuple[str, str]:
    """What a further route matches, and a type that only it matches: exact types and globs by turns."""
    if number % 2 == 0:
        return f"bench.exact.t{number}", f"bench.exact.t{number}"
    return f"bench.glob.t{number}.*", f"bench.glob.t{number}.placed"


def _route(name: str, kind: str) -> str:
    return f'route: {name}\nmatch: {{type: "{kind}"}}\n{_STEPS}to: {{capability: {SINK}}}\n'


def fewer(catalog: Catalog, others: int) -> Catalog:
    """The catalog of a scene with so many further routes, cut out of a larger one's: loading is what takes long."""
    types = {ORDER, *(other(number)[1] for number in range(others))}
    shop = catalog.agents[SHOP]
    return replace(
        catalog,
        agents={
            **catalog.agents,
            SHOP: replace(shop, publishes=tuple(each for each in shop.publishes if each in types)),
        },
        types={name: each for name, each in catalog.types.items() if name in types},
        routes=catalog.routes[: others + 1],
    )
