"""`bus bench`: what this machine does, always beside a baseline in the same run."""

from __future__ import annotations

import dataclasses
import json
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, output_option, settings_of, settings_options, terminable
from bus.core.errors import BusError

if TYPE_CHECKING:
    from bus.core.table import RouteTable
    from bus.settings import Settings

_SOURCE = "shop"
_FILES: dict[str, str] = {
    "integration.yaml": "integration: bench\ntypes: {bench.order: {contract: schemas/order.v1.json}}\n",
    "agents.yaml": (
        "agents:\n"
        "  shop: {adapter: external, publishes: [bench.order]}\n"
        "  sink: {adapter: external, capabilities: [sink]}\n"
        "capabilities:\n"
        "  sink: {request: schemas/shipment.v1.json, reply: schemas/shipment.v1.json}\n"
    ),
    "orders.yaml": (
        "route: orders\n"
        "match: {type: bench.order}\n"
        "steps:\n"
        '- filter: data.amount > 1.0 && data.currency == "EUR"\n'
        "- translate:\n"
        "    data:\n"
        '      order: "{{ data.order_id }}"\n'
        '      customer: "{{ data.customer.id }}"\n'
        '      country: "{{ data.customer.country }}"\n'
        '      lines: "{{ data.lines }}"\n'
        '      note: "{{ data.note }}"\n'
        "to: {capability: sink}\n"
    ),
}
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


@click.group()
def bench() -> None:
    """Measure what this machine does. Figures are worth something as ratios within one run.

    \b
    Examples:
      bus bench relay
      bus bench relay --messages 50000 --output json
    """


@bench.command()
@click.option("--messages", type=click.IntRange(100, 5_000_000), default=20_000, show_default=True, help="How many.")
@settings_options
@output_option()
def relay(messages: int, printer: Printer, **flags: Any) -> int:
    """Relay a backlog through one worker: contract, CEL condition, translate of five fields, inbox, outbox, audit.

    Quorum queues, persistent messages of about 600 bytes, 1,000 conversations, every commit fsynced, confirm before
    ack. The baseline moves the same backlog over the same transport without looking at it. Broker, baseline and worker
    share the machine. The benchmark uses a namespace of its own and removes it.

    \b
    Examples:
      bus bench relay
      bus bench relay --messages 50000 --output json
    """
    from bus import bootstrap

    settings = dataclasses.replace(settings_of(flags), namespace=f"bench-{secrets.token_hex(4)}")
    with terminable(), tempfile.TemporaryDirectory(prefix="agentbus-bench-") as folder:
        routes = _routes(Path(folder) / "bench")
        broker = bootstrap.open_broker(settings, printer.note)
        try:
            result = _relay(broker.settings, routes, messages, Path(folder), printer)
        finally:
            broker.stop()
    printer.emit(
        result,
        f"bus {result['bus_msgs_per_s']:,} msg/s, bare relay {result['baseline_msgs_per_s']:,} msg/s, "
        f"ratio {result['ratio']}; {result['cpu_us_per_msg']} us CPU a message, of it {result['decide_us_per_msg']} "
        f"to decide; {result['inputs_per_commit']} inputs a commit",
    )
    return 0


def _routes(folder: Path) -> RouteTable:
    from bus import bootstrap

    (folder / "schemas").mkdir(parents=True)
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    (folder / "schemas" / "order.v1.json").write_text(json.dumps(_ORDER))
    (folder / "schemas" / "shipment.v1.json").write_text(json.dumps(_SHIPMENT))
    return bootstrap.table(bootstrap.load([folder]))


def _relay(settings: Settings, routes: RouteTable, messages: int, folder: Path, printer: Printer) -> dict[str, Any]:
    from bus import bootstrap
    from bus.shell.bench_relay import BareRelay, CountingMeter, Fill, Measured
    from bus.shell.collector import calm_collector
    from bus.shell.sqlite_store import SqliteStore

    try:
        printer.note(f"filling {messages} messages for the baseline")
        transport = bootstrap.transport(settings, routes)
        transport.run(Fill(transport, settings.namespace, "a", messages, _SOURCE))
        transport = bootstrap.transport(settings, routes)
        bare = BareRelay(transport, settings.namespace, settings.partitions, settings.prefetch, messages)
        transport.run(bare)
        printer.note(f"filling {messages} messages for the bus")
        transport = bootstrap.transport(dataclasses.replace(settings, amqp_url=settings.agent_amqp_url), None)
        transport.run(Fill(transport, settings.namespace, "b", messages, _SOURCE))
        printer.note("relaying")
        store = SqliteStore(folder / "bench.db")
        measured = Measured()
        meter = CountingMeter(messages, measured)
        worker = bootstrap.make_worker(settings, routes, store, meter)
        meter.done = worker.drain
        calm_collector()  # as `bus run` does
        worker.run()
        store.close()
    finally:
        bootstrap.remove_namespace(settings, routes)
    if meter.ends != {"routed": messages}:
        raise BusError(f"the benchmark's messages did not all get through: {meter.ends}")
    return {
        "messages": messages,
        "bus_msgs_per_s": round(messages / measured.wall_s),
        "baseline": "bare relay over the same transport",
        "baseline_msgs_per_s": round(messages / bare.measured.wall_s),
        "ratio": round(bare.measured.wall_s / measured.wall_s, 2),
        "cpu_us_per_msg": round(measured.cpu_s / messages * 1e6, 1),
        "baseline_cpu_us_per_msg": round(bare.measured.cpu_s / messages * 1e6, 1),
        "decide_us_per_msg": round(meter.decide_s / messages * 1e6, 1),
        "inputs_per_commit": round(messages / max(1, meter.commits)),
    }
