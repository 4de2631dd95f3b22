"""The composition root's part for `bus run`: which roles this process has, and which processes it starts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from bus import bootstrap
from bus.core.errors import BusError
from bus.settings import Settings, environment

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from bus.bootstrap_config import Source
    from bus.config.loading import Loaded
    from bus.core.route import Agent
    from bus.core.table import RouteTable
    from bus.shell.gateway.serve import Gateway


@contextlib.contextmanager
def gateway(settings: Settings, routes: RouteTable, registry: CollectorRegistry) -> Iterator[Gateway | None]:
    """Run the gateway for the block, if any integration declares one.

    Args:
        settings: from `open_broker`. It logs in as the bus does, or as a broker user `gateway` of its own.
        routes: the compiled configuration.
        registry: gets its metrics.

    Raises:
        BusError: it cannot listen.
    """
    if not routes.catalog.entrances:
        yield None
        return
    from adapters.link import AmqpLink
    from bus.core.identity import GATEWAY
    from bus.shell.gateway.results import Results
    from bus.shell.gateway.serve import Gateway
    from bus.shell.telemetry.gateway import GatewayMeter

    host, port = settings.http_address
    own = dataclasses.replace(settings, agent_amqp_url=bootstrap.bus_url(settings), connect_timeout_s=math.inf)
    results = Results(partial(bootstrap.history, settings))
    limits = bootstrap.facts(settings).limits
    meter = GatewayMeter(routes.catalog)
    registry.register(meter)
    opened = Gateway(routes.catalog, AmqpLink(own, GATEWAY), results, limits, meter, settings.namespace, host, port)
    try:
        yield opened
    finally:
        opened.close()


def run_all(
    settings: Settings,
    routes: RouteTable,
    ready: Callable[[int | None, int | None], None],
    waiting: Callable[[str, int | None], None],
    source: Source,
) -> None:
    """Run the bus, and beside it the gateway if there is one; as `bootstrap.run_bus`.

    Args:
        ready: called with the ports of the metrics endpoint and of the gateway.
        source: where the configuration is from.
    """
    ports: list[int] = []

    @contextlib.contextmanager
    def beside(registry: CollectorRegistry) -> Iterator[None]:
        with gateway(settings, routes, registry) as opened:
            ports.extend([] if opened is None else [opened.port])
            if opened is not None:
                source.followers.append(opened.follow)
            yield

    bootstrap.run_bus(
        settings, routes, lambda metrics: ready(metrics, ports[0] if ports else None), waiting, beside, source
    )


def run_gateway(
    settings: Settings, routes: RouteTable, ready: Callable[[int | None, int], None], source: Source
) -> None:
    """Run the gateway alone until SIGTERM or SIGINT; several may run, on as many machines as can read the store.

    Args:
        ready: called once, when it is connected, with the ports of its metrics endpoint and its own.
        source: where the configuration is from.

    Raises:
        BusError: no integration declares a gateway, or it cannot listen.
    """
    from prometheus_client import CollectorRegistry

    from bus.shell.signals import graceful

    if not routes.catalog.entrances:
        raise BusError("no integration declares a `gateway`; write one, or leave out `--role gateway`")
    done, connected, registry = threading.Event(), threading.Event(), CollectorRegistry()

    def unready() -> str:
        return "" if connected.is_set() else "the gateway is not connected to the broker"

    with contextlib.ExitStack() as open_things:
        metrics = bootstrap.endpoint(settings, registry, unready, open_things)
        stopping = open_things.enter_context(graceful())
        opened = open_things.enter_context(gateway(settings, routes, registry))
        assert opened is not None
        opened.ready.wait()
        connected.set()
        stopping.drain = done.set
        reloader = source.changing(opened, lambda catalog: None)
        reloader.start()
        stopping.reload = lambda: reloader.ask("SIGHUP")
        ready(metrics, opened.port)
        done.wait()
        reloader.close()


def run_workers(
    settings: Settings,
    source: Source,
    workers: int,
    say: Callable[[str], None],
    ready: Callable[[int | None], None],
    gateway: bool = False,
) -> None:
    """Run several workers as processes of their own until SIGTERM or SIGINT; one that dies is started again.

    Args:
        settings: from `open_broker`; their store must be PostgreSQL.
        source: the integrations, which each worker loads, and takes up anew as it says; SIGHUP goes to each of them.
        say: told when a worker dies and comes back.
        ready: called once, when every worker works or stands by, with the port of the gateway if there is one.
        gateway: whether one more process runs the gateway.

    Raises:
        BusError: a worker ended before it was ready.
    """
    from bus.shell.crew import run_crew
    from bus.shell.growth import begin_ingress
    from bus.shell.supervisor import Part

    with contextlib.closing(bootstrap.open_store(settings)) as store:
        begin_ingress(store, settings.partitions, settings.first_partitions)
    parts, folders = [], [str(each) for each in source.folders]
    for number in range(workers + gateway):
        last = number == workers
        port = settings.metrics_port + number if settings.metrics_port > 0 else settings.metrics_port
        environment = dataclasses.replace(settings, metrics_port=port, partitions=None).as_environment()
        role = "gateway" if last else "router"
        arguments = ["bus", "run", *folders, "--role", role, "--output", "json", *source.options]
        parts.append(Part(role if last else f"worker {number + 1}", arguments, environment, None, say))
    asyncio.run(run_crew(parts, lambda: ready(cast("int | None", parts[-1].announced.get("http_port")))))


def ask_growth(settings: Settings, partitions: int) -> None:
    """Leave word that the namespace is to grow; its workers do it, now or when they start.

    Raises:
        BusError: it cannot grow so.
        StoreFailed: the store cannot be written.
    """
    from bus.shell import growth_wish
    from bus.shell.growth import note_growth

    if settings.store_url is None:
        return growth_wish.leave(settings.store_path, partitions)
    with contextlib.closing(bootstrap.open_store(settings)) as store:
        return note_growth(store, partitions)


def run_agents(settings: Settings, loaded: Loaded, only: Sequence[str], ready: Callable[[list[str]], None]) -> None:
    """Run the declared agents, but those that connect by themselves, until SIGTERM or SIGINT.

    Args:
        settings: from `running` or `open_broker`.
        only: names of the agents to run; all when empty.
        ready: called once, with their names, when every one of them consumes.

    Raises:
        BusError: an agent is unknown or its settings are wrong.
        ConfigurationRefused: the configuration has errors.
    """
    from adapters.host import EXTERNAL

    agents = bootstrap.table(loaded).catalog.agents
    unknown = [name for name in only if name not in agents]
    if unknown:
        raise BusError(f"no agent `{unknown[0]}` is declared; write one of {', '.join(sorted(agents))}")
    chosen = [agent for agent in agents.values() if agent.adapter != EXTERNAL and (not only or agent.name in only)]
    asyncio.run(_host(chosen, settings, ready))


async def _host(agents: Sequence[Agent], settings: Settings, ready: Callable[[list[str]], None]) -> None:
    from adapters.host import host

    names = [agent.name for agent in agents]
    waited_for = set(names)

    def one_ready(name: str) -> None:
        if name in waited_for:
            waited_for.remove(name)
            if not waited_for:
                ready(names)

    if not names:
        ready([])
    work = asyncio.ensure_future(host(agents, settings, environment(), one_ready))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        # SIGTERM cancels the work alone: an ordinary end. SIGINT cancels this task: let asyncio.run say so.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
