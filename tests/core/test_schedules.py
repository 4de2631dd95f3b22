"""When schedules are due: through both changes of the clock, and after any time without a bus."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.core.route import Schedule
from bus.core.schedules import following, latest
from bus.core.times import rfc3339


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def planned(cron: str, zone: str, begin: str, end: str) -> list[str]:
    """All planned times after `begin` and not after `end`, both UTC, as UTC without its seconds."""
    schedule, found, now_s = Schedule("s", cron, zone, "t"), [], at(begin)
    while (next_s := following(schedule, now_s)) is not None and next_s <= at(end):
        found.append(rfc3339(next_s)[5:16])
        now_s = next_s
    return found


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        # 2026-03-29 in Berlin: 02:00 becomes 03:00, which is 01:00 UTC.
        ("30 2 * * *", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),  # right after the jump
        ("30 3 * * *", ["03-28T02:30", "03-29T01:30", "03-30T01:30"]),
        ("0 */12 * * *", ["03-28T11:00", "03-28T23:00", "03-29T10:00", "03-29T22:00", "03-30T10:00"]),
    ],
)
def test_a_fixed_time_that_the_clock_jumps_over_comes_right_after(cron: str, wanted: list[str]) -> None:
    assert planned(cron, "Europe/Berlin", "2026-03-28T00:00", "2026-03-30T12:00") == wanted


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        # 2026-10-25 in Berlin: 03:00 becomes 02:00, which is 01:00 UTC; 02:30 comes twice.
        ("30 2 * * *", ["10-25T00:30", "10-26T01:30"]),  # once
        ("30 * * * *", ["10-24T23:30", "10-25T00:30", "10-25T01:30", "10-25T02:30"]),  # the clock shows 02:30 twice
    ],
)
def test_a_fixed_time_that_comes_twice_is_planned_once(cron: str, wanted: list[str]) -> None:
    end = "2026-10-25T03:00" if "* * * *" in cron[2:] and cron.startswith("30 *") else "2026-10-26T03:00"
    assert planned(cron, "Europe/Berlin", "2026-10-24T23:00", end) == wanted


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
CRONS = ("30 2 * * *", "0 * * * *", "*/15 * * * *", "15 1 * * 0", "0 9 1 * *", "30 1,2,3 * * *", "5 */2 * * *")


@settings(max_examples=60)
@given(
    st.sampled_from(ZONES), st.sampled_from(CRONS),
    st.lists(st.integers(0, 365 * 86_400), min_size=2, max_size=6, unique=True).map(sorted),
)  # fmt: skip
def test_whenever_it_is_looked_at_the_latest_planned_time_is_found_once(zone: str, cron: str, looks: list[int]) -> None:
    schedule, start_s = Schedule("s", cron, zone, "t"), at("2026-01-01T00:00")
    sent_s = start_s + looks[0]
    for before, now in pairwise(looks):
        found = latest(schedule, sent_s, start_s + now)
        after = following(schedule, sent_s)
        assert after is not None
        if found is None:
            assert after > start_s + now
            continue
        assert sent_s < found <= start_s + now
        coming = following(schedule, found)
        assert coming is not None
        assert coming > start_s + now  # none was passed over
        assert latest(schedule, found, start_s + now) is None
        assert start_s + before < coming
        sent_s = found
