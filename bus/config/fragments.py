"""Fragments: steps with a name and typed parameters, which `use` puts into routes when they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bus.config.assets import Assets
from bus.config.declared import DeclaredFragment, Document, Namespace, Parameter, config_values
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar
from bus.config.places import MSG, Names, TypeOf
from bus.config.reader import Reader
from bus.config.slots import Slots
from bus.config.suggest import instead_of
from bus.config.types import ANY, BOOL, DOUBLE, INT, OPEN, STRING, List, Object, Type, an, describe, options
from bus.config.yamlfaults import clip
from bus.core.steps.use import PARAMETER_TYPES

KEYS = ("fragment", "with", "steps")
_TYPES: Mapping[str, Type] = {
    "string": STRING, "integer": INT, "number": DOUBLE, "boolean": BOOL, "list": List(ANY), "object": OPEN, "any": ANY,
}  # fmt: skip
_ALSO = {"number": "integer"}


def may_be(type_: Type, wanted: str) -> bool:
    """Whether a value of a static type can be what a parameter wants, as far as known."""
    return wanted == "any" or any(each == ANY or _word(each) in (wanted, _ALSO.get(wanted)) for each in options(type_))


def _word(type_: Type) -> str:
    return "list" if isinstance(type_, List) else describe(type_)


@dataclass(frozen=True, slots=True)
class FragmentReader:
    """Reads fragment documents into the namespace, and what a `use` gives to one."""

    reader: Reader
    assets: Assets
    namespace: Namespace

    def declare(self, document: Document) -> None:
        """Take a fragment in; its steps are compiled where they are used."""
        node = document.node
        self.reader.keys(node, KEYS, "a fragment")
        name_node = node.get("fragment")
        name = None if name_node is None else self.reader.name(name_node, "fragment")
        slots = Slots(self.reader, self.assets, document.folder)
        slots.forbid_env(node)
        parameters: dict[str, Parameter] = {}
        given = node.get("with")
        if given is not None and (body := self.reader.mapping(given, "with", "`{NAME: {type: string}}`")) is not None:
            for key, value in body.pairs:
                parameter = self._parameter(key, value, slots)
                if parameter is not None:
                    parameters[key.text] = parameter
        if name is None or not isinstance(name_node, Scalar):
            return
        self.reader.required(node, "steps", f"fragment `{name}`", name_node)
        other = self.namespace.fragments.get(name)
        if other is not None:
            line, _ = other.node.source.position(other.node.start)
            what = f"{other.node.source.path}:{line} is fragment `{name}` too"
            self.reader.report(name_node, "duplicate-name", what, "another name")
            return
        self.namespace.fragments[name] = DeclaredFragment(name_node, document, parameters)

    def _parameter(self, key: Scalar, value: Node, slots: Slots) -> Parameter | None:
        name = self.reader.name(key, "a parameter", "expression")
        body = self.reader.mapping(value, key.text, "`{type: string}`")
        if name is None or body is None:
            return None
        self.reader.keys(body, ("type", "default"), "a parameter")
        type_node = self.reader.required(body, "type", f"parameter `{name}`", key)
        kind = None if type_node is None else self.reader.choice(type_node, "type", PARAMETER_TYPES)
        default_node = body.get("default")
        default = None if default_node is None else slots.value(default_node, {})
        if kind is None or (default_node is not None and default is None):
            return None
        if default is not None and default_node is not None:
            self._typed(default_node, name, default.type, kind)
        return Parameter(kind, default)

    def _typed(self, node: Node, name: str, type_: Type, wanted: str) -> None:
        if not may_be(type_, wanted):
            article = an(_TYPES[wanted])
            self.reader.report(node, "wrong-type", f"`{name}` wants {article}, got {an(type_)}", article)

    def used(self, node: MappingNode, parsed: Any, type_of: TypeOf) -> tuple[DeclaredFragment, dict[str, Any]] | None:
        """The fragment of a `use` and all that its step is built from but the steps, or None after adding findings.

        Args:
            parsed: the `use` by its shape.
            type_of: static types of its values.
        """
        name_node, fragment = node.get("fragment"), self.namespace.fragments.get(parsed["fragment"])
        if fragment is None:
            if not self.namespace.unread & {"fragment", ""} and name_node is not None:
                what = f"there is no fragment `{clip(parsed['fragment'])}`"
                instead = instead_of(parsed["fragment"], self.namespace.fragments, "a document `fragment: NAME`")
                self.reader.report(name_node, "unknown-fragment", what, instead)
            return None
        with_node = node.get("with")
        given = dict(parsed.get("with", {}))
        if isinstance(with_node, MappingNode):
            self.reader.keys(with_node, tuple(fragment.parameters), f"the parameters of `{fragment.node.text}`")
            for key, value in with_node.pairs:
                parameter = fragment.parameters.get(key.text)
                if parameter is not None:
                    self._typed(value, key.text, type_of(given.get(key.text)), parameter.type)
        good = given.keys() <= fragment.parameters.keys()
        for name, parameter in fragment.parameters.items():
            if name not in given and parameter.default is not None:
                given[name] = parameter.default.expression
            elif name not in given:
                good = False
                what = f"fragment `{fragment.node.text}` wants `{name}`"
                self.reader.report(with_node or node, "missing-key", what, f"`with: {{{name}: ...}}`")
        if not good:
            return None
        config = config_values(self.namespace.integrations[fragment.document.integration])
        types = {name: each.type for name, each in fragment.parameters.items()}
        return fragment, {"fragment": fragment.node.text, "with": given, "types": types, "config": config}

    def scope(self, fragment: DeclaredFragment, names: Names) -> Names:
        """The scope at the start of a fragment's steps.

        Args:
            names: the scope of the `use`.
        """
        values = self.namespace.integrations[fragment.document.integration].config
        config = Object(
            {name: type_ for name, (_, type_) in values.items()}, frozenset(values), exact=True, name="config"
        )
        parameters = {name: _TYPES[each.type] for name, each in fragment.parameters.items()}
        own = Object(parameters, frozenset(parameters), exact=True, name="vars")
        given = {name: names.get(name, ANY) for name in ("data", "request")}
        return {**given, "msg": names.get("msg", MSG), "vars": own, "config": config}
