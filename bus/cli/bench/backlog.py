"""`bus bench backlog`: a large backlog and one bus, and how much memory it takes for it."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.bench.relaying import by_shovel
from bus.cli.bench.stage import NO_SHOVEL, Stage, stage
from bus.cli.common import Printer, broker_options, output_option
from bus.core import naming

if TYPE_CHECKING:
    from bus.shell.bench.bus_process import BusProcess

_SAMPLE_S = 0.2
_SHOWN = 20  # samples of memory that are told


@click.command()
@click.option("--messages", type=click.IntRange(1000, 50_000_000), default=500_000, show_default=True, help="How many.")
@broker_options
@output_option()
def backlog(messages: int, printer: Printer, **flags: Any) -> int:
    """Work off a large backlog with one bus in a process of its own, and watch its memory.

    The work is that of `bus bench relay`. Memory is the process's resident set as /proc tells it, five times a
    second; its baseline is the same process before the first message. The rate counts from the first message
    delivered to the last; its baseline is RabbitMQ's own shovel on a backlog of the same size, on the private node.
    A message takes about 1 KB of disk in the broker and in the log each, in TMPDIR and --home.

    \b
    Examples:
      bus bench backlog
      bus bench backlog --messages 50000 --output json
    """
    from bus.shell.bench.scene import write_scene

    with stage(flags, printer, write_scene) as on:
        if not on.private:
            click.echo(f"bus: {NO_SHOVEL}", err=True)
        printer.note(f"filling {messages} messages")
        on.fill("b", messages)
        result = {"messages": messages, **_work_off(on, messages)}
        on.empty_sink()
        shovel = None
        if on.private:
            printer.note(f"the shovel, {messages} messages")
            shovel = by_shovel(on, "s", messages).msgs_per_s
    result |= {
        "baseline": NO_SHOVEL if shovel is None else "RabbitMQ's shovel, in the broker, on-confirm",
        "baseline_msgs_per_s": None if shovel is None else round(shovel),
        "ratio": None if shovel is None else round(result["bus_msgs_per_s"] / shovel, 2),
    }
    printer.emit(result, _text(result))
    return 0


def _work_off(on: Stage, messages: int) -> dict[str, Any]:
    from bus import bootstrap
    from bus.shell.bench.bus_process import bus_process
    from bus.shell.bench.load import SINK
    from bus.shell.bench.release import held, passed

    settings, url = on.settings, bootstrap.bus_url(on.settings)
    partitions = [naming.ingress_queue(settings.namespace, number) for number in range(settings.first_partitions)]
    sink = naming.capability_queue(settings.namespace, SINK)
    with held(url, partitions) as let_go, bus_process(settings, on.integration, on.folder) as process:
        on.printer.note("working it off")
        memory = _Memory(process)
        seconds = passed(url, sink, messages, let_go, memory.look)
        max_mb = process.max_rss_mb()
    return {
        "bus_msgs_per_s": round(messages / seconds),
        "idle_rss_mb": round(memory.idle_mb, 1),
        "max_rss_mb": round(max_mb, 1),
        "rss_ratio": round(max_mb / memory.idle_mb, 2),
        "rss": memory.told(),
    }


class _Memory:
    """Memory of a process over time, beside how much of the backlog it has done."""

    def __init__(self, process: BusProcess) -> None:
        self._process = process
        self._samples: list[tuple[float, float, int]] = []
        self.idle_mb = process.rss_mb()

    def look(self, seconds: float, done: int) -> None:
        """Take a sample, if the last one is old enough."""
        if not self._samples or seconds - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((seconds, self._process.rss_mb(), done))

    def told(self) -> list[dict[str, float | int]]:
        """A few samples, the last among them."""
        every = max(1, ceil(len(self._samples) / _SHOWN))
        chosen = self._samples[::-1][::every][::-1]
        return [{"s": round(at, 1), "mb": round(mb, 1), "done": done} for at, mb, done in chosen]


def _text(result: dict[str, Any]) -> str:
    shovel = result["baseline_msgs_per_s"]
    beside = "" if shovel is None else f", shovel {shovel:,} msg/s, ratio {result['ratio']}"
    rows = "\n".join(f"{row['s']:7.1f} s {row['done']:>10,} done {row['mb']:8.1f} MB" for row in result["rss"])
    return (
        f"bus {result['bus_msgs_per_s']:,} msg/s{beside}\n"
        f"memory: {result['idle_rss_mb']} MB idle, {result['max_rss_mb']} MB at most, ratio {result['rss_ratio']}\n"
        f"{rows}"
    )
