"""Building what a target receives: its payload, checked against the target's contract before it leaves."""

from __future__ import annotations

from bus.core.errors import StepFailed
from bus.core.work import Dispatch, Target, Work


def dispatch(target: Target, work: Work, *, answerable: bool) -> Dispatch:
    """Build one dispatch from the work as it is now.

    Args:
        answerable: the return address goes along (R2).

    Raises:
        StepFailed: the payload breaks the target's contract (class `contract`).
        ExpressionFailed: a leaf of the payload has no value.
    """
    data = work.names["data"] if target.data is None else target.data(work.names)
    if target.contract is not None:
        findings = target.contract.check(data)
        if findings:
            first = findings[0]
            raise StepFailed(
                "contract",
                f"{target.kind} {target.name} wants {target.contract.name}: {first.pointer or '/'} "
                f"expected {first.expected}, got {first.got}",
                findings,
            )
    return tuple.__new__(Dispatch, (target, data, answerable, ""))


def name_of(target: Target) -> str:
    """The target as traces write it: `capability:sentiment`."""
    return f"{target.kind}:{target.name}"
