"""Reading values out of nodes: each method gives the value, or None after adding a finding.

So every reader of a document can go on after a mistake, and one load reports all of them. A node that already has a
finding (`broken`) gives None in silence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bus.config.finding import Findings, Severity
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.suggest import instead_of, nearest
from bus.config.yamlfaults import clip

NAME = re.compile(r"[a-z][a-z0-9_-]*")
_EXPRESSION_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)*")
_GLOB = re.compile(r"(\*|[A-Za-z0-9][A-Za-z0-9_-]*)(\.(\*|[A-Za-z0-9][A-Za-z0-9_-]*))*(\.\*\*)?|\*\*")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,9})(B|KiB|MiB)")
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024 * 1024}
PATTERNS: Mapping[str, str] = {
    "name": NAME.pattern,
    "expression": _EXPRESSION_NAME.pattern,
    "type": _TYPE.pattern,
    "glob": _GLOB.pattern,
    "duration": _DURATION.pattern,
    "rate": _RATE.pattern,
    "size": _SIZE.pattern,
}
"""What names, durations and rates look like, for the editor schema: ECMA regular expressions, to be anchored."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_DURATION_S = 3650 * 86400.0  # ten years; beyond it times overflow somewhere


def described(node: Node) -> str:
    """What stands at a node, for findings."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return f"`{node.text}`"
    if isinstance(node.value, str):
        return f'the text "{clip(node.text)}"'
    return f"the number {clip(node.text)}"


@dataclass(frozen=True, slots=True)
class Reader:
    """Args:
    findings: where findings go.
    """

    findings: Findings

    def report(
        self,
        node: Node,
        code: str,
        what: str,
        instead: str = "",
        *,
        offset: int | None = None,
        severity: Severity = "error",
    ) -> None:
        """Add a finding at a node, or at a character of a scalar's text."""
        index = node.index(offset) if isinstance(node, Scalar) and offset is not None else node.start
        self.findings.add(node.source.finding(index, code, what, instead, severity))

    def wrong(self, node: Node, slot: str, expected: str, instead: str = "") -> None:
        """Report `wrong-type`, unless the node has a finding already."""
        if not (isinstance(node, Scalar) and node.broken):
            self.report(node, "wrong-type", f"`{slot}` wants {expected}, got {described(node)}", instead)

    def mapping(self, node: Node, slot: str, instead: str = "") -> MappingNode | None:
        if isinstance(node, MappingNode):
            return node
        self.wrong(node, slot, "a mapping", instead)
        return None

    def items(self, node: Node, slot: str, instead: str = "") -> tuple[Node, ...] | None:
        """The items of a list."""
        if isinstance(node, Sequence):
            return node.items
        self.wrong(node, slot, "a list", instead)
        return None

    def keys(self, node: MappingNode, known: Collection[str], owner: str, later: Collection[str] = ()) -> None:
        """Report every key that is not known in `owner`, e.g. `a route`. Any object may have a `description`."""
        for key, _ in node.pairs:
            if key.text == "description":
                continue
            if key.text in later:
                what = f"`{key.text}` in {owner} is not in this version"
                self.report(key, "unknown-key", what, f"{owner} without it")
            elif key.text.startswith("-") and key.text[1:] not in known:
                item = clip(key.text[1:])
                self.report(key, "unknown-key", f"`-{item}` is a key, and no item of a list", f"`- {item}: ...`")
            elif key.text not in known:
                what = f"unknown key `{clip(key.text)}` in {owner}"
                self.report(key, "unknown-key", what, instead_of(key.text, known))

    def required(self, node: MappingNode, key: str, owner: str, at: Node | None = None) -> Node | None:
        """The value under a key that must be there."""
        value = node.get(key)
        if value is None and not self.near_miss(node, key):
            self.report(at or node, "missing-key", f"{owner} has no `{key}`", f"`{key}: ...`")
        return value

    def near_miss(self, node: MappingNode, key: str) -> bool:
        """Whether a misspelt `key` stands there: it has its own finding, so that is enough."""
        return any(nearest(each.text, [key]) == key for each, _ in node.pairs)

    def text(self, node: Node, slot: str) -> str | None:
        if isinstance(node, Scalar) and isinstance(node.value, str) and not node.broken:
            return node.text
        quotes = f'`"{clip(node.text)}"`' if isinstance(node, Scalar) and node.text else ""
        self.wrong(node, slot, "a text", quotes)
        return None

    def texts(self, node: Node, slot: str, *, or_one: bool = False) -> tuple[tuple[Scalar, str], ...]:
        """The texts of a list, each with its node; with `or_one` a single text will do."""
        if or_one and isinstance(node, Scalar):
            nodes: tuple[Node, ...] = (node,)
        else:
            nodes = self.items(node, slot, "`[...]`") or ()
        found = ((each, self.text(each, slot)) for each in nodes)
        return tuple((each, text) for each, text in found if text is not None and isinstance(each, Scalar))

    def name(self, node: Node, slot: str, kind: Literal["name", "expression", "type", "glob"] = "name") -> str | None:
        """A name of the given kind."""
        text = self.text(node, slot)
        if text is None:
            return None
        if kind == "expression" and NAME.fullmatch(text) and "-" in text:
            self.report(node, "dash-name", f"`{text}` reads as minus", f"`{text.replace('-', '_')}`")
            return None
        pattern, example = {
            "name": (NAME, "small letters, digits, `_` and `-`, a letter first"),
            "expression": (_EXPRESSION_NAME, "small letters, digits and `_`, a letter first"),
            "type": (_TYPE, "dotted names such as `order.placed`"),
            "glob": (_GLOB, "dotted names, `*` for one of them, `**` at the end for the rest"),
        }[kind]
        if len(text) > 200 or not pattern.fullmatch(text):
            word = "name" if kind == "expression" else kind
            self.report(node, "bad-name", f"`{clip(text)}` is not a {word}", example)
            return None
        return text

    def integer(self, node: Node, slot: str, minimum: int = 0) -> int | None:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int) and not isinstance(value, bool) and value >= minimum:
            return value
        self.wrong(node, slot, f"a whole number of at least {minimum}", "a number")
        return None

    def number(self, node: Node, slot: str, least: float, most: float) -> float | None:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        self.wrong(node, slot, f"a number from {least:g} to {most:g}", "a number")
        return None

    def boolean(self, node: Node, slot: str) -> bool | None:
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        self.wrong(node, slot, "`true` or `false`", "`true` or `false`")
        return None

    def choice(self, node: Node, slot: str, values: Iterable[str], code: str = "wrong-type") -> str | None:
        known = tuple(values)
        text = node.text if isinstance(node, Scalar) and not node.broken else None
        if text in known:
            return text
        if text is None or not text:
            self.wrong(node, slot, "one word", instead_of("", known))
        else:
            self.report(node, code, f"`{slot}` cannot be `{clip(text)}`", instead_of(text, known))
        return None

    def duration(self, node: Node, slot: str) -> float | None:
        """Seconds."""
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(node, Scalar) and isinstance(value, (int, float)) and not isinstance(value, bool):
            self.report(node, "unit", f"`{slot}: {clip(node.text)}` has no unit", f"`{clip(node.text)}s`")
            return None
        if isinstance(node, Scalar) and isinstance(value, str):
            seconds = self._seconds(node, slot, value)
            if seconds is None or seconds <= _MAX_DURATION_S:
                return seconds
        self.wrong(node, slot, "a time such as `8s`, at most ten years", "a number with ms, s, m, h or d")
        return None

    def rate(self, node: Node, slot: str) -> float | None:
        """So many in a second."""
        text = node.text if isinstance(node, Scalar) and not isinstance(node.value, bool) else ""
        match = _RATE.fullmatch(text) if len(text) <= 32 else None
        if match is not None and float(match.group(1)) > 0:
            return float(match.group(1)) / _SECONDS[match.group(2)]
        if isinstance(node, Scalar) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            what = f"`{slot}: {clip(node.text)}` has no unit"
            self.report(node, "unit", what, f"`{clip(node.text)}/s`")
        elif isinstance(node, Scalar) and text and not node.broken:
            what = f"`{slot}: {clip(node.text)}` is no rate"
            self.report(node, "unit", what, "a number above 0 for each s, m, h or d: `20/s`")
        else:
            self.wrong(node, slot, "a rate such as `20/s`", "a number with /s, /m, /h or /d")
        return None

    def _seconds(self, node: Scalar, slot: str, text: str) -> float | None:
        match = _DURATION.fullmatch(text) if len(text) <= 32 else None
        if match is not None:
            return float(match.group(1)) * _SECONDS[match.group(2)]
        if not node.broken:
            closed = node.text.replace(" ", "")  # not `text`: that may hold a secret
            instead = f"`{closed}`" if _DURATION.fullmatch(closed) else "a number with ms, s, m, h or d"
            self.report(node, "unit", f"`{slot}: {clip(node.text)}` is no time", instead)
        return None

    def size(self, node: Node, slot: str) -> int | None:
        """Bytes."""
        text = node.text if isinstance(node, Scalar) and not node.broken else ""
        match = _SIZE.fullmatch(text)
        if match is not None:
            return int(match.group(1)) * _BYTES[match.group(2)]
        if isinstance(node, Scalar) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            self.report(node, "unit", f"`{slot}: {clip(text)}` has no unit", f"`{clip(text)}B`, or KiB, or MiB")
        else:
            self.wrong(node, slot, "a size such as `16KiB`", "a whole number with B, KiB or MiB")
        return None


def mapping_of(node: Node | None) -> Mapping[str, Node]:
    """Keys and values of a mapping node; empty for anything else."""
    return {key.text: value for key, value in node.pairs} if isinstance(node, MappingNode) else {}
