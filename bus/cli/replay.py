"""`bus replay`: recorded conversations decided anew by changed routes, and what they would do otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, count, duration_s, folders_of, output_option, settings_of, settings_options
from bus.cli.send import exchange, new_message
from bus.core.errors import BusError
from bus.core.identity import CLIENT
from bus.core.message import Message
from bus.core.outputs import BUS

OWN = "bus."
"""What the types of the bus's own messages begin with: acts of operators, test messages, words about tasks."""

if TYPE_CHECKING:
    from bus.rehearsal.recording import Recording
    from bus.rehearsal.replay import Decided, Difference, Replayed
    from bus.settings import Settings
    from bus.shell.history import History


@click.command()
@click.argument("conversation", required=False)
@click.option("--since", metavar="TIME", help="All conversations since then: `1h` ago, or 2026-05-01T12:00:00Z.")
@click.option("--against", required=True, type=click.Path(path_type=Path), help="Folder with the changed routes.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The newest so many at most.")
@click.option("--live", is_flag=True, help="Then send what came in once more, to the running bus.")
@settings_options
@output_option()
def replay(
    conversation: str | None, since: str | None, against: Path, limit: int, live: bool, printer: Printer, **flags: Any
) -> int:
    """Decide recorded conversations anew by the routes in a folder, and show which decisions differ.

    Agents answer as the log says they did, when they did. Nothing is sent, and the log is only read.
    CONVERSATION is an id or the beginning of one; one that had to wait for others (`serial_by`) is best
    replayed with them, by --since. Exit code 1 when a decision differs.

    With --live the messages that came in from outside are also sent to the running bus, each by its sender and as a
    new message of a new conversation: agents are asked again, and all else that follows happens. Nobody is told the
    answers; `bus trace` shows them.

    \b
    Examples:
      bus replay 7f3a --against routes
      bus replay --since 1h --against ../changed/routes
      bus replay --since 2026-05-01T12:00:00Z --against routes --output json
    """
    from bus import bootstrap
    from bus.rehearsal.replay import replay as decide_anew

    if (conversation is None) == (since is None):
        raise click.UsageError("write a conversation, or --since TIME for all that are newer")
    loaded = bootstrap.load(folders_of((against,)), secrets=False)
    catalog = bootstrap.table(loaded).catalog
    log = bootstrap.history(settings_of(flags))
    names = [conversation] if conversation is not None else log.since(_epoch_s(since or ""))
    if len(names) > limit:
        printer.note(f"the newest {limit} of {count(len(names), 'conversation')}; write --limit {len(names)} for all")
    facts = bootstrap.facts()
    # What operators have told the bus, and its test messages, are in the log, too; they are nothing that routes decide.
    recordings = [each for each in (recorded(log, name) for name in names[-limit:]) if not _of_operators(each)]
    found = decide_anew(recordings, catalog, facts)
    _show([each for each in found if not each.same], printer)
    differ = sum(not each.same for each in found)
    same = f"{differ} of {count(len(found), 'conversation')} would go otherwise"
    text = same if differ else f"no difference in {count(len(found), 'conversation')}"
    summary = {"conversations": len(found), "differ": differ, "config": catalog.version}
    printer.emit(summary, f"{text}, {count(sum(each.decisions for each in found), 'decision')}, by {catalog.version}")
    if live:
        _send(recordings, bootstrap.running(settings_of(flags)), printer)
    return 1 if differ else 0


def _of_operators(recording: Recording) -> bool:
    types = [each.record.type for each in recording.entries]
    return bool(types) and all(type_.startswith(OWN) for type_ in types)


def again(recording: Recording) -> list[Message]:
    """What came in from outside, as new messages of one new conversation; the bus's own (schedules) are left out."""
    found: list[Message] = []
    for each in recording.arrived:
        if each.message.source == BUS or each.message.type.startswith(OWN):
            continue
        conversation = found[0].conversation if found else None
        found.append(new_message(each.message.type, each.message.data, each.message.source, conversation))
    return found


def _send(recordings: Sequence[Recording], settings: Settings, printer: Printer) -> None:
    import asyncio

    from bus import bootstrap

    for recording in recordings:
        messages = again(recording)
        for message in messages:
            # Who asks and is gone gets no answer; without an asker an answer would be an event that nobody wants.
            asked_s = 0.0 if message.source == CLIENT else None
            asyncio.run(exchange(bootstrap.agent_link(settings, message.source), message, asked_s))
        if messages:
            new = messages[0].conversation
            sent = {"conversation": recording.conversation, "live": new, "messages": len(messages)}
            printer.emit(
                sent, f"{recording.conversation} sent again: {count(len(messages), 'message')}, conversation {new}"
            )


def recorded(log: History, conversation: str) -> Recording:
    """Read one conversation with its bodies.

    Raises:
        BusError: no conversation, or several, begin so.
    """
    from bus.rehearsal.recording import Entry, recording

    entries = log.entries(log.conversation(conversation))
    return recording([Entry(record, each.input, each.outputs) for record, each in entries])


def _epoch_s(text: str) -> float:
    try:
        return time.time() - duration_s(text)
    except click.BadParameter:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise BusError(f"`{text}` is no time; write how long ago, such as 1h, or 2026-05-01T12:00:00Z")
    return parsed.timestamp()


def _show(differing: Sequence[Replayed], printer: Printer) -> None:
    """To programs each conversation; to people those that differ in the same way together."""
    if printer.form == "json":
        for each in differing:
            printer.emit(_data(each), "")
        return
    alike: dict[object, list[Replayed]] = {}
    for each in differing:
        how = tuple((one.what.key, one.lines) for one in each.differences)
        alike.setdefault((each.problem, each.unanswered, how), []).append(each)
    for group in alike.values():
        for line in _lines(group[0], len(group) - 1):
            printer.emit({}, line)


def _lines(found: Replayed, others: int) -> Iterator[str]:
    more = f" and {count(others, 'other')} in the same way" if others else ""
    yield f"conversation {found.conversation}{more}"
    if found.problem:
        yield f"  {found.problem}"
    for each in found.differences:
        yield f"  {_about(each)}"
        for line in each.lines:
            yield f"    {line.mark} {'  ' * line.depth}{line.text}"
    for name in found.unanswered:
        yield f"  `{name}` is asked, and the log has no answer of it: what would follow is not known"
    yield ""


def _about(difference: Difference) -> str:
    what = difference.what
    number = f" (number {what.number})" if what.number > 1 else ""
    only = "" if difference.before and difference.after else "  not any more" if difference.before else "  new"
    return f"{what.type or '(not a message)'} from {what.source or '?'}{number}{only}"


def _data(found: Replayed) -> dict[str, Any]:
    return {
        "conversation": found.conversation,
        "problem": found.problem or None,
        "unanswered": list(found.unanswered),
        "differences": [
            {
                "type": each.what.type,
                "source": each.what.source,
                "number": each.what.number,
                "before": _side(each.before),
                "after": _side(each.after),
                "diff": [f"{line.mark} {'  ' * line.depth}{line.text}" for line in each.lines],
            }
            for each in found.differences
        ],
    }


def _side(decided: Decided | None) -> dict[str, Any] | None:
    if decided is None:
        return None
    return {
        "end": decided.end,
        "route": decided.route or None,
        "failure": decided.failure or None,
        "reason": decided.reason or None,
        "outputs": [{"target": target, "type": type_, "data": data} for target, type_, data in decided.sent],
    }
