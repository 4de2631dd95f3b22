"""`bus doctor`: whether everything that a bus needs is there and right, and what to do where it is not."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from bus import compiled
from bus.cli.common import Printer, count, folders_of, ingress_of, output_option, settings_of, settings_options
from bus.core.errors import BusError, NoStore, StoreDown, StoreFailed, Unreachable

if TYPE_CHECKING:
    from bus.core.route import Catalog
    from bus.settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Args:
        what: a few words.
        state: `fail` when the bus cannot work with it, `warn` when a person should look.
        found: what was seen.
        instead: what to do about it.
        unreachable: the broker or the store could not be asked at all.
    """

    what: str
    state: Literal["ok", "warn", "fail"]
    found: str
    instead: str = ""
    unreachable: bool = False


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@settings_options
@output_option()
def doctor(paths: tuple[Path, ...], printer: Printer, **flags: Any) -> int:
    """Look at Python, RabbitMQ, queues, dead letters, store and configuration; say what to do.

    Exit code 0 when nothing fails (warnings are 0 too), 1 when something does, 3 when the broker could not
    be asked.

    \b
    Examples:
      bus doctor
      bus doctor routes/customer_service --output json
    """
    failed = unreachable = 0
    for check in _checks(settings_of(flags), paths):
        tail = f"; {check.instead}" if check.instead else ""
        printer.emit(
            {"what": check.what, "state": check.state, "found": check.found, "instead": check.instead},
            f"{check.state:4}  {check.what}: {check.found}{tail}",
        )
        failed += check.state == "fail"
        unreachable += check.unreachable
    return 3 if unreachable else 1 if failed else 0


def _checks(settings: Settings, paths: tuple[Path, ...]) -> Iterator[Check]:
    yield _python()
    yield _express_lane()
    if settings.amqp_url is None:
        yield _installed()
    catalog, configuration = _configuration(paths)
    yield from configuration
    yield from _broker(settings, catalog)
    yield _store(settings)


def _python() -> Check:
    found = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    if sys.base_prefix == "/usr" or "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return Check("python", "ok", found)
    slower = f"{found}, built without profile-guided optimization: a message costs about a seventh more"
    return Check("python", "ok", slower, "Debian's own python3 has it")


def _express_lane() -> Check:
    match compiled.state():
        case "used":
            return Check("express lane", "ok", "in use")
        case "stale":
            return Check(
                "express lane", "warn", "built of other sources than these, so not used", "run `deploy/express`"
            )
        case "off":
            return Check("express lane", "ok", "turned off by BUS_EXPRESS=off")
        case "absent":
            return Check(
                "express lane", "ok", "not built; without it a message costs twice as much", "see `deploy/express`"
            )


def _installed() -> Check:
    from bus.shell.broker_install import server_script

    try:
        return Check("rabbitmq-server", "ok", str(server_script()))
    except Unreachable as error:
        return Check("rabbitmq-server", "fail", str(error), "or set BUS_AMQP_URL to a broker that runs")


def _configuration(paths: tuple[Path, ...]) -> tuple[Catalog | None, list[Check]]:
    from bus import bootstrap

    try:
        loaded = bootstrap.load(folders_of(paths))
    except BusError as error:
        return None, [Check("configuration", "warn", str(error))]
    errors = sum(each.severity == "error" for each in loaded.findings)
    warnings = len(loaded.findings) - errors
    if errors or loaded.catalog is None:
        return None, [Check("configuration", "fail", count(errors, "error"), "run `bus lint`")]
    size = f"{count(len(loaded.catalog.routes), 'route')}, {count(len(loaded.catalog.agents), 'agent')}"
    if warnings:
        return loaded.catalog, [
            Check("configuration", "warn", f"{size}, {count(warnings, 'warning')}", "run `bus lint`")
        ]
    return loaded.catalog, [Check("configuration", "ok", size)]


def _broker(settings: Settings, catalog: Catalog | None) -> Iterator[Check]:
    from bus import bootstrap
    from bus.shell.probe import connection, server, shown

    try:
        found = bootstrap.running(settings)
        url = bootstrap.bus_url(found)
        with connection(url) as opened:
            yield Check("broker", "ok", f"{server(opened)} at {shown(url)}")
            if catalog is not None:
                yield from _topology(opened, found, catalog)
            yield from _letters(opened, settings.namespace)
    except Unreachable as error:
        private = settings.amqp_url is None
        yield Check("broker", "warn" if private else "fail", str(error), unreachable=not private)
        return
    if settings.amqp_url is not None and settings.management_url is None:
        yield Check(
            "policies", "warn", "not looked at", "set BUS_MANAGEMENT_URL, or import what `bus topology export` prints"
        )


def _topology(opened: Any, settings: Settings, catalog: Catalog) -> Iterator[Check]:
    from bus.shell.probe import different, queue_states
    from bus.shell.topology import difference, plan

    try:
        ingress = ingress_of(settings)
    except BusError as error:
        yield Check("partitions", "warn", str(error))
        return
    if ingress.growing:
        sizes = f"{ingress.served.size} to {ingress.last.size}"
        yield Check(
            "partitions", "warn", f"grow from {sizes}", f"see `bus topology grow --partitions {ingress.last.size}`"
        )
    needed = plan(settings.namespace, ingress, catalog)
    missing = difference(opened, needed).missing
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        yield Check("topology", "warn", f"{len(missing)} missing: {some}", "start `bus run`, or `bus topology apply`")
    else:
        yield Check("topology", "ok", f"{len(needed.queues)} queues, {len(needed.exchanges)} exchanges")
    for name, reason in different(opened, {each.name: each.arguments for each in needed.queues}).items():
        yield Check(
            "topology",
            "fail",
            f"queue {name} was made with other arguments ({reason}); without its dead-letter exchange a delivery "
            "limit drops messages unseen",
            "empty it, delete it, and run `bus topology apply`",
        )
    inboxes = [each.name for each in needed.queues if _is_inbox(each.name, settings.namespace)]
    for name, state in queue_states(opened, inboxes).items():
        if state is not None and state.depth and not state.consumers:
            yield Check(
                "agents", "warn", f"{state.depth} messages wait in {name} and nobody listens", "start the agent"
            )


def _is_inbox(name: str, namespace: str) -> bool:
    return name.startswith((f"{namespace}.agent.", f"{namespace}.capability."))


def _letters(opened: Any, namespace: str) -> Iterator[Check]:
    from bus.core.naming import bounced, dead_queue, invalid_queue
    from bus.shell.probe import queue_states

    hints = {
        dead_queue(namespace): "see `bus dlq list`",
        invalid_queue(namespace): "see `bus dlq list --channel invalid`",
        bounced(namespace): "the bus takes them up when it runs",
    }
    for name, state in queue_states(opened, hints).items():
        if state is not None and state.depth:
            yield Check("dead letters", "warn", f"{state.depth} in {name}", hints[name])


def _store(settings: Settings) -> Check:
    from bus import bootstrap

    try:
        log = bootstrap.history(settings)
        name, ends = log.name, log.ends(1000)
        log.close()
    except NoStore as error:
        return Check("store", "warn", str(error), "the first `bus run` makes it")
    except StoreDown as error:
        return Check("store", "fail", str(error), "start it, or check BUS_STORE", unreachable=True)
    except StoreFailed as error:
        return Check("store", "fail", str(error), "name another store, or restore it", unreachable=True)
    shown = ", ".join(f"{number} {end}" for end, number in sorted(ends.items())) or "empty"
    return Check("store", "ok", f"{name}; of the newest 1000: {shown}")
