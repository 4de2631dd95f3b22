"""Every example of the reference is linted and decided. That it is what the specs say: test_patterns_table.py."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from bus.config import load
from bus.core.message import Json
from bus.core.pipeline import decide
from bus.core.registry import STEPS
from bus.core.running import REHOMED
from bus.core.spec import Spec
from bus.core.table import RouteTable
from tests.core.world import FACTS, structured

ENDS = {
    "fail": "dead_letter", "call": "routed", "scatter_gather": "routed", "delay": "waiting", "unwrap": "invalid",
    "routing_slip": "routed", "dynamic_router": "routed", "loop": "routed",
    "circuit_breaker": "routed", "aggregate": "waiting", "resequence": "waiting",
}  # fmt: skip
EVENTS = ("payment.large", "payment.small", "payment.seen", "notice.mail", "notice.sms", "done")
ANY_SCHEMA = "{request: schemas/any.v1.json, reply: schemas/any.v1.json}"
AGENTS = f"""\
agents:
  desk: {{adapter: external, publishes: [asked]}}
  grader: {{adapter: external, capabilities: [grade]}}
  other: {{adapter: external, capabilities: [other]}}
capabilities: {{grade: {ANY_SCHEMA}, other: {ANY_SCHEMA}}}
"""
DATA: Json = {
    "id": "7", "name": "Ada", "text": " hello ", "amount": 5, "currency": "EUR", "channels": ["notice.mail"],
    "internal_notes": "x",
}  # fmt: skip


@pytest.mark.parametrize("spec", STEPS.values(), ids=lambda spec: spec.kind)
def test_an_example_is_linted_and_runs(spec: Spec, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    (folder / "schemas").mkdir(parents=True)
    (folder / "schemas" / "payment.v1.json").write_text(json.dumps({"type": "object", "required": ["amount"]}))
    (folder / "customers.csv").write_text("id,name\n7,Ada\n")
    (folder / "prompt.j2").write_text("Dear {{ data.name }}")
    types = "".join(f"  {name}: {{contract: any, unrouted: ok}}\n" for name in ("asked", *EVENTS))
    (folder / "integration.yaml").write_text(f"integration: shown\ntypes:\n{types}labels: {{personal: {{}}}}\n")
    (folder / "agents.yaml").write_text(AGENTS)
    (folder / "schemas" / "any.v1.json").write_text("{}")
    step = textwrap.indent(spec.example.rstrip(), "    ").lstrip()
    fragment = "fragment: shorten\nwith: {most: {type: integer}}\nsteps: [{filter: size(data.id) < vars.most}]\n"
    (folder / "shorten.yaml").write_text(fragment)
    route = f"route: shown\nmatch: {{type: asked}}\nsteps:\n  - {step}\nto: {{event: done}}\n"
    (folder / "shown.yaml").write_text(route)
    loaded = load([folder], {}, STEPS)
    assert [str(finding) for finding in loaded.findings] == []
    assert loaded.catalog is not None
    decision = decide(structured("asked", DATA), RouteTable(loaded.catalog), FACTS)
    if spec.homed:  # all messages of the route come together first
        assert decision.why == REHOMED
        return
    # Nobody subscribes here, which is allowed.
    expected = ENDS.get(spec.kind, "filtered")
    assert (decision.end, decision.route) == (expected, "shown/shown"), decision
