"""Work off a backlog that stands in the broker, by the bus or by a baseline, and say what it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bus.cli.bench.stage import Stage
from bus.core.errors import BusError

if TYPE_CHECKING:
    from bus.core.table import RouteTable
    from bus.shell.bench.cores import Cores


@dataclass(frozen=True, slots=True)
class Relayed:
    """Args:
    count: messages.
    wall_s, cpu_s, decide_s: seconds it took, seconds of CPU of this process, and what of it went into deciding.
    commits: how many it took.
    cores: what the machine's cores did meanwhile, where that can be told.
    """

    count: int
    wall_s: float
    cpu_s: float
    decide_s: float = 0.0
    commits: int = 0
    cores: Cores | None = None

    @property
    def msgs_per_s(self) -> float:
        """Messages a second."""
        return self.count / self.wall_s

    def us(self, seconds: float) -> float:
        """So many seconds, in microseconds a message."""
        return seconds / self.count * 1e6


def by_bus(
    stage: Stage,
    run: str,
    count: int,
    routes: RouteTable | None = None,
    begun: Callable[[], None] = lambda: None,
    ends: Mapping[str, int] | None = None,
) -> Relayed:
    """Let one worker of this process work off what is in the ingress.

    The clock runs from the moment that it may consume to the moment that the last output is confirmed.

    Args:
        run: names the store: a fresh one.
        routes: other ones than the stage's.
        begun: called when the worker is about to consume, before the clock starts.
        ends: how its inputs end, when they are not one a message, which is routed.

    Returns:
        What it took; its count is that of the inputs.

    Raises:
        BusError: not every message got through.
    """
    from bus import bootstrap
    from bus.shell.bench.meter import CountingMeter
    from bus.shell.calm import calm_process
    from bus.shell.sqlite_store import SqliteStore

    expected = dict(ends or {"routed": count})
    inputs = sum(expected.values())
    clock = stage.stopwatch()
    meter = CountingMeter(inputs, clock)

    def turned(state: str) -> None:
        if state == "running":
            begun()
            clock.start()

    store = SqliteStore(stage.folder / f"{run}.db")
    try:
        worker = bootstrap.make_worker(stage.settings, routes or stage.routes, store, meter, on_state=turned)
        meter.done = worker.drain
        calm_process()  # as `bus run` does
        worker.run()
    finally:
        store.close()
    if meter.ends != expected or stage.empty_sink() != count:
        raise BusError(f"the benchmark's messages did not all get through: {meter.ends}; run it again")
    return Relayed(inputs, clock.wall_s, clock.cpu_s, meter.decide_s, meter.commits, clock.cores)


def by_bare_relay(stage: Stage, count: int) -> Relayed:
    """Move what is in the ingress over the bus's transport, unread.

    Raises:
        BusError: not every message got through.
    """
    from bus import bootstrap
    from bus.shell.bench.bare import BareRelay

    settings = stage.settings
    transport = bootstrap.transport(settings, stage.routes)
    bare = BareRelay(
        transport, settings.namespace, settings.first_partitions, settings.prefetch, count, stage.stopwatch()
    )
    transport.run(bare)
    moved = stage.empty_sink()
    if moved != count:
        raise BusError(f"the bare relay moved {moved} messages of {count}; run the benchmark again")
    return Relayed(count, bare.clock.wall_s, bare.clock.cpu_s, cores=bare.clock.cores)


def by_shovel(stage: Stage, run: str, count: int) -> Relayed:
    """Let RabbitMQ's own shovel move a backlog of the same size and bodies, filled here."""
    from bus import bootstrap
    from bus.shell.bench.shovel import Shovel

    name = f"{stage.settings.namespace}.shovel.{run}"
    shovel = Shovel(stage.settings.home, bootstrap.bus_url(stage.settings), name, count)
    with shovel.ready() as let_go:
        stage.fill_queue(run, count, shovel.source)
        clock = stage.stopwatch()

        def go() -> None:
            clock.start()
            let_go()

        seconds = shovel.move(go, clock.stop)
        return Relayed(count, seconds, 0.0, cores=clock.cores)
