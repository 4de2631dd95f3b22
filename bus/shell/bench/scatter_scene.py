"""The integration of `bus bench scatter`: that of the relay, and a route that asks three agents about each order."""

from __future__ import annotations

from pathlib import Path

from bus.shell.bench.load import SHOP, SINK
from bus.shell.bench.scene import write_scene

QUOTE = "bench.quote"
ECHO = "echo"  # the agent that is asked
ASKED = ("one", "two", "three")  # its capabilities

_ROUTE = f"""\
route: quotes
match: {{type: {QUOTE}}}
steps:
- filter: data.amount > 1.0 && data.currency == "EUR"
- scatter_gather:
    branches: {{{", ".join(f"{name}: {{capability: {name}}}" for name in ASKED)}}}
    join: {{policy: all, deadline: 1h}}
    into: vars.found
- translate:
    data:
      order: "{{{{ data.order_id }}}}"
      customer: "{{{{ data.customer.id }}}}"
      country: "{{{{ data.customer.country }}}}"
      lines: "{{{{ data.lines }}}}"
      note: "{{{{ data.note }}}}"
      answers: "{{{{ vars.found.results }}}}"
to: {{capability: {SINK}}}
"""


def write_scatter_scene(folder: Path) -> Path:
    """Write both; returns the integration's folder."""
    root = write_scene(folder)
    (root / "quotes.yaml").write_text(_ROUTE)
    integration, agents = root / "integration.yaml", root / "agents.yaml"
    integration.write_text(integration.read_text() + f"  {QUOTE}: {{contract: schemas/order.v1.json}}\n")
    echo = f"  {ECHO}: {{adapter: external, capabilities: [{', '.join(ASKED)}]}}\n"
    text = agents.read_text().replace(f"  {SHOP}: ", f"{echo}  {SHOP}: ")
    text = text.replace("publishes: [", f"publishes: [{QUOTE}, ", 1)
    contracts = "{request: schemas/order.v1.json, reply: schemas/order.v1.json}"
    agents.write_text(text + "".join(f"  {name}: {contracts}\n" for name in ASKED))
    return root
