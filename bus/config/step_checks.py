"""What lint knows of single kinds of steps beyond their shape: names to be declared, fields that must be there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bus.config.declared import Namespace
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.places import Names
from bus.config.reader import Reader
from bus.config.suggest import instead_of, nearest
from bus.config.types import ANY, List, Object, Type
from bus.config.yamlfaults import clip
from bus.core.message import CONVERSATION


class RunPlace(NamedTuple):
    """Where the runs of a route live.

    Args:
        serial: where its `serial_by` says.
        observe: where the copies come.
    """

    serial: bool
    observe: bool


class Checked(NamedTuple):
    """A step that has been read.

    Args:
        node: what stands under its key; `parsed` is the same, read by its shape.
        names: its scope.
        place: where the runs of its route live, or None when that is not known.
        part: kind of the step of which it stands in a part, or "".
    """

    node: Node
    parsed: Any
    names: Names
    namespace: Namespace
    reader: Reader
    place: RunPlace | None
    part: str


def check_labels(node: Node | None, namespace: Namespace, reader: Reader) -> None:
    """Report labels of a list that nobody declares: a misspelt one would protect nothing."""
    for each in node.items if isinstance(node, Sequence) else ():
        if not isinstance(each, Scalar) or each.broken or each.text in namespace.labels:
            continue
        if namespace.unread & {"integration", ""}:
            continue
        otherwise = f"`labels: {{{clip(each.text)}: {{}}}}` in an integration document"
        instead = instead_of(each.text, namespace.labels, otherwise)
        reader.report(each, "unknown-label", f"the label `{clip(each.text)}` is not declared", instead)


def _label(step: Checked) -> None:
    if isinstance(step.node, MappingNode):
        check_labels(step.node.get("add"), step.namespace, step.reader)
        check_labels(step.node.get("remove"), step.namespace, step.reader)


def _redact(step: Checked) -> None:
    """A field that is not there by its contract: what was meant would go on unredacted."""
    for (path, _), (key, _) in zip(step.parsed.items(), getattr(step.node, "pairs", ()), strict=False):
        type_: Type = step.names.get(path[0], ANY)
        for depth, name in enumerate(path[1:], start=1):
            while isinstance(type_, List):
                type_ = type_.item
            if not isinstance(type_, Object):
                break
            if name not in type_.fields and type_.rest is None and type_.fields:
                who = type_.name or f"`{'.'.join(path[:depth])}`"
                close = nearest(name, type_.fields)
                fixed = ".".join((*path[:depth], close or "", *path[depth + 1 :])) if close else ""
                instead = f"`{fixed}`" if fixed else instead_of(name, type_.fields)
                offset = len(".".join(path[:depth])) + 1
                step.reader.report(key, "unknown-field", f"{who} has no `{name}`", instead, offset=offset)
                break
            type_ = type_.fields.get(name, ANY)


_OF_THE_CONVERSATION = f"msg.{CONVERSATION}"


def _by(step: Checked) -> None:
    """A step that brings messages together by a key: those of a key must come to one place."""
    node = step.node.get("by") if isinstance(step.node, MappingNode) else None
    if step.place is None or not isinstance(node, Scalar) or _OF_THE_CONVERSATION in node.text:
        return
    if step.place.observe:
        what = "a route that observes gets its copies where they come, not together by a key"
        step.reader.report(node, "needs-serial-by", what, f"`{_OF_THE_CONVERSATION}`, or the route without `observe`")
    elif not step.place.serial:
        what = "messages with one key come to several partitions, and this step sees one"
        instead = f"`serial_by: {clip(node.text)}` in the route, or `by: {_OF_THE_CONVERSATION}`"
        step.reader.report(node, "needs-serial-by", what, instead)


def _aggregate(step: Checked) -> None:
    _whole(step, "aggregate", "joins its group")


def _resequence(step: Checked) -> None:
    _whole(step, "resequence", "takes its turn")


def _whole(step: Checked, kind: str, does: str) -> None:
    if step.part:
        what = f"a message {does} as a whole, and not by a part of `{step.part}`"
        step.reader.report(step.node, "bad-step", what, f"`{kind}` before or after `{step.part}`")
    else:
        _by(step)


def _throttle(step: Checked) -> None:
    if step.place is not None and step.place.observe:
        what = "a route that observes gets its copies where they come, and no step sees all of them"
        step.reader.report(step.node, "bad-step", what, "the route without `observe`")


def _detour(step: Checked) -> None:
    """Nothing to report: what is switched must be known to who switches it."""
    step.namespace.controls.add(step.parsed["control"])


CHECKS: Mapping[str, Callable[[Checked], None]] = {
    "detour": _detour,
    "label": _label,
    "redact": _redact,
    "throttle": _throttle,
    "idempotent": _by,
    "aggregate": _aggregate,
    "resequence": _resequence,
}
