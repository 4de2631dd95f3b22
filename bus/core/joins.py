"""Joins: when several results are enough, and what comes of them.

all, any, quorum    close when satisfied, fail when they cannot be satisfied any more
best_effort         awaits everyone until the deadline, and then takes what there is
require             these must be among the results, under every policy
deadline            past it: `fail`, or `partial` takes what there is, if `require` is; best_effort always does
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bus.core.actions import Failure
from bus.core.errors import StepFailed
from bus.core.message import Json


@dataclass(frozen=True, slots=True)
class Join:
    """Args:
    n: results that a quorum needs.
    deadline_s: seconds from the start, or None.
    """

    policy: Literal["all", "any", "quorum", "best_effort"]
    n: int = 1
    require: tuple[str, ...] = ()
    deadline_s: float | None = None
    partial: bool = False


def made(parsed: Mapping[str, Any]) -> Join:
    """The join that `bus.core.spec.JOIN` describes.

    Raises:
        ValueError: a quorum without its number, or a number without a quorum.
    """
    policy = parsed["policy"]
    if (policy == "quorum") != ("n" in parsed):
        raise ValueError("`n` belongs to `quorum`, which needs it", "`{policy: quorum, n: 2, deadline: 8s}`")
    partial = parsed.get("on_deadline") == "partial"
    return Join(policy, parsed.get("n", 1), parsed.get("require", ()), parsed["deadline"], partial)


def closed(
    join: Join, results: Mapping[str, Json], failures: Mapping[str, Failure], open_: Sequence[str], *, late: bool
) -> bool:
    """Whether it is over.

    Args:
        results, failures: by branch.
        open_: branches that are awaited.
        late: the deadline has passed.

    Raises:
        StepFailed: it cannot be satisfied; class and agent are those of the branch that failed, or class `timeout`.
    """
    lacking = [name for name in join.require if name not in results]
    for name in lacking:
        if name in failures:
            raise _unreachable(f"`{name}` is required and failed", failures[name])
        if name not in open_:
            raise _unreachable(f"`{name}` is required and takes no part")
    missing = len(failures) + len(open_)
    wanted = {"all": len(results) + missing, "any": 1, "quorum": join.n, "best_effort": 0}[join.policy]
    if join.policy != "best_effort":
        if len(results) >= wanted and not lacking:
            return True
        if len(results) + len(open_) < wanted:
            raise _unreachable(f"{len(results) + len(open_)} of {wanted} can still answer", *failures.values())
    elif not open_ and not lacking:
        return True
    if not late:
        return False
    if lacking or not (join.partial or join.policy == "best_effort"):
        awaited = lacking or open_
        raise StepFailed("timeout", f"{join.policy}: the deadline passed without {', '.join(awaited)}", code="join")
    return True


def _unreachable(why: str, *failures: Failure) -> StepFailed:
    first = failures[0] if failures else Failure("unavailable", "join", "nobody was asked")
    reason = f"{why}: {first.reason}"
    return StepFailed(first.failure, reason, first.findings, code=first.code, agent=first.agent)


def outcome(results: dict[str, Json] | list[Json], missing: list[Json], total: int) -> dict[str, Json]:
    """What `into` gets.

    Args:
        results: by branch; by index for items.
        missing: names or indices of those that gave nothing.
    """
    complete = (total - len(missing)) / total if total else 1.0
    return {"results": results, "completeness": complete, "missing": missing, "degraded": bool(missing)}
