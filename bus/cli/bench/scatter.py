"""`bus bench scatter`: conversations that ask three agents each, beside the plain relay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import rich_click as click

from bus.cli.bench.echoing import echoing
from bus.cli.bench.relaying import Relayed, by_bus
from bus.cli.bench.stage import Stage, in_turns, middle, stage
from bus.cli.common import Printer, broker_options, output_option

_INPUTS = 4  # of a conversation: what begins it, and three answers
_ENDS = {"routed": 2, "waiting": 2}  # the requests leave; two answers are kept; the third lets the outcome leave


@dataclass(slots=True)
class _Rounds:
    """What was measured, round by round. A `Relayed` of scatter counts inputs."""

    scatter: dict[int, Relayed] = field(default_factory=dict)
    relay: dict[int, Relayed] = field(default_factory=dict)


@click.command()
@click.option(
    "--conversations", type=click.IntRange(100, 1_000_000), default=5_000, show_default=True, help="How many."
)
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, help="Rounds of both sides.")
@broker_options
@output_option()
def scatter(conversations: int, repeat: int, printer: Printer, **flags: Any) -> int:
    """Work off a backlog of messages for a route that asks three agents at once and goes on with all their answers.

    Each message is an order as in `bus bench relay`, so is each request and each answer. The agents are one process
    that says back what it is asked and does nothing else. A conversation is four messages taken in, each decided,
    committed and acked: the order, after which three requests leave, and the answers, of which the third lets the
    outcome leave. The baseline is the plain relay of `bus bench relay`, by the same worker and in turns, with as many
    messages taken in. The ratio is that of messages a second. Told are medians, and each round.

    \b
    Examples:
      bus bench scatter
      bus bench scatter --conversations 2000 --output json
    """
    from bus.shell.bench.scatter_scene import write_scatter_scene

    with stage(flags, printer, write_scatter_scene) as on:
        rounds = _measure(on, conversations, repeat)
    result = _result(rounds, conversations)
    printer.emit(result, _text(result))
    return 0


def _measure(on: Stage, conversations: int, repeat: int) -> _Rounds:
    from bus.shell.bench.scatter_scene import QUOTE

    rounds = _Rounds()
    count = conversations * _INPUTS

    def asking(number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: {conversations} conversations")
        on.fill(f"q{number}", conversations, lambda _: QUOTE)
        ends = {end: conversations * times for end, times in _ENDS.items()}
        with echoing(on.settings):
            rounds.scatter[number] = by_bus(on, f"q{number}", conversations, ends=ends)

    def relaying(number: int) -> None:
        on.printer.note(f"round {number + 1} of {repeat}: the relay, {count} messages")
        on.fill(f"b{number}", count)
        rounds.relay[number] = by_bus(on, f"b{number}", count)

    in_turns(repeat, [asking, relaying])
    return rounds


def _result(rounds: _Rounds, conversations: int) -> dict[str, Any]:
    numbers = sorted(rounds.scatter)
    runs = [_round(rounds.scatter[number], rounds.relay[number]) for number in numbers]
    return {
        "conversations": conversations,
        "conversations_per_s": round(middle([each["conversations_per_s"] for each in runs])),
        "messages_per_s": round(middle([each["messages_per_s"] for each in runs])),
        "baseline": "the plain relay, by the same worker",
        "relay_msgs_per_s": round(middle([each["relay_msgs_per_s"] for each in runs])),
        "ratio": middle([each["ratio"] for each in runs], 2),
        "cpu_us_per_message": middle([each["cpu_us_per_message"] for each in runs]),
        "relay_cpu_us_per_message": middle([each["relay_cpu_us_per_message"] for each in runs]),
        "runs": runs,
    }


def _round(scatter: Relayed, relay: Relayed) -> dict[str, Any]:
    return {
        "conversations_per_s": round(scatter.msgs_per_s / _INPUTS),
        "messages_per_s": round(scatter.msgs_per_s),
        "relay_msgs_per_s": round(relay.msgs_per_s),
        "ratio": round(scatter.msgs_per_s / relay.msgs_per_s, 2),
        "cpu_us_per_message": round(scatter.us(scatter.cpu_s), 1),
        "relay_cpu_us_per_message": round(relay.us(relay.cpu_s), 1),
    }


def _text(result: dict[str, Any]) -> str:
    return (
        f"{result['conversations_per_s']:,} conversations/s, {result['messages_per_s']:,} messages/s; "
        f"the relay {result['relay_msgs_per_s']:,}, ratio {result['ratio']}\n"
        f"a message: {result['cpu_us_per_message']} us CPU, of the relay {result['relay_cpu_us_per_message']}\n"
        f"ratios of the {len(result['runs'])} rounds: {', '.join(str(each['ratio']) for each in result['runs'])}"
    )
