"""`bus run`: the bus itself, until it is told to stop."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, count, folders_of, output_option, settings_of, settings_options, terminable

if TYPE_CHECKING:
    from bus.bootstrap_config import Source
    from bus.core.route import Catalog
    from bus.core.table import RouteTable
    from bus.settings import Settings
    from bus.shell.reload import Outcome


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
@click.option("--watch", is_flag=True, help="Take up changes of the files by itself; SIGHUP does it without, too.")
@click.option("--no-tests", is_flag=True, help="Take up changes that fail their route tests, too.")
@settings_options
@output_option()
def run(
    paths: tuple[Path, ...],
    workers: int,
    role: str,
    watch: bool,
    no_tests: bool,
    printer: Printer,
    **flags: Any,
) -> int:
    """Run the bus on the integrations of PATH, routes/ unless named.

    A configuration with errors is refused, with all of them. Without BUS_AMQP_URL a private RabbitMQ node is
    started in --home and stopped at the end. SIGTERM and Ctrl-C drain: nothing new is taken, what is committed
    is finished, and the rest is replayed at the next start. Logs go to standard error.

    A broker or a store that is down is waited for, at the start as later: the log and /readyz say for what, and
    nothing is lost. What waiting cannot mend ends it at once with exit code 3: a URL that is none, a wrong password, no
    such database, a store that belongs to another namespace.

    A running bus takes up changed files on SIGHUP, or by itself with --watch: it reads, checks and then changes over
    between two messages. What has errors, or fails its route tests, changes nothing, and the log says where. What is
    under way ends as the configuration says under which it began.

    Workers, on this machine or on others with the same store, share the partitions; one that dies is replaced by the
    others within seconds, in order.

    \b
    Examples:
      bus run
      bus run routes/customer_service --metrics-port 9464
      bus run --watch
      bus run --store postgresql://bus:secret@db/bus --workers 4
      BUS_AMQP_URL=amqp://bus:secret@rabbit/ bus run --namespace shop
    """
    from bus import bootstrap
    from bus.bootstrap_config import Source
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

    told = _Told(printer, settings.namespace, table.catalog, workers)
    source = Source(folders_of(paths), loaded, watch, not no_tests, told.reload)
    with terminable():
        broker = bootstrap.open_broker(settings, printer.note)
        try:
            _serve(broker.settings, table, source, role, workers, told, printer)
        finally:
            broker.stop()
    return 0


def _serve(
    settings: Settings, table: RouteTable, source: Source, role: str, workers: int, told: _Told, printer: Printer
) -> None:
    """Run the roles of this process until it is told to end."""
    from bus import bootstrap, bootstrap_roles

    if role == "gateway":
        bootstrap_roles.run_gateway(settings, table, told.ready, source)
    elif workers > 1:
        beside = role == "all" and bool(table.catalog.entrances)
        bootstrap_roles.run_workers(settings, source, workers, printer.note, partial(told.ready, None), beside)
    elif role == "router":
        bootstrap.run_bus(settings, table, told.ready, told.waiting, source=source)
    else:
        bootstrap_roles.run_all(settings, table, told.ready, told.waiting, source)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a running bus says to whoever has started it."""

    printer: Printer
    namespace: str
    catalog: Catalog
    workers: int

    def ready(self, metrics_port: int | None, http_port: int | None = None) -> None:
        version, routes = self.catalog.version, len(self.catalog.routes)
        where = f", metrics on http://127.0.0.1:{metrics_port}/metrics" if metrics_port is not None else ""
        if http_port is not None:
            where += f", gateway on port {http_port}"
        self.printer.emit(
            {"event": "ready", "namespace": self.namespace, "config": version, "routes": routes,
             "workers": self.workers, "metrics_port": metrics_port, "http_port": http_port},
            f"ready, {count(self.workers, 'worker')}, {count(routes, 'route')}, configuration {version}{where}",
        )  # fmt: skip

    def waiting(self, reason: str, metrics_port: int | None) -> None:
        if self.printer.form == "json":  # people read it in the log
            self.printer.emit({"event": "waiting", "reason": reason, "metrics_port": metrics_port}, "")

    def reload(self, outcome: Outcome) -> None:
        if self.printer.form == "json":
            self.printer.emit(
                {"event": "reload", "result": outcome.result, "config": outcome.version, "why": outcome.why,
                 "findings": list(outcome.findings)},
                "",
            )  # fmt: skip
