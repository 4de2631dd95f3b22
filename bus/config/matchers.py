"""Matchers of route tests, out of YAML: a map of fields, a list of items, or `$words` that stand for any value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence, to_json
from bus.config.slots import Slots
from bus.config.suggest import instead_of
from bus.config.types import ANY
from bus.config.yamlfaults import clip
from bus.rehearsal.matching import (
    TYPES,
    Absent,
    Anything,
    Equal,
    Every,
    Fields,
    Has,
    Holds,
    Items,
    Matcher,
    Matching,
    Near,
    OfType,
    exactly,
)

_ALONE: Mapping[str, Matcher] = {"$any": Anything(), "$absent": Absent()}
_WORD = re.compile(r"\$[a-z]+")


@dataclass(frozen=True, slots=True)
class MatcherReader:
    """Reads the matchers of one folder's tests."""

    slots: Slots

    def read(self, node: Node) -> Matcher | None:
        """A matcher, or None after adding findings."""
        if isinstance(node, Scalar):
            return self._scalar(node)
        if isinstance(node, Sequence):
            items = self._all(node.items)
            return None if items is None else Items(items)
        if any(_WORD.fullmatch(key.text) for key, _ in node.pairs):
            return self._words(node)
        fields = {key.text: self.read(value) for key, value in node.pairs}
        found = {name: each for name, each in fields.items() if each is not None}
        return Fields(found) if len(found) == len(fields) else None

    def _all(self, nodes: tuple[Node, ...]) -> tuple[Matcher, ...] | None:
        items = [self.read(each) for each in nodes]
        found = tuple(each for each in items if each is not None)
        return found if len(found) == len(items) else None

    def _scalar(self, node: Scalar) -> Matcher | None:
        if node.broken:
            return None
        if not isinstance(node.value, str) or not _WORD.fullmatch(node.text):
            return Equal(node.value)
        if node.text in _ALONE:
            return _ALONE[node.text]
        if node.text in self._readers():
            self.slots.reader.report(node, "unknown-matcher", f"`{node.text}` needs a value", f"`{{{node.text}: ...}}`")
        else:
            what = f"there is no matcher `{clip(node.text)}`"
            instead = (
                instead_of(node.text, _ALONE, "the text") + f', or `{{$exactly: "{clip(node.text)}"}}` for the text'
            )
            self.slots.reader.report(node, "unknown-matcher", what, instead)
        return None

    def _words(self, node: MappingNode) -> Matcher | None:
        found: list[Matcher | None] = []
        readers = self._readers()
        for key, value in node.pairs:
            if key.text in readers:
                found.append(readers[key.text](value, key.text))
                continue
            if key.text in _ALONE:
                self.slots.reader.report(key, "unknown-matcher", f"`{key.text}` takes no value", f"`{key.text}` alone")
            elif _WORD.fullmatch(key.text):
                what = f"there is no matcher `{clip(key.text)}`"
                self.slots.reader.report(key, "unknown-matcher", what, instead_of(key.text, readers))
            else:
                what = f"the field `{clip(key.text)}` stands beside a matcher"
                self.slots.reader.report(key, "unknown-matcher", what, "either fields or matchers")
            found.append(None)
        good = tuple(each for each in found if each is not None)
        if len(good) < len(found):
            return None
        return good[0] if len(good) == 1 else Every(good)

    def _readers(self) -> Mapping[str, Callable[[Node, str], Matcher | None]]:
        return {
            "$type": self._type,
            "$match": self._match,
            "$near": self._near,
            "$has": self._has,
            "$exactly": lambda node, _: exactly(to_json(node)),
            "$cel": self._cel,
        }

    def _type(self, node: Node, slot: str) -> Matcher | None:
        name = self.slots.reader.choice(node, slot, TYPES)
        return None if name is None else OfType(name)

    def _match(self, node: Node, slot: str) -> Matcher | None:
        text = self.slots.reader.text(node, slot)
        if text is None:
            return None
        try:
            return Matching(re.compile(text))
        except re.error as error:
            what = f"`{clip(text)}` is no regular expression: {error}"
            self.slots.reader.report(node, "wrong-type", what, "one that Python's `re` reads")
            return None

    def _near(self, node: Node, slot: str) -> Matcher | None:
        values = to_json(node)
        if isinstance(values, list) and len(values) == 2:
            value, tolerance = values
            if _number(value) and _number(tolerance):
                return Near(float(value), float(tolerance))  # type: ignore[arg-type] # both are numbers
        self.slots.reader.wrong(node, slot, "a number and how far off it may be", "`$near: [0.5, 0.01]`")
        return None

    def _has(self, node: Node, slot: str) -> Matcher | None:
        items = self._all(node.items if isinstance(node, Sequence) else (node,))
        return None if items is None else Has(items)

    def _cel(self, node: Node, slot: str) -> Matcher | None:
        expression = self.slots.expression(node, slot, {"value": ANY}, "bool")
        return None if expression is None else Holds(expression)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
