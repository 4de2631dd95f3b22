"""Building what a target receives: its payload, checked against the target's contract before it leaves."""

from __future__ import annotations

from dataclasses import replace

from bus.core.audience import Audience
from bus.core.errors import StepFailed
from bus.core.shares import chosen
from bus.core.work import Among, Dispatch, Target, Work


def dispatch(target: Target, work: Work, *, answerable: bool) -> Dispatch:
    """Build one dispatch from the work as it is now.

    Args:
        answerable: the return address goes along (R2).

    Raises:
        StepFailed: the payload breaks the target's contract (class `contract`), the message names a target that is not
            allowed, or no agent there may have it (class `refusal`).
        ExpressionFailed: a leaf of the payload has no value.
    """
    if target.among is not None:
        target = _named(target.among, work)
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
    if target.audience is not None:
        target = permitted(target, target.audience, work.label_text, work.message.conversation, work.asker)
    return tuple.__new__(Dispatch, (target, data, answerable, "", work.labels))


def _named(among: Among, work: Work) -> Target:
    name = among.name(work.names)
    target = among.targets.get(name) if isinstance(name, str) else None
    if target is None:
        raise StepFailed("refusal", f"target `{name!s:.100}` is not in `allow`: {', '.join(among.targets)}")
    return target


def permitted(target: Target, audience: Audience, labels: str, conversation: str, asker: str = "") -> Target:
    """The target itself when its agents may have the message; one agent of a capability when only some may.

    Args:
        labels: text of the attribute.
        asker: for a reply: address of who gets it.

    Raises:
        StepFailed: none may (class `refusal`).
    """
    if target.kind in ("event", "agent", "reply"):
        reason = audience.blocked(labels, asker.removeprefix("agent:") if target.kind == "reply" else None)
        if reason:
            raise StepFailed("refusal", f"{name_of(target)}: {reason}", code="label")
        return target
    fit = audience.fit(labels)
    if not fit:
        raise StepFailed("refusal", f"{name_of(target)}: {audience.blocked(labels)}", code="label")
    if audience.whole and len(fit) == len(audience.members):
        return target
    return replace(target, kind="agent", name=chosen(conversation.encode(), dict.fromkeys(fit, 1)))


def name_of(target: Target) -> str:
    """The target as traces write it: `capability:sentiment`."""
    return f"{target.kind}:{target.name}"
