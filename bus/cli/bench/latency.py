"""`bus bench latency`: what the bus adds to a message's way, at a rate."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.bench.stage import Stage, stage
from bus.cli.common import Printer, broker_options, output_option
from bus.core.errors import BusError, Unreachable

if TYPE_CHECKING:
    from bus.settings import Settings
    from bus.shell.bench.pace import Pace

_SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


@click.command()
@click.option("--rate", type=click.IntRange(2, 50_000), default=500, show_default=True, help="Messages a second.")
@click.option("--seconds", type=click.IntRange(1, 3600), default=20, show_default=True, help="How long.")
@broker_options
@output_option()
def latency(rate: int, seconds: int, printer: Printer, **flags: Any) -> int:
    """Measure how long a message takes at a rate: from producer to consumer, through the bus and without it.

    The baseline is the direct way: producer, quorum queue, consumer. Mediated is: producer, ingress, bus, the
    capability's queue, consumer; the bus does the same work as in `bus bench relay`. Both ways take turns of half
    a second in one run. Messages are persistent and confirmed. The producer sends when a message is due, whatever
    became of the others, and the time counts from then to the receipt. Producer, bus, consumer and broker are
    processes of their own.

    \b
    Examples:
      bus bench latency
      bus bench latency --rate 2000 --seconds 60 --output json
    """
    from bus.shell.bench.pace import Pace
    from bus.shell.bench.scene import write_scene

    with stage(flags, printer, write_scene) as on:
        pace = Pace(on.settings.namespace, rate, 2 * seconds)
        began_s, late_s, arrived_s = _measure(on, pace)
    result = {"rate": rate, "seconds": seconds, **_result(pace, began_s, late_s, arrived_s)}
    lines = [_line(result, way) for way in ("direct", "mediated")]
    ratios = ", ".join(f"{name} {result[f'ratio_{name}']}" for name in _SHARES)
    printer.emit(result, "\n".join([*lines, f"ratios    {ratios}; {result['samples']} messages each way"]))
    return 0


def _measure(on: Stage, pace: Pace) -> tuple[float, list[float], list[float]]:
    from bus import bootstrap
    from bus.shell.bench.bus_process import bus_process
    from bus.shell.bench.queues import quorum_queue

    with contextlib.ExitStack() as left:
        left.enter_context(quorum_queue(bootstrap.bus_url(on.settings), pace.direct))
        on.printer.note("starting the bus")
        left.enter_context(bus_process(on.settings, on.integration, on.folder))
        arriving = left.enter_context(_child(consume, on.settings, pace))
        _received(arriving, "consumer")  # it consumes
        on.printer.note(f"{pace.count} messages at {pace.rate} a second")
        sending = left.enter_context(_child(produce, on.settings, pace))
        began_s, late_s = _received(sending, "producer")
        return began_s, late_s, _received(arriving, "consumer")


def _result(pace: Pace, began_s: float, late_s: Sequence[float], arrived_s: Sequence[float]) -> dict[str, float | int]:
    from bus.shell.bench.pace import percentile

    ways: dict[bool, list[float]] = {False: [], True: []}
    for number in filter(pace.counts, range(pace.count)):
        ways[pace.mediated(number)].append(arrived_s[number] - (began_s + number / pace.rate))
    result: dict[str, float | int] = {"samples": len(ways[True])}
    for name, share in _SHARES.items():
        direct, mediated = percentile(ways[False], share), percentile(ways[True], share)
        result[f"direct_{name}_ms"] = round(direct * 1e3, 2)
        result[f"mediated_{name}_ms"] = round(mediated * 1e3, 2)
        result[f"ratio_{name}"] = round(mediated / direct, 2)
    result["sent_late_p99_ms"] = round(percentile(late_s, 0.99) * 1e3, 2)
    return result


def _line(result: dict[str, float | int], way: str) -> str:
    return f"{way:9} " + ", ".join(f"{name} {result[f'{way}_{name}_ms']} ms" for name in _SHARES)


# --- The processes at both ends -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _child(target: Callable[[Settings, Pace, Connection], None], settings: Settings, pace: Pace) -> Iterator[Any]:
    """Run one end in a process of its own; yields the pipe that it reports by."""
    spawn = multiprocessing.get_context("spawn")  # nothing of ours is copied into it: no heap, no open connection
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(settings, pace, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()
        ours.close()


def _received(pipe: Any, end: str) -> Any:
    try:
        said = pipe.recv()
    except EOFError:
        raise BusError(f"the {end} of the benchmark ended; run it again") from None
    if isinstance(said, str):
        raise Unreachable(said)
    return said


def produce(settings: Settings, pace: Pace, pipe: Connection) -> None:
    """Send everything; tells (began_s, late_s), or a sentence when it cannot."""
    from bus import bootstrap
    from bus.shell.bench.pace import Producer

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends us
    transport = bootstrap.transport(settings, None)
    producer = Producer(transport, pace)
    try:
        transport.run(producer)
    except BusError as error:
        pipe.send(str(error))
        return
    pipe.send((producer.began_s, producer.late_s))


def consume(settings: Settings, pace: Pace, pipe: Connection) -> None:
    """Receive everything; tells that it begins, then arrived_s, or a sentence when it cannot."""
    from bus import bootstrap
    from bus.shell.bench.pace import Consumer

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    transport = bootstrap.transport(settings, None)
    consumer = Consumer(transport, pace, lambda: pipe.send(True))
    try:
        transport.run(consumer)
    except BusError as error:
        pipe.send(str(error))
        return
    pipe.send(consumer.arrived_s)
