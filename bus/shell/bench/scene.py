"""The integration that the benchmarks run: orders become shipments."""

from __future__ import annotations

import json
from pathlib import Path

from bus.shell.bench.load import ORDER, SHOP, SINK

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


def write_scene(folder: Path) -> Path:
    """Write the integration: one type with a contract, one route with a condition and a translate of five fields.

    Returns:
        Its folder, `folder/bench`.
    """
    root = folder / "bench"
    (root / "schemas").mkdir(parents=True)
    (root / "schemas" / "order.v1.json").write_text(json.dumps(_ORDER))
    (root / "schemas" / "shipment.v1.json").write_text(json.dumps(_SHIPMENT))
    (root / "integration.yaml").write_text(
        f"integration: bench\ntypes:\n  {ORDER}: {{contract: schemas/order.v1.json}}\n"
    )
    (root / "agents.yaml").write_text(
        "agents:\n"
        f"  {SHOP}: {{adapter: external, publishes: [{ORDER}]}}\n"
        f"  {SINK}: {{adapter: external, capabilities: [{SINK}]}}\n"
        "capabilities:\n"
        f"  {SINK}: {{request: schemas/shipment.v1.json, reply: schemas/shipment.v1.json}}\n"
    )
    (root / "orders.yaml").write_text(route("orders", ORDER))
    return root


def route(name: str, kind: str) -> str:
    """A route document for messages of a type, or of a glob of types."""
    return f'route: {name}\nmatch: {{type: "{kind}"}}\n{_STEPS}to: {{capability: {SINK}}}\n'
