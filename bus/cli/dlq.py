"""`bus dlq`: what could not be delivered or understood, why, and sending it again once the cause is mended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import rich_click as click

from bus.cli.common import Printer, dumps, output_option, settings_of, settings_options
from bus.core.errors import BusError

if TYPE_CHECKING:
    from bus.shell.dead_letters import Channel, DeadLetter, DeadLetters, Redrive

_channel = click.option(
    "--channel",
    type=click.Choice(["dead", "invalid"]),
    default="dead",
    show_default=True,
    help="dead: understood, but cannot be delivered. invalid: cannot be understood, or breaks its contract.",
)
_reason = click.option("--reason", metavar="TEXT", help="Only letters whose code or reason contains TEXT.")


@click.group()
def dlq() -> None:
    """See and redrive what lies in the Dead Letter and the Invalid Message Channel.

    \b
    Examples:
      bus dlq list
      bus dlq list --channel invalid --output json
      bus dlq show 5f1c
      bus dlq redrive --reason no_route --dry-run
      bus dlq redrive 5f1c
    """


@dlq.command("list")
@_channel
@_reason
@click.option("--max", "most", type=click.IntRange(1), default=100, show_default=True, help="Show at most so many.")
@settings_options
@output_option()
def list_letters(channel: str, reason: str | None, most: int, printer: Printer, **flags: Any) -> int:
    """List letters, oldest first: when, what, from whom, and why."""
    shown = 0
    with _open(flags, channel) as (letters, _):
        depth = letters.depth()
        for letter in letters.read():
            if _wanted(letter, (), reason):
                printer.emit(_record(letter), _line(letter))
                shown += 1
                if shown == most:
                    break
    count = f"{shown} of {depth}" if shown == most < depth else str(shown)
    printer.note(f"{count} in {channel}" if shown else f"nothing in {channel}")
    return 0


@dlq.command()
@click.argument("message_id", metavar="ID")
@_channel
@settings_options
@output_option()
def show(message_id: str, channel: str, printer: Printer, **flags: Any) -> int:
    """Show one letter in full: the reason, every failing field, and the original message.

    ID is the message's id or the beginning of it, as `bus dlq list` shows it.
    """
    with _open(flags, channel) as (letters, _):
        for letter in letters.read():
            if _wanted(letter, (message_id,), None):
                body = letter.body.decode("utf-8", "backslashreplace")
                printer.emit({**_record(letter), "body": body}, _page(letter, body))
                return 0
    raise _no_letter(message_id, channel)


@dlq.command()
@click.argument("message_ids", metavar="[ID]...", nargs=-1)
@_channel
@_reason
@click.option("--max", "most", type=click.IntRange(1), help="Redrive at most so many.")
@click.option("--all", "everything", is_flag=True, help="Redrive without naming ids or a reason.")
@click.option("--tries", type=click.IntRange(1), default=3, show_default=True, metavar="N",
              help="Leave a letter that was redriven N times and came back each time.")  # fmt: skip
@click.option("--keep-deadline", is_flag=True, help="Leave a deadline that has passed where it is.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent again; change nothing.")
@settings_options
@output_option()
def redrive(
    message_ids: tuple[str, ...],
    channel: str,
    reason: str | None,
    most: int | None,
    everything: bool,
    tries: int,
    keep_deadline: bool,
    dry_run: bool,
    printer: Printer,
    **flags: Any,
) -> int:
    """Send letters through the bus again, as they were, with their attribute `redrive` counted up.

    A letter leaves its channel only after the broker confirmed the new message. A deadline that has passed is taken
    out, or the message would only expire again. What cannot be sent again (it is not JSON, say, or was redriven
    --tries times already) stays, is reported, and makes the exit code 1.
    """
    from bus.shell.dead_letters import Redrive

    if not (message_ids or reason or everything):
        raise click.UsageError("name ids, or write --reason TEXT, or --all")
    done = failed = 0
    unknown = list(message_ids)
    with _open(flags, channel) as (letters, verified):
        how = Redrive(time.time(), tries, keep_deadline, verified, letters.user)
        for letter in letters.read():
            if not _wanted(letter, message_ids, reason):
                continue
            unknown = [each for each in unknown if not letter.id.startswith(each)]
            problem = _redriven(letters, letter, how, dry_run)
            failed, done = failed + bool(problem), done + (not problem)
            verb = "not redriven" if problem else "would redrive" if dry_run else "redriven"
            printer.emit(
                {**_record(letter), "redriven": not problem and not dry_run, "problem": problem},
                f"{verb} {_line(letter)}" + (f"\n    {problem}" if problem else ""),
            )
            if done == most:
                break
    stopped = f"; stopped at --max {most}, the rest was not looked at" if done == most else ""
    printer.note(f"{done} {'to redrive' if dry_run else 'redriven'}, {failed} cannot be and stay{stopped}")
    if unknown and done != most:
        raise _no_letter(unknown[0], channel)
    return 1 if failed else 0


def _redriven(letters: DeadLetters, letter: DeadLetter, how: Redrive, dry_run: bool) -> str:
    """Redrive it, unless this is a dry run; returns why that cannot be, or ""."""
    from bus.core.errors import Unreachable
    from bus.shell.dead_letters import sent_again

    try:
        again = sent_again(letter, how)
        if not dry_run:
            letters.redrive(letter, again)
    except Unreachable:
        raise
    except BusError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def _open(flags: dict[str, Any], channel: str) -> Iterator[tuple[DeadLetters, bool]]:
    """A channel, and whether the broker verifies who sends."""
    from bus import bootstrap
    from bus.shell.dead_letters import DeadLetters
    from bus.shell.probe import connection

    settings = bootstrap.running(settings_of(flags))
    url = bootstrap.bus_url(settings)
    with connection(url) as opened:
        letters = DeadLetters(opened, url, settings.namespace, cast("Channel", channel))
        yield letters, settings.identity == "broker"


def _no_letter(message_id: str, channel: str) -> BusError:
    return BusError(f"there is no letter `{message_id}` in {channel}; `bus dlq list --channel {channel}` shows them")


def _wanted(letter: DeadLetter, ids: tuple[str, ...], reason: str | None) -> bool:
    if ids and not letter.id.startswith(ids):
        return False
    return reason is None or reason in letter.code or reason in letter.reason


def _record(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "type": letter.type,
        "source": letter.source,
        "conversation": letter.conversation,
        "end": letter.end,
        "class": letter.failure,
        "code": letter.code,
        "reason": letter.reason,
        "at": letter.at,
        "route": letter.route,
        "findings": letter.findings,
        "bytes": len(letter.body),
    }


def _line(letter: DeadLetter) -> str:
    what = f"{letter.type or '?'} from {letter.source or '?'}" + (f" [{letter.route}]" if letter.route else "")
    return f"{letter.id}  {letter.at}  {what}  {letter.code}: {letter.reason}"


def _page(letter: DeadLetter, body: str) -> str:
    rows = [
        ("id", letter.id),
        ("conversation", letter.conversation),
        ("type", letter.type),
        ("source", letter.source),
        ("at", letter.at),
        ("end", f"{letter.end} ({letter.failure}, {letter.code})"),
        ("reason", letter.reason),
        ("decided by", letter.route),
        ("content type", letter.content_type),
    ]
    found = letter.findings if isinstance(letter.findings, list) else []
    lines = [f"{name:13} {value}" for name, value in rows if value]
    lines += [f"invalid:      {finding_text(each)}" for each in found]
    return "\n".join([*lines, "", body])


def finding_text(finding: object) -> str:
    """One failing field as people read it: `/name expected string, got nothing`."""
    if not isinstance(finding, dict):
        return dumps(finding)
    said = f"{finding.get('pointer') or '/'} expected {finding.get('expected')}, got {finding.get('got')}"
    return said + _alternatives(finding)


def _alternatives(finding: Mapping[str, object]) -> str:
    """The fields that there are, for one that is not; of the rest the finding itself says enough for people."""
    given = finding.get("alternatives")
    if not isinstance(given, list) or not str(finding.get("expected")).startswith("no such field"):
        return ""
    return f"; the fields are {', '.join(map(str, given))}"
