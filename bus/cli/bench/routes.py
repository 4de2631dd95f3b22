"""`bus bench routes`: whether the number of routes slows the bus down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.bench.relaying import by_bus
from bus.cli.bench.stage import Stage, counts_up_to, in_turns, middle, stage
from bus.cli.common import Printer, broker_options, output_option

if TYPE_CHECKING:
    from bus.core.table import RouteTable

_MOST = 100_000


@click.command()
@click.option(
    "--routes",
    "counts",
    default="10,100,1000,10000",
    show_default=True,
    callback=counts_up_to(_MOST, "10,100,1000"),
    help="How many.",
)
@click.option("--messages", type=click.IntRange(100, 5_000_000), default=10_000, show_default=True, help="In each run.")
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, help="Rounds of all runs.")
@broker_options
@output_option()
def routes(counts: list[int], messages: int, repeat: int, printer: Printer, **flags: Any) -> int:
    """Relay a backlog as `bus bench relay` does, with ever more routes in the configuration.

    Half of the routes match an exact type, half a glob; all do the same work. Measured are messages that none of
    them is for, but one more route (`msgs_per_s`), and messages spread over all of them (`spread_msgs_per_s`). The
    baseline is the first number of routes; all take turns. Told are medians; the ratios are those of the rounds'.
    A few hundred are loaded from YAML; further ones share their compiled steps.

    \b
    Examples:
      bus bench routes
      bus bench routes --routes 10,1000 --messages 5000 --output json
    """
    from bus.shell.bench.scene import LOADED, write_scene

    printer.note("loading routes")

    def write(folder: Path) -> Path:
        return write_scene(folder, min(LOADED, max(counts)))

    with stage(flags, printer, write) as on:
        measured = _measure(on, counts, messages, repeat)
    for count in counts:
        row = {"routes": count, "messages": messages, **_row(measured, counts[0], count)}
        printer.emit(
            row,
            f"{count:>7,} routes: {row['msgs_per_s']:>7,} msg/s, ratio {row['ratio']:.2f}; "
            f"spread {row['spread_msgs_per_s']:>7,} msg/s, ratio {row['spread_ratio']:.2f}",
        )
    return 0


_Measured = Mapping[tuple[int, bool], list[float]]
"""Messages a second, round by round, of (number of routes, spread over them)."""


def _measure(on: Stage, counts: list[int], messages: int, repeat: int) -> _Measured:
    from bus.core.table import RouteTable
    from bus.shell.bench.scene import with_others

    measured: dict[tuple[int, bool], list[float]] = {
        (count, spread): [] for count in counts for spread in (False, True)
    }

    def side(count: int, spread: bool, table: RouteTable, number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: {count} routes{', spread' if spread else ''}")
        run = f"{count}-{number}-{spread:d}"
        on.fill(run, messages, _kinds(count) if spread else None)
        measured[count, spread].append(by_bus(on, run, messages, table).msgs_per_s)

    sides: list[Callable[[int], None]] = []
    for count in counts:
        table = RouteTable(with_others(on.routes.catalog, count))
        sides += [partial(side, count, spread, table) for spread in (False, True)]
    in_turns(repeat, sides)
    return measured


def _kinds(count: int) -> Callable[[int], str]:
    """The type of the message of a number, when messages are spread over so many routes."""
    from bus.shell.bench.scene import other

    types = [other(number)[1] for number in range(count)]
    return lambda number: types[number % count]


def _row(measured: _Measured, first: int, count: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for spread, prefix in ((False, ""), (True, "spread_")):
        rates = measured[count, spread]
        ratios = [rate / base for rate, base in zip(rates, measured[first, spread], strict=True)]
        row[f"{prefix}msgs_per_s"] = round(middle(rates))
        row[f"{prefix}ratio"] = middle(ratios, 2)
        row[f"{prefix}runs"] = [round(rate) for rate in rates]
    return row
