"""`bus topology`: the exchanges, queues and bindings that the configuration needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, dumps, folders_of, ingress_of, output_option, settings_of, settings_options
from bus.cli.grow import grow
from bus.core.ingress import MOST

if TYPE_CHECKING:
    from bus.settings import Settings
    from bus.shell.topology import Topology

_paths = click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
_partitions = click.option(
    "--partitions", type=click.IntRange(1, MOST), help="Ingress partitions of a namespace that no bus has worked on."
)


@click.group()
def topology() -> None:
    """Show, make, grow or export what the broker must have. Nothing is ever deleted.

    How many ingress partitions there are is decided by the first `bus run`, and kept in the store. Later only `grow`
    changes it.

    Events go to the exchange NS.events.HASH, whose name stands for the set of all subscriptions. So an agent that no
    longer subscribes gets nothing more, though its bindings stay: they are those of another exchange, to which nobody
    publishes any more and which may be deleted. To watch all events, bind a queue to NS.events.

    \b
    Examples:
      bus topology plan
      bus topology grow --partitions 8           while the bus runs
      bus topology apply --amqp-url amqp://bus:secret@rabbit/
      bus topology export > definitions.json     for `rabbitmqctl import_definitions`, with policies
    """


@topology.command("plan")
@_paths
@_partitions
@settings_options
@output_option()
def plan_(paths: tuple[Path, ...], printer: Printer, **flags: Any) -> int:
    """List what is needed and whether the broker has it; without a running broker, what is needed.

    Exit code 1 when something is missing.
    """
    from bus import bootstrap
    from bus.core.errors import Unreachable
    from bus.shell.probe import connection
    from bus.shell.topology import difference

    settings = settings_of(flags)
    needed = _needed(settings, paths)
    try:
        with connection(bootstrap.bus_url(bootstrap.running(settings))) as opened:
            found = difference(opened, needed)
    except Unreachable as error:
        printer.note(f"{error}\nneeded:")
        for name in _names(needed):
            printer.emit({"name": name, "state": "unknown"}, f"  {name}")
        return 0
    for state, mark, names in (("present", "=", found.present), ("missing", "+", found.missing)):
        for name in names:
            printer.emit({"name": name, "state": state}, f"{mark} {name}")
    printer.note(f"{len(found.present)} present, {len(found.missing)} missing")
    return 1 if found.missing else 0


@topology.command("apply")
@_paths
@_partitions
@settings_options
@output_option()
def apply_(paths: tuple[Path, ...], printer: Printer, **flags: Any) -> int:
    """Make what is missing; what is there stays as it is."""
    from bus import bootstrap
    from bus.shell.management import put_policies
    from bus.shell.probe import connection
    from bus.shell.topology import apply, difference

    settings = settings_of(flags)
    needed = _needed(settings, paths)
    with connection(bootstrap.bus_url(bootstrap.running(settings))) as opened:
        missing = difference(opened, needed).missing
        apply(opened.channel(), needed)
    policies = put_policies(settings.management_url, settings.namespace) if settings.management_url else []
    for name in missing:
        printer.emit({"name": name, "state": "made"}, f"+ {name}")
    for name in policies:
        printer.emit({"name": f"policy {name}", "state": "set"}, f"= policy {name}")
    printer.note(f"{len(missing)} made, {len(_names(needed)) - len(missing)} were there")
    if not policies and settings.amqp_url:
        printer.note("policies were not set: set BUS_MANAGEMENT_URL, or import `bus topology export`")
    return 0


@topology.command("export")
@_paths
@_partitions
@click.option("--vhost", default="/", show_default=True, help="Virtual host of the definitions.")
@settings_options
def export_(paths: tuple[Path, ...], vhost: str, **flags: Any) -> int:
    """Print RabbitMQ definitions, policies included, and the permissions that each agent's user needs."""
    from bus.shell.topology import export

    click.echo(dumps(export(_needed(settings_of(flags), paths), vhost)))
    return 0


topology.add_command(grow)


def _needed(settings: Settings, paths: tuple[Path, ...]) -> Topology:
    from bus import bootstrap
    from bus.shell.topology import plan

    catalog = bootstrap.table(bootstrap.load(folders_of(paths))).catalog
    return plan(settings.namespace, ingress_of(settings), catalog)


def _names(needed: Topology) -> list[str]:
    return [
        *(f"exchange {each.name}" for each in needed.exchanges),
        *(f"queue {each.name}" for each in needed.queues),
    ]
