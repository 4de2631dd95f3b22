"""`bus job`, the main job behind `deploy/run`: a broker, the bus, the agents, and a stream of inquiries.

One process starts the others and watches them: the private RabbitMQ node (unless BUS_AMQP_URL names a broker), and
`bus run` and `bus agents run` as children (bus.shell.supervisor). It plays the agent `frontdesk` itself: it asks,
prints each answer as it comes, and sums up. Whatever ends it, everything it started is stopped in order: agents, bus,
broker. Progress goes to standard error, answers and the summary to standard output.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

import bus
from bus.cli.common import Printer, dumps, printable, settings_of, settings_options, terminable
from bus.cli.job_desk import FRONTDESK, FrontDesk, Heard
from bus.cli.job_input import JSON_LINES, Inquiry, read_inquiries
from bus.cli.job_tally import Summary, Watched, summarise
from bus.core.errors import BusError, Unreachable

if TYPE_CHECKING:
    from bus.settings import Settings
    from bus.shell.history import Tail
    from bus.shell.supervisor import Part

ROUTES = Path(bus.__file__).parent.parent / "routes" / "customer_service"
SHIPPED = ROUTES / "data" / "inquiries.csv"
BROKER_LOOK_S = 2.0  # between two looks whether the private broker still runs
READY_S = 120.0  # for the bus and the agents; a classifier trains for seconds on a busy machine
_SHOWN_CHARS = 60  # of a question and of an answer on a line for people
_NOT_MEDIATED = ("duplicate", "woken")
_CATEGORIES = 3  # a classifier of fewer is not worth measuring


@click.command()
@click.option("--inquiries", "file", type=click.Path(path_type=Path), help="CSV with a column `text`, or JSON Lines.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N inquiries.")
@click.option("--once", is_flag=True, help="End after the summary.")
@click.option("--window", type=click.IntRange(1, 1000), default=64, show_default=True, help="Inquiries in flight.")
@click.option(
    "--output", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="text: a line for people per answer. json: an object per line, the summary last.",
)  # fmt: skip
@settings_options
def job(file: Path | None, limit: int | None, once: bool, window: int, form: str, **flags: Any) -> int:
    """Run everything: broker, bus, agents, a stream of customer inquiries, and a summary.

    Without --once it stays up after the summary, until Ctrl-C. Two can run side by side: the second takes a home
    folder of its own. Exit code 0 when every inquiry was answered exactly once, 1 when not, 130 when interrupted.

    \b
    Examples:
      bus job --once --limit 20
      bus job --once --inquiries inquiries.csv --limit 2000 --output json
    """
    from bus import bootstrap
    from bus.shell.home import choose_home

    if not ROUTES.is_dir():
        raise BusError(f"there is no {ROUTES}; run this from a checkout of agentbus, with `deploy/run`")
    path = file or SHIPPED
    inquiries = read_inquiries(path)
    wanted = settings_of(flags)
    with terminable(), choose_home(wanted.home) as home:
        settings = dataclasses.replace(wanted, home=home)
        if home != wanted.home.absolute():
            progress(f"      another bus works in {wanted.home}; this one takes {home}")
        begun = time.monotonic()
        broker = bootstrap.open_broker(settings, _now_and_then)
        try:
            took = f"up {time.monotonic() - begun:.0f} s" if broker.private else "of BUS_AMQP_URL"
            progress(f"[3/4] broker {took}")
            labels = path if measurable(path, inquiries) else None
            plan = Plan(
                settings, broker.settings, inquiries[:limit], labels, window, Printer(form), once, broker.revive
            )
            return asyncio.run(run_job(plan))
        finally:
            with _uninterrupted():
                broker.stop()


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a job is to do.

    Args:
        settings: as the children get them: without URLs where the broker is private.
        connected: the same, with the broker's URLs.
        labels: the file that the classifier trains on and is measured by; None leaves both.
        window: inquiries in flight.
        revive: starts the private broker again when it has died; says whether it had to.
    """

    settings: Settings
    connected: Settings
    inquiries: Sequence[Inquiry]
    labels: Path | None
    window: int
    printer: Printer
    once: bool
    revive: Callable[[], bool] = lambda: False


async def run_job(plan: Plan) -> int:
    """Start bus and agents, send the inquiries, sum up; returns the exit code."""
    with _cancelled_by_sigterm():
        async with _parts(plan) as (the_bus, the_agents):
            run = secrets.token_hex(4)
            summary = await _inquire(plan, run, the_bus, the_agents)
            plan.printer.emit({"event": "summary", **dataclasses.asdict(summary)}, summary.text())
            sys.stdout.flush()
            if not plan.once:
                _say_how_to_go_on(plan, run)
                await asyncio.Event().wait()
            return 0 if summary.good else 1


@asynccontextmanager
async def _parts(plan: Plan) -> AsyncIterator[tuple[Part, Part]]:
    """Run the bus and the agents for the block; a part that cannot start ends the block with its reason."""
    from bus.shell.supervisor import Part

    environment = _environment(plan)
    folder = plan.settings.home / "log"
    folder.mkdir(exist_ok=True)
    the_bus, the_agents = (
        Part(name, ["bus", *words, str(ROUTES), "--output", "json"], environment, folder, progress)
        for name, words in (("bus", ["run"]), ("agents", ["agents", "run"]))
    )
    block = asyncio.current_task()
    assert block is not None
    running = [asyncio.create_task(_keep_broker(plan))]

    def watch(part: Part) -> None:
        running.append(asyncio.create_task(part.run()))
        running[-1].add_done_callback(lambda task: None if task.cancelled() or not task.exception() else block.cancel())

    try:
        progress("      bus starting")
        watch(the_bus)
        await _ready(the_bus)
        progress("      agents starting; the classifier trains for some seconds")
        watch(the_agents)
        await _ready(the_agents)
        names = the_agents.announced.get("agents")
        progress(f"[4/4] {len(names) if isinstance(names, list) else 'all'} agents ready")
        yield the_bus, the_agents
    except asyncio.CancelledError:
        failed = [error for task in running if task.done() and not task.cancelled() and (error := task.exception())]
        if failed:
            raise failed[0] from None
        raise
    finally:
        with _uninterrupted():
            running[0].cancel()
            for part in (the_agents, the_bus):
                await part.stop()
            await asyncio.gather(*running, return_exceptions=True)


async def _keep_broker(plan: Plan) -> None:
    """Start the private broker again when it dies; bus and agents connect again by themselves."""
    while True:
        await asyncio.sleep(BROKER_LOOK_S)
        if await asyncio.to_thread(plan.revive):
            progress("      the broker had died; it runs again")


async def _ready(part: Part) -> None:
    try:
        async with asyncio.timeout(READY_S):
            await part.ready.wait()
    except TimeoutError:
        if part.waits:
            raise Unreachable(f"{part.name} waited {READY_S:g} s in vain: {part.waits}") from None
        raise BusError(f"{part.name} was not ready within {READY_S:g} s; see {part.log}") from None


def _environment(plan: Plan) -> dict[str, str]:
    """Settings of the children that this process was given by flags; URLs hold passwords, so none is an argument."""
    settings = plan.settings
    values = {
        "BUS_HOME": str(settings.home),
        "BUS_NAMESPACE": settings.namespace,
        "BUS_LOG_FORMAT": "json",
        "PYTHONPATH": str(ROUTES.parents[1]),  # the same agentbus as ours, installed or not
    }
    if settings.amqp_url:
        values["BUS_AMQP_URL"] = settings.amqp_url
    if settings.store:
        values["BUS_STORE"] = settings.store
    # The shipped inquiries are what the classifier trains on by itself, together with the help articles.
    values["BUS_JOB_TRAINING"] = str(plan.labels.absolute()) if plan.labels and plan.labels != SHIPPED else ""
    return values


async def _inquire(plan: Plan, run: str, the_bus: Part, the_agents: Part) -> Summary:
    """Send the inquiries and sum up what came back, and what the broker and the log saw."""
    from bus import bootstrap

    settings = plan.connected
    link = bootstrap.agent_link(settings, FRONTDESK)
    desk = FrontDesk(link, settings.namespace, run, plan.window, lambda heard: _show(heard, plan.printer))
    before = await asyncio.to_thread(_depths, settings)
    with _log_from_here(settings) as tail:
        await desk.serve(plan.inquiries, the_bus.ready.is_set)
        after = await asyncio.to_thread(_depths, settings)
        messages = await asyncio.to_thread(_mediated, tail)
    watched = Watched(
        dead_lettered=max(0, after[0] - before[0]),
        invalid=max(0, after[1] - before[1]),
        messages=messages,
        bus_restarts=the_bus.restarts,
        agent_restarts=the_agents.restarts,
    )
    trained_on = training_split() if plan.labels else None
    return summarise(desk.tally, len(plan.inquiries), trained_on, watched)


def _show(heard: Heard, printer: Printer) -> None:
    """Print what came back for an inquiry."""
    inquiry, data = heard.sent.inquiry, heard.data
    record: dict[str, Any] = {
        "event": heard.what, "row": inquiry.row, "conversation": heard.conversation, "text": inquiry.text,
        "ms": heard.ms, **({"category": inquiry.category} if inquiry.category else {}),
    }  # fmt: skip
    if heard.what == "failure":
        record |= {"class": data.get("class"), "reason": data.get("reason"), "findings": data.get("findings", [])}
        rest = f"{data.get('class')}: {data.get('reason')}"
    else:
        record |= {"answer": data.get("text"), **{name: value for name, value in data.items() if name != "text"}}
        rest = f'{data.get("intent")}: "{_short(str(data.get("text")))}"'
    second = " (second answer!)" if heard.what == "duplicate" else ""
    printer.emit(record, f'#{inquiry.row} "{_short(inquiry.text)}" -> {rest}  {heard.ms:.0f} ms{second}')
    sys.stdout.flush()


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 4].rstrip() + " ..."


def _say_how_to_go_on(plan: Plan, run: str) -> None:
    home = "" if plan.settings.home == Path(".agentbus").absolute() else f" --home {plan.settings.home}"
    first = f"{run}-{plan.inquiries[0].row}"
    progress(f"      bus trace {first}{home}                  the way of the first inquiry")
    question = dumps({"text": "I lost my card"})
    progress(f"      bus send customer.inquiry.received '{question}' --wait{home}")
    progress("      up until Ctrl-C")


# --- What others saw ----------------------------------------------------------------------------------------------


def _depths(settings: Settings) -> tuple[int, int]:
    """How many messages lie in the Dead Letter and in the Invalid Message Channel."""
    from bus import bootstrap
    from bus.core.naming import dead_queue, invalid_queue
    from bus.shell.probe import connection, queue_states

    names = [dead_queue(settings.namespace), invalid_queue(settings.namespace)]
    with connection(bootstrap.bus_url(settings)) as opened:
        states = queue_states(opened, names)
    dead, invalid = (states[name] for name in names)
    return (dead.depth if dead else 0), (invalid.depth if invalid else 0)


@contextmanager
def _log_from_here(settings: Settings) -> Iterator[Callable[[], Tail]]:
    """Mark the end of the bus's log; gives a function that opens what follows it.

    SQLite connections belong to the thread that made them, so the log is opened where it is read.
    """
    from bus import bootstrap

    history = bootstrap.history(settings)
    mark = history.tail(0).mark
    history.close()

    def follow() -> Tail:
        tail = bootstrap.history(settings).tail(0)
        tail.mark = mark
        return tail

    yield follow


def _mediated(follow: Callable[[], Tail]) -> int:
    """Count the decisions that the log has from a place on, but for duplicates and the bus's own wake-ups."""
    tail, count = follow(), 0
    while found := tail.read():
        count += sum(record.end not in _NOT_MEDIATED for record in found)
    return count


def measurable(path: Path, inquiries: Sequence[Inquiry]) -> bool:
    """Tell whether a classifier can be trained on a file: CSV whose training rows have at least three categories."""
    if path.suffix in JSON_LINES:
        return False
    is_training = training_split()
    return len({each.category for each in inquiries if each.category and is_training(each.text)}) >= _CATEGORIES


def training_split() -> Callable[[str], bool]:
    """Load the integration's own rule on which rows its classifier trains on; its folder is no package of ours."""
    spec = importlib.util.spec_from_file_location("customer_service_split", ROUTES / "split.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    chosen: Callable[[str], bool] = module.is_training
    return chosen


# --- Words and signals --------------------------------------------------------------------------------------------


def progress(text: str) -> None:
    """Say on standard error how far it is; a line, without control characters."""
    click.echo(printable(text), err=True)


def _now_and_then(text: str) -> None:
    """Show the waiting for the broker, which is told every second, as a line every five."""
    seconds = text.removesuffix(" s").rpartition(" ")[2]
    if not seconds.isdigit() or int(seconds) % 5 == 0:
        progress(f"      {text}")


@contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Within asyncio, have SIGTERM raise SIGINT, which asyncio.run turns into a cancellation of the main task."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let nothing interrupt the block: what is started must be stopped, however often Ctrl-C is pressed."""
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
