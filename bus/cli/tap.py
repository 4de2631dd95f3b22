"""`bus tap`: the log as it grows, one line a decision."""

from __future__ import annotations

import fnmatch
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, output_option, settings_of, settings_options
from bus.core import findings

if TYPE_CHECKING:
    from bus.audit.record import Record
    from bus.core.actions import Failure

_POLL_S = 0.2  # how far behind the log a tap may be; a look at an idle log costs well under a millisecond


@click.command()
@click.option("--type", "glob", metavar="GLOB", help="Only types that fit, such as 'order.*'.")
@click.option("--conversation", metavar="ID", help="Only this conversation; the beginning of its id is enough.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Wait for more, until Ctrl-C.")
@click.option("--last", type=click.IntRange(0), default=10, show_default=True, help="Begin so many records back.")
@settings_options
@output_option()
def tap(glob: str | None, conversation: str | None, follow: bool, last: int, printer: Printer, **flags: Any) -> int:
    """Watch what the bus decides: time, message, route, where it went or why it did not.

    It reads the log and touches neither the broker nor the running bus. Following, it goes on where it was when
    the database was away for a while, and says so on standard error.

    \b
    Examples:
      bus tap
      bus tap --type 'customer.**' --last 100 --no-follow
      bus tap --output json | jq 'select(.end != "routed")'
    """
    from bus import bootstrap
    from bus.shell.patience import patiently

    tail = bootstrap.history(settings_of(flags)).tail(last)
    while True:
        found = patiently(tail.read, _waits) if follow else tail.read()
        for record in found:
            if _wanted(record, glob, conversation):
                printer.emit(as_data(record), line(record))
        if not found:
            if not follow:
                return 0
            time.sleep(_POLL_S)


def _waits(reason: str) -> None:
    click.echo(f"bus: waiting: {reason}", err=True)


def _wanted(record: Record, glob: str | None, conversation: str | None) -> bool:
    if conversation is not None and not record.conversation.startswith(conversation):
        return False
    if glob is None:
        return True
    from bus.core.table import fits

    return fits(glob, record.type) or fnmatch.fnmatchcase(record.type, glob)


def line(record: Record) -> str:
    """One record on one line."""
    targets = ", ".join(each.target for each in record.outputs) or "-"
    route = f" [{record.route}]" if record.route else ""
    why = f"  {record.reason}" if record.reason else ""
    at = clock(record.received_s)
    return f"{at}  {record.conversation[:8]}  {record.source} {record.type}{route} {record.end} -> {targets}{why}"


def clock(epoch_s: float) -> str:
    """Time of day in UTC, with milliseconds."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%H:%M:%S.%f")[:-3]


def failure_data(failure: Failure) -> dict[str, Any]:
    """A failure for programs."""
    return {
        "class": failure.failure,
        "code": failure.code,
        "reason": failure.reason,
        "step": failure.step,
        "agent": failure.agent,
        "findings": [findings.as_data(each) for each in failure.findings],
    }


def as_data(record: Record) -> dict[str, Any]:
    """One record for programs."""
    return {
        "partition": record.partition,
        "seq": record.seq,
        "received_s": record.received_s,
        "decided_s": record.decided_s,
        "conversation": record.conversation,
        "id": record.id,
        "type": record.type,
        "source": record.source,
        "causation": record.causation,
        "correlation": record.correlation,
        "end": record.end,
        "reason": record.reason,
        "route": record.route,
        "where": record.where,
        "why": record.why,
        "steps": list(record.steps),
        "failure": None if record.failure is None else failure_data(record.failure),
        "outputs": [{"target": each.target, "id": each.id, "type": each.type} for each in record.outputs],
    }
