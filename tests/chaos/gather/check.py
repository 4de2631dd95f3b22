"""What must be true of the composed results at the end: pure, sets against sets.

composed          runs of which a result came, with the right three answers in it
lost              runs of which none came
twice             runs of which results came under two ids
wrong             results with other than the run's own three answers, or one id with two contents
asked_twice       requests and results that two decisions have in the log
set_aside         dead letters and invalid messages
left_remembered   rows that are still remembered
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from tests.chaos.sinks import Arrival

BRANCHES = ("one", "two", "three")
BAD = ("lost", "twice", "wrong", "asked_twice", "set_aside", "left_remembered")


def check(runs: Collection[str], arrivals: Iterable[Arrival], logged: Iterable[str], left: int) -> dict[str, int]:
    """Count.

    Args:
        runs: that were begun.
        arrivals: at all sinks.
        logged: ids of requests and results in the log, as often as a decision has them.
        left: rows that are remembered at the end.
    """
    ids: dict[str, set[str]] = defaultdict(set)
    contents: dict[str, set[str]] = defaultdict(set)
    good: set[str] = set()
    wrong = aside = repeats = 0
    for each in arrivals:
        if each.place != "collector":
            aside += 1
            continue
        data: Any = each.data
        run = str(data["run"])
        repeats += each.id in contents
        ids[run].add(each.id)
        contents[each.id].add(each.digest)
        if run in runs and _right(run, data["results"]):
            good.add(run)
        else:
            wrong += 1
    wrong += sum(len(each) - 1 for each in contents.values())
    return {
        "composed": len(good),
        "lost": len(set(runs) - set(ids)),
        "twice": sum(len(each) - 1 for each in ids.values()),
        "wrong": wrong,
        "asked_twice": sum(count - 1 for count in Counter(logged).values()),
        "set_aside": aside,
        "left_remembered": left,
        "repeats": repeats,
    }


def _right(run: str, results: dict[str, Any]) -> bool:
    return list(results) == list(BRANCHES) and all(
        (each["run"], each["by"]) == (run, branch) for branch, each in results.items()
    )
