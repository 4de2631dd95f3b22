"""How long messages stood still after the end of a bus process, as the log tells it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence


def takeovers_s(ends_s: Iterable[float], decided_s: Mapping[int, Sequence[float]]) -> list[float]:
    """For each end, the time until every partition has decided something again, whoever owns it then; sorted.

    Whoever lived on goes on within milliseconds, so the longest wait is that of the partitions that lost their owner.

    Args:
        ends_s: when processes ended, epoch seconds.
        decided_s: by partition, when its inputs were decided, in ascending order; a partition that decides nothing
            any more does not count.
    """
    found = []
    for end in ends_s:
        after = [times[at] - end for times in decided_s.values() if (at := bisect_right(times, end)) < len(times)]
        if after:
            found.append(max(after))
    return sorted(found)


def quantile_ms(sorted_s: Sequence[float], share: float) -> int | None:
    """A quantile of sorted seconds, in milliseconds; None of nothing."""
    return round(sorted_s[min(int(len(sorted_s) * share), len(sorted_s) - 1)] * 1000) if sorted_s else None
