"""What every benchmark stands on: a broker, a namespace of its own, the routes, and backlogs put into the broker."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, settings_of, terminable
from bus.core import naming

if TYPE_CHECKING:
    from bus.core.table import RouteTable
    from bus.settings import Settings
    from bus.shell.bench.clock import Stopwatch

SETTLE_S = 1.0  # after a fill the broker still writes; a measurement begins when it is through
SETTLED = 10_000  # messages that need all of this pause; fewer need less

NO_SHOVEL = (
    "no baseline: RabbitMQ's shovel is set up with rabbitmqctl, which `bus bench` runs on its private node only; "
    "leave out --amqp-url and BUS_AMQP_URL to get it"
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Args:
    settings: of the open broker, with a namespace of our own.
    private: the broker is the private node of `settings.home`.
    folder: for stores and routes; goes away at the end.
    integration: the folder with the routes.
    routes: the same, compiled.
    printer: where notes go.
    broker_pid: process of the private node.
    """

    settings: Settings
    private: bool
    folder: Path
    integration: Path
    routes: RouteTable
    printer: Printer
    broker_pid: int | None = None

    def fill(self, run: str, count: int, kind: Callable[[int], str] | None = None) -> None:
        """Put a backlog into the ingress, and let the broker settle."""
        from bus.shell.bench.load import ORDER, into_ingress

        place = into_ingress(self.settings.namespace)
        self._fill(run, count, place, kind or (lambda number: ORDER))

    def fill_queue(self, run: str, count: int, queue: str) -> None:
        """Put the same backlog straight into a queue."""
        from bus.shell.bench.load import ORDER, into_queue

        self._fill(run, count, into_queue(queue), lambda number: ORDER)

    def _fill(self, run: str, count: int, place: Callable[[int], tuple[str, str]], kind: Callable[[int], str]) -> None:
        from bus import bootstrap
        from bus.shell.bench.load import Fill

        transport = bootstrap.transport(self.settings, self.routes)
        transport.run(Fill(transport, run, count, place, kind))
        time.sleep(SETTLE_S * min(1.0, count / SETTLED))

    def stopwatch(self) -> Stopwatch:
        """A clock that also tells what the cores did, where we know the broker's process."""
        from bus.shell.bench.clock import Stopwatch
        from bus.shell.bench.cores import CoreTimes

        return Stopwatch(None if self.broker_pid is None else CoreTimes(self.broker_pid))

    def empty_sink(self) -> int:
        """Take out what a relay has delivered; returns how much it was."""
        from bus import bootstrap
        from bus.shell.bench.load import SINK
        from bus.shell.probe import connection

        with connection(bootstrap.bus_url(self.settings)) as opened:
            queue = naming.capability_queue(self.settings.namespace, SINK)
            return int(opened.channel().queue_purge(queue).method.message_count)


@contextlib.contextmanager
def stage(flags: Mapping[str, Any], printer: Printer, write: Callable[[Path], Path]) -> Iterator[Stage]:
    """Set everything up, and take it down whatever happens.

    Args:
        flags: the settings' flags of the command.
        printer: where notes go.
        write: writes the integration into a folder, and returns its own.
    """
    from bus import bootstrap
    from bus.shell.probe import connection

    # One broker user sends and consumes everything: who says so is not what is measured.
    asked = dataclasses.replace(settings_of(flags), namespace=f"bench-{secrets.token_hex(4)}", identity="shared")
    with terminable(), tempfile.TemporaryDirectory(prefix="agentbus-bench-") as folder:
        integration = write(Path(folder))
        routes = bootstrap.table(bootstrap.load([integration]))
        broker = bootstrap.open_broker(asked, printer.note)
        with contextlib.ExitStack() as left:
            left.callback(broker.stop)
            with connection(bootstrap.bus_url(broker.settings)):
                pass  # says at once that nobody is there; the transport would try for a minute
            left.callback(bootstrap.remove_namespace, broker.settings, routes)
            yield Stage(broker.settings, broker.private, Path(folder), integration, routes, printer, broker.pid)


def counts_up_to(most: int, example: str) -> Callable[[click.Context, click.Parameter, str], list[int]]:
    """Make the callback of an option that is a list of different numbers from 1 to `most`; what is no such list is
    answered with `example`."""

    def read(_ctx: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
        try:
            counts = [int(each) for each in text.split(",")]
        except ValueError:
            raise click.BadParameter(f"`{text}` is no list of numbers; write for example {example}") from None
        if any(not 1 <= each <= most for each in counts) or len(set(counts)) != len(counts):
            raise click.BadParameter(f"write different numbers from 1 to {most}, such as {example}")
        return counts

    return read


def in_turns(rounds: int, sides: list[Callable[[int], None]]) -> None:
    """Run all sides in each round, the other way round in every second: what drifts hits all of them alike."""
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            side(number)


def rate(count: int, seconds: float) -> int:
    """Messages a second."""
    return round(count / seconds)


def middle(values: list[float], digits: int = 1) -> float:
    """The median, rounded."""
    return round(median(values), digits)
