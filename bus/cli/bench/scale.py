"""`bus bench scale`: a backlog and ever more workers on one PostgreSQL store."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rich_click as click

from bus.cli.bench.relaying import by_shovel
from bus.cli.bench.stage import NO_SHOVEL, Stage, counts_up_to, in_turns, middle, stage
from bus.cli.common import Printer, count, output_option, settings_of, settings_options
from bus.core import naming

_MOST = 32
_SPREAD_S = 3.0  # a lease's time: by then every worker has its share of the partitions


@click.command()
@click.option(
    "--workers",
    "counts",
    default="1,2,3",
    show_default=True,
    callback=counts_up_to(_MOST, "1,2,4"),
    help="How many, in turns.",
)
@click.option("--messages", type=click.IntRange(100, 5_000_000), default=20_000, show_default=True, help="In each run.")
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, help="Rounds of all runs.")
@settings_options
@output_option()
def scale(counts: list[int], messages: int, repeat: int, printer: Printer, **flags: Any) -> int:
    """Relay a backlog as `bus bench relay` does, with ever more workers, each a process, on one PostgreSQL store.

    Broker, database and workers share this machine: more workers than cores to spare bring nothing. The rate counts
    from the first message delivered to the last. The baselines are the first number of workers, and RabbitMQ's own
    shovel, which needs the private node; all take turns. Told are medians; the ratios are those of the rounds'.

    \b
    Examples:
      bus bench scale --store postgresql://bus:secret@127.0.0.1/bus
      bus bench scale --store postgresql://bus:secret@db/bus --workers 1,2,4,8 --messages 100000 --output json
    """
    from bus.shell.bench.scene import write_scene

    if settings_of(flags).store_url is None:
        raise click.BadParameter(
            "several workers share a PostgreSQL store; write --store postgresql://USER:PASSWORD@HOST/DATABASE",
            param_hint="--store",
        )
    with stage(flags, printer, write_scene) as on:
        if not on.private:
            click.echo(f"bus: {NO_SHOVEL}", err=True)
        rates, shovels = _measure(on, counts, messages, repeat)
    for each in counts:
        ratios = [rate / base for rate, base in zip(rates[each], rates[counts[0]], strict=True)]
        row = {
            "workers": each,
            "messages": messages,
            "msgs_per_s": round(middle(rates[each])),
            "ratio": middle(ratios, 2),
            "baseline": "RabbitMQ's shovel, in the broker, on-confirm" if shovels else NO_SHOVEL,
            "baseline_msgs_per_s": round(middle(shovels)) if shovels else None,
            "ratio_to_shovel": middle([a / b for a, b in zip(rates[each], shovels, strict=True)], 2)
            if shovels
            else None,
        }
        beside = f"; {row['ratio_to_shovel']} of the shovel's {row['baseline_msgs_per_s']:,}" if shovels else ""
        printer.emit(
            row, f"{count(each, 'worker'):>10}: {row['msgs_per_s']:>7,} msg/s, ratio {row['ratio']:.2f}{beside}"
        )
    return 0


def _measure(on: Stage, counts: list[int], messages: int, repeat: int) -> tuple[dict[int, list[float]], list[float]]:
    rates: dict[int, list[float]] = {each: [] for each in counts}
    shovels: list[float] = []

    def bus(workers: int, number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: {count(workers, 'worker')}")
        on.fill(f"{workers}-{number}", messages)
        rates[workers].append(messages / _work_off(on, workers, messages))
        on.empty_sink()

    def shovel(number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: the shovel")
        shovels.append(by_shovel(on, f"s{number}", messages).msgs_per_s)

    sides: list[Callable[[int], None]] = [partial(bus, each) for each in counts]
    in_turns(repeat, [*sides, shovel] if on.private else sides)
    return rates, shovels


def _work_off(on: Stage, workers: int, messages: int) -> float:
    """Seconds that so many workers take for the backlog in the ingress."""
    from bus import bootstrap
    from bus.shell.bench.bus_process import bus_process
    from bus.shell.bench.load import SINK
    from bus.shell.bench.release import held, passed

    settings, url = on.settings, bootstrap.bus_url(on.settings)
    partitions = [naming.ingress_queue(settings.namespace, number) for number in range(settings.first_partitions)]
    sink = naming.capability_queue(settings.namespace, SINK)
    with (
        held(url, partitions) as let_go,
        bus_process(settings, on.integration, on.folder, store=settings.store, workers=workers),
    ):
        time.sleep(_SPREAD_S)
        return passed(url, sink, messages, let_go)
