"""`bus run`: the bus itself, until it is told to stop."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from bus.cli.common import Printer, count, folders_of, output_option, settings_of, settings_options, terminable


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--metrics-port", type=click.IntRange(-1, 65535), help="Prometheus endpoint; 0 picks one, -1 none.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 100),
    help="Ingress partitions of a new namespace; later `bus topology grow` changes them.",
)
@click.option(
    "--workers", type=click.IntRange(1, 100), default=1, show_default=True,
    help="Processes that share the partitions; more than one needs a store in PostgreSQL.",
)  # fmt: skip
@click.option(
    "--role", type=click.Choice(["all", "router", "gateway"]), default="all", show_default=True,
    help="What this process does; gateways can run beside the bus, and more than one of them.",
)  # fmt: skip
@click.option(
    "--http", metavar="HOST:PORT", help="Where the gateway listens, 127.0.0.1:8080 unless told; port 0 picks one."
)
@settings_options
@output_option()
def run(paths: tuple[Path, ...], workers: int, role: str, printer: Printer, **flags: Any) -> int:
    """Run the bus on the integrations of PATH, routes/ unless named.

    A configuration with errors is refused, with all of them. Without BUS_AMQP_URL a private RabbitMQ node is
    started in --home and stopped at the end. SIGTERM and Ctrl-C drain: nothing new is taken, what is committed
    is finished, and the rest is replayed at the next start. Logs go to standard error.

    A broker or a store that is down is waited for, at the start as later: the log and /readyz say for what, and
    nothing is lost. What waiting cannot mend ends it at once with exit code 3: a URL that is none, a wrong password, no
    such database, a store that belongs to another namespace.

    Workers, on this machine or on others with the same store, share the partitions; one that dies is replaced by the
    others within seconds, in order.

    \b
    Examples:
      bus run
      bus run routes/customer_service --metrics-port 9464
      bus run --store postgresql://bus:secret@db/bus --workers 4
      BUS_AMQP_URL=amqp://bus:secret@rabbit/ bus run --namespace shop
    """
    from bus import bootstrap, bootstrap_roles
    from bus.shell.telemetry.logs import configure

    settings = settings_of(flags)
    configure(settings.log_level, settings.log_format, sys.stderr)
    loaded = bootstrap.load(folders_of(paths))
    for finding in loaded.findings:
        if finding.severity == "warning":  # errors are told with the refusal
            printer.note(str(finding))
    table = bootstrap.table(loaded)
    if workers > 1 and settings.store_url is None:
        raise click.BadParameter(
            "SQLite serves one worker; write --workers 1, or --store postgresql://USER:PASSWORD@HOST/DATABASE",
            param_hint="--workers",
        )

    def ready(metrics_port: int | None, http_port: int | None = None) -> None:
        version, routes = table.catalog.version, len(table.catalog.routes)
        where = f", metrics on http://127.0.0.1:{metrics_port}/metrics" if metrics_port is not None else ""
        if http_port is not None:
            where += f", gateway on port {http_port}"
        printer.emit(
            {"event": "ready", "namespace": settings.namespace, "config": version, "routes": routes,
             "workers": workers, "metrics_port": metrics_port, "http_port": http_port},
            f"ready, {count(workers, 'worker')}, {count(routes, 'route')}, configuration {version}{where}",
        )  # fmt: skip

    def waiting(reason: str, metrics_port: int | None) -> None:
        if printer.form == "json":  # people read it in the log
            printer.emit({"event": "waiting", "reason": reason, "metrics_port": metrics_port}, "")

    with terminable():
        broker = bootstrap.open_broker(settings, printer.note)
        try:
            if role == "gateway":
                bootstrap_roles.run_gateway(broker.settings, table, ready)
            elif workers > 1:
                beside = role == "all" and bool(table.catalog.entrances)
                bootstrap_roles.run_workers(
                    broker.settings, folders_of(paths), workers, printer.note, partial(ready, None), beside
                )
            elif role == "router":
                bootstrap.run_bus(broker.settings, table, ready, waiting)
            else:
                bootstrap_roles.run_all(broker.settings, table, ready, waiting)
        finally:
            broker.stop()
    return 0
