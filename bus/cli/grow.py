"""`bus topology grow`: more ingress partitions for a namespace that works, and how far that is."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, count, output_option, settings_of, settings_options
from bus.core.errors import BusError, NoStore, Unreachable
from bus.core.ingress import MOST, Ingress, grown

if TYPE_CHECKING:
    from bus.settings import Settings
    from bus.shell.history import History

_LOOK_S = 0.5
_SILENCE_S = 15.0  # after which a person should know that perhaps nobody is at it


@dataclass(frozen=True, slots=True)
class Left:
    """What the new generation waits for, over the partitions of the old one that are not drained.

    Args:
        partitions: how many those are; 0 when it is done.
        queues, messages: how many queues hold how many; None when the broker cannot be asked.
        unfinished, held: inputs that are recorded and not finished, and outputs that wait for their targets.
    """

    partitions: int
    queues: int | None = None
    messages: int | None = None
    unfinished: int = 0
    held: int = 0

    def __str__(self) -> str:
        queued = "" if self.messages is None else f"{count(self.queues or 0, 'queue')} with {self.messages} messages, "
        return (
            f"{count(self.partitions, 'partition')} to drain: {queued}{self.unfinished} inputs unfinished, "
            f"{self.held} outputs held"
        )


@click.command()
@click.option("--partitions", type=click.IntRange(1, MOST), required=True, help="How many there are to be.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done and show how far it is.")
@click.option("--despite-held", is_flag=True, help="Grow though outputs are held, which it then waits for.")
@settings_options
@output_option()
def grow(partitions: int, wait: bool, despite_held: bool, printer: Printer, **flags: Any) -> int:
    """Grow the number of ingress partitions while the bus runs; nothing is lost and order is kept.

    New partitions with queues of their own are made, and NS.in is led to them. The old ones are worked off first;
    for these seconds new messages wait in the new queues. Then all workers share the new ones. The old queues stay,
    empty. A crash on the way costs time only, and so does Ctrl-C: the growth goes on without this command, which can
    be given again to look on. Without a running bus it is done when one starts.

    Partitions never become fewer.

    Exit code 1 when outputs are held: nothing new would be decided until their targets take them.

    \b
    Examples:
      bus topology grow --partitions 8
      bus topology grow --partitions 8 --no-wait
      bus topology grow --partitions 8 --output json      progress as JSON lines, the last has "state": "done"
    """
    from bus import bootstrap
    from bus.bootstrap_roles import ask_growth

    settings = settings_of(flags)
    with contextlib.closing(bootstrap.history(settings)) as log:
        known = log.ingress()
        if not known.sizes:
            raise NoStore(
                f"no bus has worked on this namespace yet; start one with `bus run --partitions {partitions}`"
            )
        if grown(known, partitions) != known:
            held = sum(rows for _, rows in log.backlog().values())
            if held and not despite_held:
                raise click.ClickException(
                    f"{count(held, 'output')} held, for targets that are full or silent; while a namespace grows, "
                    "nothing new is decided until they are delivered. Start what consumes them (`bus doctor` names "
                    "it), then grow, or write --despite-held"
                )
            ask_growth(settings, partitions)
            printer.emit(
                {"state": "noted", "from": known.last.size, "to": partitions},
                f"{known.last.size} -> {partitions} partitions: noted",
            )
        if wait:
            _look_on(settings, log, partitions, printer)
    return 0


def _look_on(settings: Settings, log: History, partitions: int, printer: Printer) -> None:
    """Say what is left whenever it changes, until nothing is."""
    said, since = "", time.monotonic()
    while True:
        ingress = log.ingress()
        if ingress.last.size == partitions and not ingress.growing:
            break
        left = _left(settings, log, ingress) if ingress.last.size == partitions else None
        text = (
            "the bus has not taken it up yet; it does while it runs and nothing is paused"
            if left is None
            else str(left)
        )
        if text != said:
            said, since = text, time.monotonic()
            printer.emit({"state": "waiting" if left is None else "draining", **_fields(left)}, text)
        elif time.monotonic() - since > _SILENCE_S:
            since = time.monotonic()
            printer.note("nothing has changed for a while; is `bus run` up? See `bus doctor`")
        time.sleep(_LOOK_S)
    printer.emit(
        {"state": "done", "partitions": partitions},
        f"done: {partitions} partitions; where BUS_PARTITIONS is set, write {partitions} or take it out",
    )


def _fields(left: Left | None) -> dict[str, int | None]:
    if left is None:
        return {}
    return {name: getattr(left, name) for name in ("partitions", "queues", "messages", "unfinished", "held")}


def _left(settings: Settings, log: History, ingress: Ingress) -> Left:
    from bus import bootstrap
    from bus.core.naming import ingress_queue
    from bus.shell.probe import connection, queue_states

    backlog = log.backlog()
    rows = [backlog.get(each, (0, 0)) for each in ingress.left]
    unfinished, held = sum(row[0] for row in rows), sum(row[1] for row in rows)
    try:
        names = [ingress_queue(settings.namespace, each) for each in ingress.left]
        with connection(bootstrap.bus_url(bootstrap.running(settings))) as opened:
            depths = [state.depth for state in queue_states(opened, names).values() if state is not None]
    except (Unreachable, BusError):
        return Left(len(ingress.left), None, None, unfinished, held)
    return Left(len(ingress.left), sum(depth > 0 for depth in depths), sum(depths), unfinished, held)
