"""Nodes with their secrets filled in; a reference without a value becomes a finding at its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bus.config.interpolate import fill, variables
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence, to_json
from bus.config.reader import Reader
from bus.core.message import Json


@dataclass(frozen=True, slots=True)
class Secrets:
    """Args:
    environment: the variables; nothing else of the process is looked at.
    needed: report those that are not there; without agents to run nobody needs them.
    """

    reader: Reader
    environment: Mapping[str, str]
    needed: bool = True
    _configured: dict[str, str | None] = field(default_factory=dict)
    _secret: set[str] = field(default_factory=set)

    def configured(self, name: str) -> str | None:
        """The variable that a configuration value is read from; None when it is not set, or empty."""
        value = self._configured[name] = self.environment.get(name) or None
        return value

    @property
    def configuration(self) -> dict[str, str | None]:
        """What configuration values have read, by variable; what is referred to as a secret anywhere is left out."""
        return {name: value for name, value in self._configured.items() if name not in self._secret}

    def json(self, node: Node) -> Json:
        """The plain value of a node with every reference in its texts replaced."""
        if isinstance(node, Sequence):
            return [self.json(each) for each in node.items]
        if isinstance(node, MappingNode):
            return {key.text: self.json(value) for key, value in node.pairs}
        return self._filled(node) if isinstance(node.value, str) else to_json(node)

    def scalar(self, node: Node) -> Node:
        """The node with its value filled in, read as YAML reads plain numbers. Its text stays as written."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str) or "${" not in node.text:
            return node
        filled = self._filled(node)
        if not self.needed and filled == node.value:
            return replace(node, broken=True)  # which is passed over in silence
        return replace(node, value=int(filled) if filled.isdecimal() and len(filled) < 19 else filled)

    def _filled(self, node: Scalar) -> str:
        text, unfilled = fill(str(node.value), self.environment)
        self._secret.update(variables(str(node.value)))
        for each in unfilled if self.needed else ():
            self.reader.report(node, "secret-missing", each.what, each.instead, offset=each.offset)
        return text
