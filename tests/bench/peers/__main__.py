"""`python -m tests.bench.peers`: the bus beside what one would write without it, on one broker in one run.

Each side is a process of its own with a backlog of its own in a quorum queue (the bus's: in its ingress partitions),
held back until the process consumes; measured is the time from letting it go until the last message is in the target
(see bus.shell.bench.release). All sides do the same work (work.py) and promise the same: on disk before it is
published, confirmed before it is acked. `times` is the bus's rate over theirs.

The peers' packages are none of the project's: a virtual environment is made for them in `.agentbus/peers`, with the
versions pinned here.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from bus import bootstrap
from bus.cli.bench.stage import Stage, in_turns, middle, stage
from bus.cli.common import Printer, output_option, settings_options
from bus.core import naming
from bus.core.errors import BusError
from bus.shell.bench.bus_process import bus_process
from bus.shell.bench.load import SINK
from bus.shell.bench.queues import quorum_queue
from bus.shell.bench.release import held, passed
from bus.shell.bench.scene import write_scene

ROOT = Path(__file__).parents[3]
HOME = ROOT / ".agentbus" / "peers"
PINNED = (
    "faststream[rabbit]==0.7.8",
    "aio-pika==10.2.1",
    "aiormq==7.2.4",
    "pamqp==4.0.1",
    "pika==1.4.4",
    "orjson==3.13.0",
    "jsonschema-rs==0.60.3",
)
PEERS = {
    "FastStream": "faststream_peer",
    "aio-pika": "aio_pika_peer",
    "pika BlockingConnection": "pika_blocking_peer",
    "pika SelectConnection, pipelined": "pika_select_peer",
}
BUS = "the bus"


@click.command()
@click.option("--messages", type=click.IntRange(100, 1_000_000), default=5000, show_default=True, help="For each side.")
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, help="Rounds of all sides.")
@settings_options
@output_option()
def peers(messages: int, repeat: int, printer: Printer, **flags: Any) -> None:
    """Relay the same backlog by the bus, FastStream, aio-pika and pika, in turns on one broker.

    All parse, check the contract, test a condition, translate five fields, log durably in SQLite with group commit,
    publish persistent with a confirm, and ack after it; quorum queues, 600 bytes. `times` is the bus's rate over
    theirs, the median of the rounds'. Makes a virtual environment in .agentbus/peers for the peers' packages.
    """
    python = environment(printer)
    rates: dict[str, list[float]] = {side: [] for side in (BUS, *PEERS)}
    with stage(flags, printer, write_scene) as on:

        def measured(side: str, run: Callable[[Stage, str, int], float], number: int) -> None:
            printer.note(f"round {number + 1} of {repeat}: {side}")
            rates[side].append(messages / run(on, f"{side.split()[0].lower()}-{number}", messages))

        sides: list[Callable[[int], None]] = [partial(measured, BUS, by_bus)]
        sides += [partial(measured, side, partial(by_peer, python, module)) for side, module in PEERS.items()]
        in_turns(repeat, sides)
    rows = [{"peer": side, **_row(rates[BUS], rates[side])} for side in PEERS]
    result = {"messages": messages, "bus_msgs_per_s": round(middle(rates[BUS])), "packages": list(PINNED),
              "bus_runs": [round(rate) for rate in rates[BUS]], "peers": rows}  # fmt: skip
    lines = [f"{row['peer']:34} {row['msgs_per_s']:>7,} msg/s, the bus {row['times']} times" for row in rows]
    printer.emit(result, "\n".join([f"{BUS:34} {result['bus_msgs_per_s']:>7,} msg/s", *lines]))


def _row(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    times = [our / their for our, their in zip(ours, theirs, strict=True)]
    return {
        "msgs_per_s": round(middle(theirs)),
        "times": middle(times, 2),
        "runs": [round(rate) for rate in theirs],
    }


def environment(printer: Printer) -> Path:
    """Make the peers' virtual environment if it is not there with these versions; returns its Python."""
    python, done = HOME / "bin" / "python", HOME / "pinned.txt"
    pinned = "\n".join(PINNED)
    if not done.exists() or done.read_text() != pinned:
        printer.note(f"installing {', '.join(PINNED)} into {HOME}")
        venv.create(HOME, with_pip=True, clear=True)
        installed = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINNED],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if installed.returncode != 0:
            raise BusError(f"the peers' packages cannot be installed: {installed.stderr.strip()}")
        done.write_text(pinned)
    return python


def by_bus(on: Stage, run: str, count: int) -> float:
    """Let `bus run` work off a backlog; returns seconds."""
    settings, url = on.settings, bootstrap.bus_url(on.settings)
    partitions = [naming.ingress_queue(settings.namespace, number) for number in range(settings.first_partitions)]
    sink = naming.capability_queue(settings.namespace, SINK)
    on.fill(run, count)
    with held(url, partitions) as let_go, bus_process(settings, on.integration, on.folder):
        seconds = passed(url, sink, count, let_go)
    on.empty_sink()
    return seconds


def by_peer(python: Path, module: str, on: Stage, run: str, count: int) -> float:
    """Let a peer work off a backlog; returns seconds.

    Raises:
        BusError: it did not log exactly what it relayed.
    """
    url = bootstrap.bus_url(on.settings)
    source, target = (f"{on.settings.namespace}.{module}.{end}" for end in ("source", "target"))
    folder = on.folder / f"{module}-{run}"
    folder.mkdir()
    (folder / "schemas").symlink_to(on.integration / "schemas")
    one_at_a_time = {"x-single-active-consumer": True}
    with quorum_queue(url, target), quorum_queue(url, source, one_at_a_time), held(url, [source]) as let_go:
        on.fill_queue(run, count, source)
        with peer_process([str(python), "-m", f"tests.bench.peers.{module}", source, target, str(folder)], url):
            seconds = passed(url, target, count, let_go)
    with closing(sqlite3.connect(folder / "log.db")) as log:
        (logged,) = log.execute("SELECT count(*) FROM log").fetchone()
    if logged != count:
        raise BusError(f"{module} logged {logged} messages of {count}")
    return seconds


@contextmanager
def peer_process(command: list[str], url: str) -> Iterator[None]:
    """Run a peer during the block; it consumes when the block begins."""
    plain = {**os.environ, "PEER_URL": url, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=plain, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BusError(f"`{' '.join(command[1:3])}` did not start")
        yield
    finally:
        process.kill()  # what it has done is done; how long it takes to say goodbye is not measured
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> int:
    """Run the command; an error is one sentence."""
    try:
        peers(standalone_mode=False)
    except (BusError, click.ClickException) as error:
        click.echo(f"peers: {error}", err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
