"""Schedules: messages that the bus sends by the clock, at times that a cron expression plans in a time zone.

A schedule is due when a planned time has passed since the one that was sent last. Sending is an entry of the log like
any other input's, with two outputs: the message, into the bus, and a row that says up to which time is sent. Both are
in one commit, so each planned time is sent once, whichever worker does it. Of several that passed while no bus ran the
latest is sent, late, and the others are not.

Daylight saving time is Debian cron's, by cronsim: a fixed time that the clock jumps over comes right after the jump,
one that comes twice is sent once, and what runs every hour or every few minutes goes by what the clock shows. The zones
are data that come with Python, read once: nothing else is looked at, and the time is always given.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from bus.core.actions import Decision, Delivery, Output
from bus.core.codec import encode
from bus.core.facts import Facts
from bus.core.message import HOPS, ID, SOURCE, SPECVERSION, TIME, TYPE, Attribute, Message
from bus.core.outputs import BUS, STRUCTURED, derived_id
from bus.core.route import Schedule
from bus.core.times import rfc3339

PLAN = "bus-plan"
"""Header of the row: expression and zone that it was made with; under another plan a schedule begins anew."""
SENT = "bus-sent"
"""Header of the row: the planned time up to which is sent, RFC 3339."""

_SETTLES_S = 90_000  # a clock change is over within this, so that from then on both ways of counting agree


def latest(schedule: Schedule, after_s: float, now_s: float) -> float | None:
    """The last planned time after `after_s` and not after `now_s`, in epoch seconds; None when there is none."""
    near = next(_times(schedule, int(now_s) + 1, backwards=True), None)
    if near is None or near <= after_s:
        return None
    # Counted backwards, a clock change may give another time than forwards; forwards is what holds.
    found = None
    for planned in _times(schedule, max(after_s, near - _SETTLES_S)):
        if planned > now_s:
            break
        found = planned
    return found


def following(schedule: Schedule, after_s: float) -> float | None:
    """The first planned time after `after_s`, in epoch seconds; None when there is none within 50 years.

    Raises:
        cronsim.CronSimError: the expression is none.
        zoneinfo.ZoneInfoNotFoundError: there is no such zone.
    """
    return next(_times(schedule, after_s), None)


def _times(schedule: Schedule, from_s: float, backwards: bool = False) -> Iterator[float]:
    start = datetime.fromtimestamp(int(from_s), ZoneInfo(schedule.zone))
    for planned in CronSim(schedule.cron, start, backwards):
        yield planned.astimezone(UTC).timestamp()


def plan_of(schedule: Schedule) -> str:
    """What the row remembers of how its times were planned."""
    return f"{schedule.cron} {schedule.zone}"


def sent(schedule: Schedule, planned_s: float, facts: Facts) -> tuple[Delivery, Decision]:
    """Decide to send what was planned for a time."""
    planned = rfc3339(planned_s)
    message = _message(schedule, planned, facts)
    body = encode(message.attributes, message.data)
    event = Output("ingress", message.type, message.id, message.type, message.id, body, STRUCTURED, {})
    why = f"schedule {schedule.name}, planned for {planned}"
    decision = Decision("routed", message, why=why, outputs=(event, _row(schedule, message, planned)))
    return _delivery(message, body, facts), decision


def begun(schedule: Schedule, facts: Facts) -> tuple[Delivery, Decision]:
    """Decide that a schedule begins: nothing is sent yet, and what was planned before is not missed."""
    message = _message(schedule, f"begins {facts.now}", facts)
    why, reason = f"schedule {schedule.name}", "it begins; planned times before this one are not sent"
    decision = Decision("filtered", message, why=why, reason=reason, outputs=(_row(schedule, message, facts.now),))
    return _delivery(message, encode(message.attributes, message.data), facts), decision


def _message(schedule: Schedule, planned: str, facts: Facts) -> Message:
    given: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: derived_id(planned, schedule.name, "schedule", 0),
        SOURCE: BUS,
        TYPE: schedule.type,
        TIME: facts.now,
        HOPS: facts.limits.hops,
    }
    return Message(given, schedule.data)


def _row(schedule: Schedule, message: Message, sent_: str) -> Output:
    headers: dict[str, Attribute] = {PLAN: plan_of(schedule), SENT: sent_}
    return Output("schedule", schedule.name, message.id, message.type, message.id, b"", STRUCTURED, headers)


def _delivery(message: Message, body: bytes, facts: Facts) -> Delivery:
    return Delivery(body, STRUCTURED, {}, facts.bus_user, message.id, message.type, message.id, "")
