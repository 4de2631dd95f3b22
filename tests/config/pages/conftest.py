"""Configurations to document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bus.config import load
from bus.config.pages.gather import Book, gather
from bus.core.message import Json
from bus.core.registry import STEPS
from tests.config.corpus_cases import lay_out
from tests.corpora import ROOT

INTEGRATION = """\
integration: desk
description: "Takes <b>orders</b> & more."
types:
  order.placed: {contract: schemas/order.v1.json, description: "An order; see `order.v1`."}
  order.seen: {contract: any, unrouted: ok}
gateway: {order: {http: POST /orders, type: order.placed, wait: 5s, on_timeout: fail}}
schedules: {nightly: {cron: "0 3 * * *", zone: Europe/Berlin, type: order.seen}}
---
agents:
  front: {adapter: external, publishes: [order.placed], subscribes: ["check.*"]}
  checker: {adapter: stdio, command: [cat, "--key=${KEY}"], capabilities: [check], attributes: {token: "${KEY}"}}
capabilities:
  check: {request: schemas/order.v1.json, reply: schemas/answer.v1.json, idempotent: true, lease: 1m}
---
route: intake
description: Has it checked.
match: {type: order.placed}
steps: [{wire_tap: {event: order.seen}}]
to: {capability: check}
"""
ORDER: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["lines"],
    "properties": {
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1},
        "payer": {"$ref": "person.json"},
        "sent": {"$ref": "person.json#address"},
        "parent": {"$ref": "#"},
        "kind": {"const": "order"},
    },
    "$defs": {"line": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}},
}  # fmt: skip
PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "home": {"$ref": "#/$defs/address"}},
    "$defs": {"address": {"$anchor": "address", "type": "object", "properties": {"city": {"type": "string"}}}},
}


def book_of(folder: Path) -> Book:
    loaded = load([folder], {"KEY": "s3cret"}, STEPS)
    assert loaded.catalog is not None, loaded.findings
    return gather(loaded.catalog, loaded.files, STEPS)


@pytest.fixture
def desk(tmp_path: Path) -> Book:
    """An integration whose contracts refer to themselves and to other files."""
    folder = tmp_path / "desk"
    (folder / "schemas").mkdir(parents=True)
    (folder / "desk.yaml").write_text(INTEGRATION)
    schemas: dict[str, Json] = {
        "order.v1": ORDER,
        "person": PERSON,
        "answer.v1": {"$id": "https://example.com/a", "type": ["string", "null"]},
    }
    for name, schema in schemas.items():
        (folder / "schemas" / f"{name}.json").write_text(json.dumps(schema))
    return book_of(folder)


@pytest.fixture
def books(desk: Book, tmp_path: Path) -> dict[str, Book]:
    return {
        "desk": desk,
        "customer_service": book_of(ROOT / "routes" / "customer_service"),
        "shop": book_of(lay_out("", tmp_path)),
    }
