"""What lint knows of steps that ask and wait: joins that leave somebody out, and asking again what must not be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bus.config.declared import ASKED, Namespace
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.reader import Reader
from bus.core.work import Target

_NOTHING_DONE = frozenset(("refusal", "rate_limit", "budget"))
"""Failures by which an agent says that it has not begun: asking again is harmless."""


def check_join(node: Node | None, reader: Reader) -> None:
    """Warn of a quorum that may close before everybody has answered."""
    branches = node.get("branches") if isinstance(node, MappingNode) else None
    join = node.get("join") if isinstance(node, MappingNode) else None
    if not isinstance(join, MappingNode) or not isinstance(branches, MappingNode):
        return
    policy, needed, required = join.get("policy"), join.get("n"), join.get("require")
    if not isinstance(policy, Scalar) or policy.text != "quorum" or not isinstance(needed, Scalar):
        return
    listed = required.items if isinstance(required, Sequence) else ()
    must = {each.text for each in listed if isinstance(each, Scalar)}
    spare = [key.text for key, _ in branches.pairs if key.text not in must]
    if isinstance(needed.value, int) and needed.value < len(branches.pairs) and spare:
        names = " or ".join(f"`{name}`" for name in spare)
        what = f"closes after {needed.value} of {len(branches.pairs)} and may drop {names}"
        reader.report(policy, "quorum-drops", what, "`best_effort` to await all", severity="warning")


def check_retry(rules: Node | None, asked: Iterable[str], namespace: Namespace, reader: Reader) -> None:
    """Report rules that ask a capability again which does not say that asking twice is harmless.

    Args:
        asked: the capabilities that the steps ask for which the rules are.
    """
    unsafe = [name for name in asked if name in namespace.capabilities]
    unsafe = [name for name in unsafe if not namespace.capabilities[name].idempotent]
    for rule in rules.items if isinstance(rules, Sequence) and unsafe else ():
        retry = rule.key("retry") if isinstance(rule, MappingNode) else None
        if retry is not None and isinstance(rule, MappingNode) and not _classes(rule) <= _NOTHING_DONE:
            instead = "`idempotent: true` on the capability, or remove `retry`"
            reader.report(retry, "unsafe-retry", f"`{unsafe[0]}` is not idempotent", instead)


def _classes(rule: MappingNode) -> frozenset[str]:
    """The classes of a rule; one that is for any failure is for `timeout` as well."""
    node = rule.get("class")
    nodes = node.items if isinstance(node, Sequence) else (node,)
    return frozenset(each.text for each in nodes if isinstance(each, Scalar)) or frozenset(("timeout",))


def asked(parsed: Any) -> Iterable[str]:
    """The capabilities that a step asks."""
    if isinstance(parsed, Target):
        capability, _, last = parsed.type.rpartition(".")
        if parsed.kind in ("agent", "capability") and last == ASKED:
            yield capability
    elif isinstance(parsed, dict):
        for each in parsed.values():
            yield from asked(each)
