"""The composition root: the only place that picks implementations.

Everything else is handed what it needs. A command asks for what it wants by what it is for (`load`, `running`,
`agent_link`, `history`, `run_bus`), and imports follow the call, so that `bus lint` never loads an AMQP library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bus import bootstrap_config
from bus.core.errors import BusError, ConfigurationRefused, Unreachable
from bus.core.facts import Facts, Limits
from bus.settings import Settings
from bus.settings import environment as current_environment

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from bus.config.loading import Loaded
    from bus.config.watch import Watch
    from bus.core.table import RouteTable
    from bus.ports import AgentLink, Blobs, Meter, Store, Transport
    from bus.rehearsal.coverage import Coverage
    from bus.shell.controls import Standing
    from bus.shell.history import History
    from bus.shell.telemetry.spans import SpanRecorder
    from bus.shell.trial.apart import Apart
    from bus.shell.watchdog import Vitals
    from bus.shell.worker import Worker

Progress = Callable[[str], None]

_IDENTITIES: Mapping[str, Literal["broker", "shared"]] = {"broker": "broker", "shared": "shared"}


# --- Configuration ------------------------------------------------------------------------------------------------


def load(
    folders: Sequence[Path],
    environment: Mapping[str, str] | None = None,
    *,
    watch: Watch | None = None,
    tests: bool = False,
    coverage: Coverage | None = None,
    secrets: bool = True,
    published: Sequence[Path] | None = None,
) -> Loaded:
    """Read the integrations in `folders`, with every finding; never refuses.

    Args:
        folders: integrations, or folders of integrations.
        environment: what `${VAR}` in agents and integration documents reads; the process's own unless given.
        watch: notes down what expressions do, for `bus explain`.
        tests: read the route tests too.
        coverage: notes what of the routes runs; for tests only.
        secrets: refuse a configuration without its secrets; where no agent is run, nobody needs them.
        published: the same as they were published, whose contracts these must keep.
    """
    from bus.config import loading
    from bus.core.registry import STEPS

    variables = current_environment() if environment is None else environment
    return loading.load(
        folders, variables, STEPS, watch=watch, tests=tests, coverage=coverage, secrets=secrets, published=published
    )


def load_against(folders: Sequence[Path], published: str, *, tests: bool = False) -> Loaded:
    """Read the integrations in `folders`, and hold their contracts against those that were published.

    Args:
        published: a folder of integrations, or a branch, tag or commit of the repository that `folders` are in.
        tests: read the route tests too.

    Raises:
        BusError: it is neither.
    """
    from bus.shell.git_tree import taken_out

    if Path(published).is_dir():
        return load(folders, tests=tests, published=[Path(published)])
    with tempfile.TemporaryDirectory(prefix="bus-published-") as scratch:
        return load(folders, tests=tests, published=taken_out(published, folders, Path(scratch)))


def table(loaded: Loaded) -> RouteTable:
    """Build the route table.

    Raises:
        ConfigurationRefused: the configuration has errors; the message lists all of them.
    """
    from bus.core.table import RouteTable

    errors = [str(each) for each in loaded.findings if each.severity == "error"]
    if loaded.catalog is None or errors:
        raise ConfigurationRefused("the configuration has errors:\n" + "\n".join(errors))
    return RouteTable(loaded.catalog)


def facts(settings: Settings | None = None, *, now_s: float = 0.0, seal: bytes | None = None) -> Facts:
    """What the core is told: limits and identity from the settings, the time from the caller.

    Args:
        now_s: epoch seconds; the worker sets it anew for each batch.
        seal: the store's secret; without one a random key, good for explaining only.
    """
    from bus.core.times import rfc3339

    settings = settings or Settings()
    identity = _IDENTITIES.get(settings.identity or "shared")
    if identity is None:
        raise BusError(f"BUS_IDENTITY is `{settings.identity}`; write {' or '.join(_IDENTITIES)}")
    return Facts(
        now_s=now_s,
        now=rfc3339(now_s),
        seal=seal or secrets.token_bytes(32),
        bus_user=settings.bus_user,
        identity=identity,
        limits=Limits(body_bytes=settings.body_bytes, hops=settings.hops),
    )


# --- Broker -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenBroker:
    """A broker to run a bus on.

    Args:
        settings: as given, with both URLs, the bus's user and the identity rule filled in.
        private: a node of our own, in `settings.home`.
        stop: stops the private node if this process owns it; nothing otherwise. Idempotent.
        revive: starts the private node again when it has died, under the same URLs; says whether it had to.
        pid: process of the private node, as it was opened.
    """

    settings: Settings
    private: bool
    stop: Callable[[], None]
    revive: Callable[[], bool] = lambda: False
    pid: int | None = None


def open_broker(settings: Settings, progress: Progress) -> OpenBroker:
    """Use the configured broker, or start (or find) the private node of `settings.home`.

    Raises:
        Unreachable: the private node cannot be started.
    """
    if settings.amqp_url:
        return OpenBroker(_with_urls(settings, settings.amqp_url, settings.agent_amqp_url), False, lambda: None)
    from bus.shell.broker import start_broker

    nodes = [start_broker(settings.home, progress=progress)]

    def revive() -> bool:
        if nodes[-1].alive:
            return False
        nodes.append(start_broker(settings.home, progress=progress))
        return True

    urls = _with_urls(settings, nodes[0].bus_url, nodes[0].agent_url, "shared")
    return OpenBroker(urls, True, lambda: nodes[-1].stop(), revive, nodes[0].pid)


def running(settings: Settings) -> Settings:
    """Settings of a bus that runs: the configured broker, or the private node that `settings.home` tells of.

    Raises:
        Unreachable: no broker is configured and none was started in `settings.home`.
    """
    if settings.amqp_url:
        return _with_urls(settings, settings.amqp_url, settings.agent_amqp_url)
    from bus.shell.broker import Process

    state = settings.home / "broker.json"
    try:
        node = json.loads(state.read_bytes())
        if node["server"] is not None and Process(**node["server"]).alive:
            return _with_urls(settings, str(node["bus_url"]), str(node["agent_url"]), "shared")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"{state} cannot be read ({error}); start the bus again, or set BUS_AMQP_URL") from error
    raise Unreachable(f"no bus runs in {settings.home}; start `bus dev` or `bus run` there, or set BUS_AMQP_URL")


def bus_url(settings: Settings) -> str:
    """The URL by which the bus itself logs in, of settings from `running` or `open_broker`."""
    if settings.amqp_url is None:
        raise Unreachable("no broker is known; set BUS_AMQP_URL")
    return settings.amqp_url


def _with_urls(settings: Settings, url: str, agent_url: str | None, identity: str = "broker") -> Settings:
    from bus.shell.probe import user_of

    return dataclasses.replace(
        settings,
        amqp_url=url,
        agent_amqp_url=agent_url or url,
        bus_user=user_of(url),  # the broker refuses a publish under any other name
        identity=settings.identity or identity,
    )


# --- What commands work on ----------------------------------------------------------------------------------------


def agent_link(settings: Settings, name: str) -> AgentLink:
    """An agent's or client's connection to the bus; `settings` from `running` or `open_broker`."""
    from adapters.link import AmqpLink

    return AmqpLink(settings, name)


def open_store(settings: Settings) -> Store:
    """The store that the bus writes: a file that this process then holds, or a database that several workers share.

    Raises:
        StoreFailed: it cannot be opened, or reached (StoreDown).
    """
    url = settings.store_url
    if url is None:
        from bus.shell.sqlite_store import SqliteStore

        return SqliteStore(settings.store_path)
    with _postgres_installed():
        from bus.shell.postgres_store import PostgresStore
    return PostgresStore(url, settings.namespace)


def open_blobs(settings: Settings) -> Blobs:
    """Where large values wait for their claim check.

    Raises:
        BusError: `settings.blobs` is a URL of something else, or there is no key for it.
    """
    where = settings.blobs or str(settings.home / "blobs")
    if "://" not in where:
        from bus.shell.blobs.folder import FolderBlobs

        return FolderBlobs(Path(where))
    from bus.shell.blobs.s3 import S3Blobs, place_of

    place = place_of(where)
    if not settings.blobs_key or not settings.blobs_secret:
        raise BusError("there is no key for the bucket of BUS_BLOBS; set BUS_BLOBS_KEY and BUS_BLOBS_SECRET")
    return S3Blobs(place, settings.blobs_key, settings.blobs_secret)


def history(settings: Settings) -> History:
    """The log, for reading, while the bus runs or not.

    Raises:
        NoStore: no bus has made the store yet.
        StoreFailed: it cannot be read, or reached (StoreDown).
    """
    from bus.shell.history import History

    url = settings.store_url
    if url is None:
        from bus.shell.sqlite_log import SqliteLog

        return History(SqliteLog(settings.store_path))
    with _postgres_installed():
        from bus.shell.postgres_log import PostgresLog
    return History(PostgresLog(url, settings.namespace, settings.home))


@contextlib.contextmanager
def _postgres_installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise BusError(
            f"a store in PostgreSQL needs psycopg ({error}); write `pip install 'agentbus[postgres]'`"
        ) from error


# --- The processes ------------------------------------------------------------------------------------------------


def run_bus(
    settings: Settings,
    routes: RouteTable,
    ready: Callable[[int | None], None],
    waiting: Callable[[str, int | None], None] = lambda reason, port: None,
    beside: Callable[[CollectorRegistry], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    source: bootstrap_config.Source | None = None,
) -> None:
    """Run the bus in this thread until SIGTERM or SIGINT, then drain; a second signal ends it at once.

    A store or a broker that is down is waited for, before the start as later. Returns after SIGTERM; after SIGINT it
    raises KeyboardInterrupt when it has drained, as any command does.

    Args:
        settings: from `open_broker`.
        routes: the compiled configuration.
        ready: called once, on this thread, when messages are taken, with the port of the metrics endpoint.
        waiting: called every few seconds at the start while something is down: what, and the same port.
        beside: what else this process does meanwhile, on threads of its own; given the registry of its metrics.
        source: where the configuration is from, for a bus that can take up another one; SIGHUP has it look.

    Raises:
        Unreachable: the broker's URL is none, or the broker turns us away.
        StoreFailed: the store cannot be used: wrong password, no such database, not this namespace's, held by another.
    """
    from bus import __version__
    from bus.shell.calm import calm_process
    from bus.shell.obedience import Obedience
    from bus.shell.readiness import Readiness
    from bus.shell.signals import graceful
    from bus.shell.telemetry.metrics import PrometheusMeter
    from bus.shell.telemetry.spans import recorder_for
    from bus.shell.watchdog import Vitals, watched

    with contextlib.ExitStack() as open_things:
        apart = bootstrap_config.apart(routes)  # first: it forks
        open_things.callback(apart.close)
        meter = PrometheusMeter(routes.catalog, __version__)
        told = Readiness(ready, waiting)
        told.port = endpoint(settings, meter.registry, lambda: told.wrong, open_things)
        stopping = open_things.enter_context(graceful())
        store = _bound_store(settings, told.waits, open_things)
        recorder = recorder_for(settings.otlp_endpoint, settings.namespace, __version__, meter.spans)
        open_things.callback(lambda: None if recorder is None else recorder.close())
        vitals, obedience = Vitals(), Obedience(settings.log_level)
        # From here on the transport waits for the broker and the worker for the store.
        for_ever = dataclasses.replace(settings, connect_timeout_s=math.inf)
        worker = make_worker(
            for_ever, routes, store, meter, on_state=told.turned, recorder=recorder, apart=apart, vitals=vitals,
            source=source, on_told=obedience.told,
        )  # fmt: skip
        if source is not None:
            reloader = open_things.enter_context(contextlib.closing(source.reloader(settings, worker, meter.reloaded)))
            reloader.start()
            stopping.reload, obedience.reload = partial(reloader.ask, "SIGHUP"), partial(reloader.ask, "bus control")
        open_things.enter_context(beside(meter.registry))
        stopping.drain = obedience.drain = worker.drain
        open_things.enter_context(watched(vitals, settings.stall_s))
        calm_process()
        worker.run()


def _bound_store(settings: Settings, waits: Callable[[str], None], open_things: contextlib.ExitStack) -> Store:
    """The store, when it and the broker are there and the namespace is this store's."""
    from bus.shell.patience import patiently
    from bus.shell.store_binding import bind_store

    store = patiently(lambda: open_store(settings), waits)
    open_things.callback(store.close)
    patiently(lambda: bind_store(bus_url(settings), settings.namespace, store.store_id), waits)
    return store


def make_worker(
    settings: Settings,
    routes: RouteTable,
    store: Store,
    meter: Meter,
    *,
    on_state: Callable[[str], None] = lambda state: None,
    recorder: SpanRecorder | None = None,
    apart: Apart | None = None,
    vitals: Vitals | None = None,
    source: bootstrap_config.Source | None = None,
    on_told: Callable[[Standing], None] = lambda standing: None,
) -> Worker:
    """Wire a worker to RabbitMQ; `settings` from `running` or `open_broker`.

    Raises:
        BusError: BUS_PARTITIONS is another number than it ever was.
    """
    from bus.shell.failpoints import failpoints
    from bus.shell.growth import begin_ingress
    from bus.shell.tenancy import Layout
    from bus.shell.topology import declare, plan
    from bus.shell.worker import Plan, Worker

    layout = Layout(begin_ingress(store, settings.partitions, settings.first_partitions))
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return Worker(
        # It declares what is known whenever it connects; where the ingress leads is the worker's.
        _link(
            settings,
            lambda channel: declare(
                channel, plan(settings.namespace, layout.declaring(), layout.catalog or routes.catalog)
            ),
        ),
        store,
        meter,
        routes,
        facts(settings, seal=store.secret),
        Plan(settings.namespace, settings.first_partitions, settings.prefetch, settings.inbox_window, name),
        on_state=on_state,
        on_finished=None if recorder is None else recorder.finished,
        reach=failpoints(settings.failpoints),
        apart=apart,
        blobs=open_blobs(settings),
        layout=layout,
        vitals=vitals,
        on_told=on_told,
        bundle=b"" if source is None else source.loaded.bundle.pack(),
        compiler=bootstrap_config.compiler(),
    )


def transport(settings: Settings, routes: RouteTable | None) -> Transport:
    """A link to RabbitMQ as `settings.amqp_url` says; with routes, it makes their topology when it connects."""
    from bus.core.ingress import Ingress
    from bus.shell.topology import apply, plan

    if routes is None:
        return _link(settings, lambda channel: None)
    topology = plan(settings.namespace, Ingress((settings.first_partitions,)), routes.catalog)
    return _link(settings, partial(apply, topology=topology))


def _link(settings: Settings, declare: Callable[[object], None]) -> Transport:
    from bus.shell.amqp.transport import PikaTransport

    return PikaTransport(
        bus_url(settings),
        declare,
        connect_timeout_s=settings.connect_timeout_s,
        logger=logging.getLogger("bus.transport"),
    )


def remove_namespace(settings: Settings, routes: RouteTable) -> None:
    """Delete a namespace with all it holds: for benchmarks, which make their own."""
    from bus.core.ingress import Ingress
    from bus.shell.probe import remove
    from bus.shell.topology import plan

    remove(bus_url(settings), plan(settings.namespace, Ingress((settings.first_partitions,)), routes.catalog))
    if settings.store_url is not None:
        with _postgres_installed():
            from bus.shell.postgres_link import drop_schema
        drop_schema(settings.store_url, settings.namespace)


def endpoint(
    settings: Settings, registry: CollectorRegistry, unready: Callable[[], str], open_things: contextlib.ExitStack
) -> int | None:
    """Open the endpoint for Prometheus and probes; returns its port, or None when it is turned off."""
    if settings.metrics_port < 0:
        return None
    from bus.shell.telemetry.endpoint import TelemetryEndpoint

    try:
        opened = TelemetryEndpoint(registry, unready, port=settings.metrics_port)
    except OSError as error:
        raise BusError(
            f"port {settings.metrics_port} for metrics cannot be had ({error.strerror}); write --metrics-port 0"
        ) from error
    open_things.callback(opened.close)
    return opened.port
