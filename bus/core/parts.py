"""Parts of a step that wait at the same time: branches, items. Each ends with a result or a failure, which stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from bus.core.actions import Failure
from bus.core.errors import ExpressionFailed, StepFailed
from bus.core.flow import RouteFailed
from bus.core.instance import failed, failure_of
from bus.core.message import Json
from bus.core.work import Work


def part(work: Work, name: str, begin: Callable[[], Work], run: Callable[[Work], Json]) -> tuple[Json, str]:
    """The result of a part of a step, with its labels; once it is there, the way to it is forgotten.

    Args:
        work: of the step, which has the part's share of items counted off.
        name: of the part, as for `Work.branch`.
        begin: makes the part's own work; not asked any more when the result is there.
        run: gives the result.

    Raises:
        Suspended: there is none yet.
        RouteFailed: there will be none.
    """
    memory, path = work.remembering, f"{work.at}{name}"
    known = cast("dict[str, Any] | None", memory.known(f"{path}#done"))
    if known is None:
        known = _run(work, path, begin(), run)
    else:
        work.items_left -= known.get("items", 0)
    if "no" in known:
        raise RouteFailed(failure_of(known["no"]), known.get("then", "dead_letter"), ruled="then" in known)
    return cast("Json", known["ok"]), str(known["labels"])


def _run(work: Work, path: str, branch: Work, run: Callable[[Work], Json]) -> dict[str, Any]:
    memory = work.remembering
    result: dict[str, Json]
    items = work.items_left
    try:
        result = {"ok": run(branch), "labels": branch.label_text}
    except (StepFailed, ExpressionFailed, RouteFailed) as error:
        result = failed(as_failure(error), memory.now_s)
        if isinstance(error, RouteFailed) and error.ruled:
            result["then"] = error.then
    finally:
        work.items_left = branch.items_left
    if work.items_left != items:
        result["items"] = items - work.items_left
    memory.close(path)
    memory.keep(f"{path}#done", result)
    return result


def as_failure(error: Exception) -> Failure:
    """What a part has failed by."""
    if isinstance(error, RouteFailed):
        return error.failure
    if isinstance(error, StepFailed):
        return Failure(error.failure, error.code, error.reason, agent=error.agent, findings=error.findings)
    return Failure("internal", "expression", str(error))
