"""`bus bench relay`: a backlog through one worker, beside RabbitMQ's own shovel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.bench.relaying import Relayed, by_bare_relay, by_bus, by_shovel
from bus.cli.bench.stage import NO_SHOVEL, Stage, in_turns, middle, stage
from bus.cli.common import Printer, broker_options, output_option

if TYPE_CHECKING:
    from bus.shell.bench.syscalls import Syscalls

_COUNTED = 50_000  # messages of the run whose system calls are counted, at most: more tell no more


@dataclass(slots=True)
class _Rounds:
    """What was measured, round by round; the shovel's stay empty where there is none."""

    bus: dict[int, Relayed] = field(default_factory=dict)
    bare: dict[int, Relayed] = field(default_factory=dict)
    shovel: dict[int, Relayed] = field(default_factory=dict)


@click.command()
@click.option("--messages", type=click.IntRange(100, 5_000_000), default=20_000, show_default=True, help="How many.")
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, help="Rounds of all sides.")
@broker_options
@output_option()
def relay(messages: int, repeat: int, printer: Printer, **flags: Any) -> int:
    """Relay a backlog through one worker: contract, CEL condition, translate of five fields, inbox, outbox, audit.

    Quorum queues, persistent messages of about 600 bytes, 1,000 conversations, every commit fsynced, confirm before
    ack. The baseline is RabbitMQ's own shovel, which moves a backlog of the same messages inside the broker from a
    quorum queue to another, acked on confirm, unread; it needs the private node. The bare relay does the same over
    the bus's transport. They take turns; each backlog is in the broker before its clock starts. Broker and worker
    share the machine. Told are medians, and each round; the ratio is the median of the rounds' ratios.

    On the private node, where Linux tells it, `cores_us_per_msg` says where the time of all cores went: the broker,
    this process (beside the shovel it only waits), interrupts and others, idle, and stolen by the hypervisor.

    System calls of this process are counted in a run of their own with perf (perf stat -e raw_syscalls:sys_enter), or
    strace (strace -c -f, under which batches are larger); null where neither is there or allowed.

    \b
    Examples:
      bus bench relay
      bus bench relay --messages 50000 --repeat 5 --output json
    """
    from bus.shell.bench.scene import write_scene

    with stage(flags, printer, write_scene) as on:
        if not on.private:
            click.echo(f"bus: {NO_SHOVEL}", err=True)
        rounds = _measure(on, messages, repeat)
        printer.note("counting system calls")
        counted = min(messages, _COUNTED)
        result = _result(rounds, messages, _syscalls(on, counted), counted)
    printer.emit(result, _text(result))
    return 0


def _measure(on: Stage, messages: int, repeat: int) -> _Rounds:
    rounds = _Rounds()

    def bus(number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: the bus, {messages} messages")
        on.fill(f"b{number}", messages)
        rounds.bus[number] = by_bus(on, f"b{number}", messages)

    def bare(number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: the bare relay")
        on.fill(f"a{number}", messages)
        rounds.bare[number] = by_bare_relay(on, messages)

    def shovel(number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: the shovel")
        rounds.shovel[number] = by_shovel(on, f"s{number}", messages)

    sides: list[Callable[[int], None]] = [bus, shovel, bare] if on.private else [bus, bare]
    in_turns(repeat, sides)
    return rounds


def _syscalls(on: Stage, count: int) -> Syscalls:
    from bus.shell.bench.syscalls import Syscalls

    calls = Syscalls()
    on.fill("c", count)
    try:
        by_bus(on, "c", count, begun=calls.start)
    finally:
        calls.stop()
    return calls


def _result(rounds: _Rounds, messages: int, calls: Syscalls, counted: int) -> dict[str, Any]:
    bus, bare = list(rounds.bus.values()), list(rounds.bare.values())
    ratios = [rounds.bus[number].msgs_per_s / each.msgs_per_s for number, each in rounds.shovel.items()]
    shovels = [each.msgs_per_s for each in rounds.shovel.values()]
    return {
        "messages": messages,
        "bus_msgs_per_s": round(middle([each.msgs_per_s for each in bus])),
        "baseline": "RabbitMQ's shovel, in the broker, on-confirm" if shovels else NO_SHOVEL,
        "baseline_msgs_per_s": round(middle(shovels)) if shovels else None,
        "ratio": middle(ratios, 2) if ratios else None,
        "cpu_us_per_msg": middle([each.us(each.cpu_s) for each in bus]),
        "decide_us_per_msg": middle([each.us(each.decide_s) for each in bus]),
        "inputs_per_commit": round(middle([messages / max(1, each.commits) for each in bus])),
        "syscalls_per_msg": None if calls.count is None else round(calls.count / counted, 2),
        "syscalls_method": calls.method,
        "bare_relay_msgs_per_s": round(middle([each.msgs_per_s for each in bare])),
        "bare_relay_cpu_us_per_msg": middle([each.us(each.cpu_s) for each in bare]),
        "cores_us_per_msg": {
            side: _cores([*measured.values()])
            for side, measured in (("bus", rounds.bus), ("shovel", rounds.shovel), ("bare_relay", rounds.bare))
        },
        "runs": [_round(rounds, number) for number in sorted(rounds.bus)],
    }


def _cores(sides: list[Relayed]) -> dict[str, float] | None:
    """Where the time of all cores went, medians in us a message; None where nobody tells."""
    told = [(each, each.cores) for each in sides if each.cores is not None]
    if not told:
        return None
    parts = {name: middle([each.us(getattr(cores, name)) for each, cores in told]) for name in told[0][1]._fields}
    return {"all": middle([each.us(sum(cores)) for each, cores in told]), **parts}


def _round(rounds: _Rounds, number: int) -> dict[str, Any]:
    bus, shovel = rounds.bus[number], rounds.shovel.get(number)
    return {
        "bus_msgs_per_s": round(bus.msgs_per_s),
        "baseline_msgs_per_s": None if shovel is None else round(shovel.msgs_per_s),
        "ratio": None if shovel is None else round(bus.msgs_per_s / shovel.msgs_per_s, 2),
        "bare_relay_msgs_per_s": round(rounds.bare[number].msgs_per_s),
        "cpu_us_per_msg": round(bus.us(bus.cpu_s), 1),
    }


def _text(result: dict[str, Any]) -> str:
    shovel = result["baseline_msgs_per_s"]
    beside = "" if shovel is None else f"shovel {shovel:,} msg/s, ratio {result['ratio']}; "
    calls = result["syscalls_per_msg"]
    counted = (
        f"{calls} system calls" if calls is not None else f"system calls not counted ({result['syscalls_method']})"
    )
    cores = "".join(
        f"\ncores, {side.replace('_', ' ')}: {parts['all']} us a message: broker {parts['broker']}, this process "
        f"{parts['own']}, others {parts['others']}, idle {parts['idle']}, stolen {parts['stolen']}"
        for side, parts in result["cores_us_per_msg"].items()
        if parts is not None
    )
    return (
        f"bus {result['bus_msgs_per_s']:,} msg/s, {beside}bare relay {result['bare_relay_msgs_per_s']:,} msg/s\n"
        f"a message of the bus: {result['cpu_us_per_msg']} us CPU, of it {result['decide_us_per_msg']} to decide; "
        f"{counted}; {result['inputs_per_commit']} inputs a commit\n"
        f"ratios of the {len(result['runs'])} rounds: {', '.join(str(each['ratio']) for each in result['runs'])}{cores}"
    )
