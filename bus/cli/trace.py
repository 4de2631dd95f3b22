"""`bus trace`: a conversation as a tree, with times, decisions and reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, output_option, settings_of, settings_options
from bus.cli.dlq import finding_text
from bus.cli.tap import as_data, clock, failure_data

if TYPE_CHECKING:
    from bus.audit.trace import Fate, Leg, Node


@click.command()
@click.argument("conversation")
@settings_options
@output_option()
def trace(conversation: str, printer: Printer, **flags: Any) -> int:
    """Show every hop of a conversation: route and why, what each step did, where it went, how long it took.

    CONVERSATION is its id or the beginning of it, at least 4 characters; the id of a conversation's
    first message is its id. Times are the bus's own: what a hop took here, what an agent took in between.

    \b
    Examples:
      bus trace 7f3a
      bus trace 7f3a --output json
    """
    from bus import bootstrap
    from bus.audit.trace import trace_tree

    log = bootstrap.history(settings_of(flags))
    records = log.conversation(conversation)
    roots = trace_tree(records, log.fates(records))
    if printer.form == "json":
        for root in roots:
            printer.emit(_data(root), "")
        return 0
    head = f"conversation {records[0].conversation}, {clock(records[0].received_s)}"
    printer.emit({}, "\n".join([head, *(row for root in roots for row in _node(root, 0))]))
    return 0


def _node(node: Node, depth: int) -> Iterator[str]:
    record = node.record
    pad = "  " * depth
    if record.route:
        decided = f"route {record.route} ({', '.join(each for each in (record.where, record.why) if each)})"
    else:
        decided = record.why or record.end
    fate = "" if record.end == "routed" else f"  {record.end}"
    reason = f": {record.reason}" if record.reason else ""
    yield f"{pad}{record.type or '(not a message)'}  {record.source or '?'} -> {decided}{fate}{reason}  {_took(node)}"
    if record.failure is not None:
        for finding in failure_data(record.failure)["findings"]:
            yield f"{pad}    invalid: {finding_text(finding)}"
    for step in record.steps:
        yield f"{pad}    {step}"
    for leg in node.legs:
        yield from _leg(leg, depth + 1)
    for effect in node.effects:
        yield from _node(effect, depth + 1)


def _leg(leg: Leg, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{leg.output.type} -> {leg.output.target}  {_fate(leg.fate)}"
    for answer in leg.answers:
        yield from _node(answer, depth + 1)


def _fate(fate: Fate) -> str:
    due = f", due {clock(fate.at_s)}" if fate.how == "held" and fate.at_s is not None else ""
    return f"{fate.how}{due}{': ' + fate.reason if fate.reason else ''}"


def _took(node: Node) -> str:
    hop = _duration(node.hop_s)
    return hop if node.agent_s is None else f"{hop}, after {_duration(node.agent_s)}"


def _duration(seconds: float) -> str:
    milliseconds = seconds * 1000
    if milliseconds >= 10_000:
        return f"{seconds:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def _data(node: Node) -> dict[str, Any]:
    return {
        **as_data(node.record),
        "hop_ms": round(node.hop_s * 1000, 3),
        "agent_ms": None if node.agent_s is None else round(node.agent_s * 1000, 3),
        "outputs": [
            {
                "target": leg.output.target,
                "type": leg.output.type,
                "id": leg.output.id,
                "fate": {"how": leg.fate.how, "reason": leg.fate.reason, "at_s": leg.fate.at_s},
                "answers": [_data(each) for each in leg.answers],
            }
            for leg in node.legs
        ],
        "effects": [_data(each) for each in node.effects],
    }
