"""How long messages stood still after the end of a bus process, as the log tells it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

ACTIVE_S = 30.0


class Takeover(NamedTuple):
    """Seconds from an end, epoch seconds, until the last partition decided something again; which partition."""

    seconds: float
    ended_s: float
    partition: int


def takeovers(ends_s: Iterable[float], decided_s: Mapping[int, Sequence[float]]) -> list[Takeover]:
    """For each end, the time until every partition has decided something again, whoever owns it then; shortest first.

    Whoever lived on goes on within milliseconds, so the longest wait is that of the partitions that lost their owner.

    Args:
        ends_s: when processes ended, epoch seconds.
        decided_s: by partition, when its inputs were decided, in ascending order; a partition that decides nothing
            any more does not count, nor does one that had nothing to decide for `ACTIVE_S` before the end: it is yet to
            be served, or is retired.
    """
    found = []
    for end in ends_s:
        after = [
            Takeover(times[at] - end, end, partition)
            for partition, times in decided_s.items()
            if 0 < (at := bisect_right(times, end)) < len(times) and times[at - 1] > end - ACTIVE_S
        ]
        if after:
            found.append(max(after))
    return sorted(found)


def quantile_ms(found: Sequence[Takeover], share: float) -> int | None:
    """A quantile of takeovers, shortest first, in milliseconds; None of nothing."""
    return round(found[min(int(len(found) * share), len(found) - 1)].seconds * 1000) if found else None
