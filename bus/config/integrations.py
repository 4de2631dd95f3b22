"""The integration document: message types with their contracts, configuration values, defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bus.config.assets import Assets
from bus.config.audiences import attributes
from bus.config.declared import DeclaredLabel, DeclaredType, DeclaredVersion, Document, Integration, Namespace
from bus.config.files import Folder
from bus.config.gateways import GatewayReader
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar
from bus.config.reader import Reader
from bus.config.schedules import ScheduleReader
from bus.config.secrets import Secrets
from bus.config.suggest import instead_of
from bus.config.type_versions import VersionsReader
from bus.config.types import ANY, BOOL, DOUBLE, INT, STRING, Type
from bus.core.message import Json
from bus.rehearsal.coverage import UNITS

KEYS = ("integration", "uses", "config", "types", "labels", "gateway", "schedules", "defaults", "coverage")
TYPE_KEYS = ("contract", "upcast", "unrouted")
CONFIG_KEYS = ("type", "default", "env")
CONFIG_TYPES: Mapping[str, Type] = {"string": STRING, "integer": INT, "number": DOUBLE, "boolean": BOOL}


@dataclass(frozen=True, slots=True)
class IntegrationReader:
    """Reads integration documents into the namespace."""

    reader: Reader
    assets: Assets
    secrets: Secrets
    namespace: Namespace
    uses: list[tuple[Scalar, Folder]] = field(default_factory=list)

    def read(self, document: Document, integration: Integration) -> None:
        node = document.node
        self.reader.keys(node, KEYS, "an integration")
        name = node.get("integration")
        if isinstance(name, Scalar):
            self._once(name, integration)
        uses = node.get("uses")
        for each, _ in self.reader.texts(uses, "uses") if uses is not None else ():
            self.uses.append((each, document.folder))
        for key, value in self._pairs(node, "config"):
            self._config(key, value, integration)
        for key, value in self._pairs(node, "types"):
            self._type(key, value, document.folder)
        for key, value in self._pairs(node, "gateway"):
            GatewayReader(self.reader, self.namespace).read(key, value, integration)
        for key, value in self._pairs(node, "schedules"):
            ScheduleReader(self.reader, self.secrets, self.namespace).read(key, value, integration)
        for key, value in self._pairs(node, "labels"):
            self._label(key, value)
        defaults = node.get("defaults")
        if defaults is not None and (found := self.reader.mapping(defaults, "defaults")) is not None:
            self.reader.keys(found, ("on_error",), "`defaults`")
            integration.on_error = found.get("on_error")
        coverage = node.get("coverage")
        if (
            coverage is not None
            and (found := self.reader.mapping(coverage, "coverage", "`{branches: 90}`")) is not None
        ):
            self._coverage(found, integration)

    def _pairs(self, node: MappingNode, name: str) -> Iterable[tuple[Scalar, Node]]:
        """What stands under a key that is a mapping of names."""
        inner = node.get(name)
        found = None if inner is None else self.reader.mapping(inner, name)
        return () if found is None else found.pairs

    def _coverage(self, node: MappingNode, integration: Integration) -> None:
        """How much of it `bus test` must reach, in percent."""
        self.reader.keys(node, UNITS, "`coverage`")
        for key, value in node.pairs:
            least = self.reader.integer(value, key.text) if key.text in UNITS else None
            if least is not None and least > 100:
                self.reader.wrong(value, key.text, "percent, 0 to 100", "`100`")
            elif least is not None:
                integration.coverage[key.text] = least

    def _once(self, name: Scalar, integration: Integration) -> None:
        if integration.node is not None:
            line, _ = integration.node.source.position(integration.node.start)
            what = f"{integration.node.source.path}:{line} is this folder's integration document already"
            self.reader.report(name, "duplicate-name", what, "one per folder")
        integration.node = name

    def _type(self, key: Scalar, value: Node, folder: Folder) -> None:
        name = self.reader.name(key, "a type", "type")
        if name is None:
            return
        if not self._free(key, "type", self.namespace.types):
            return
        body = self.reader.mapping(value, name, "`{contract: schemas/...}`")
        versions: tuple[DeclaredVersion, ...] = ()
        unrouted = False
        if body is not None:
            self.reader.keys(body, TYPE_KEYS, "a type")
            contract_node = self.reader.required(body, "contract", f"type `{name}`", key)
            if contract_node is not None:
                versions = VersionsReader(self.reader, self.assets).read(contract_node, body.get("upcast"), folder)
            unrouted_node = body.get("unrouted")
            unrouted = unrouted_node is not None and self.reader.choice(unrouted_node, "unrouted", ("ok",)) == "ok"
        self.namespace.types[name] = DeclaredType(key, versions, unrouted)

    def _label(self, key: Scalar, value: Node) -> None:
        name = self.reader.name(key, "a label")
        body = self.reader.mapping(value, key.text, "`{requires: {region: eu}}`, or `{}`")
        if name is None or not self._free(key, "label", self.namespace.labels):
            return
        requires = None
        if body is not None:
            self.reader.keys(body, ("requires",), "a label")
            node = body.get("requires")
            requires = {} if node is None else attributes(node, "requires", self.reader)
        self.namespace.labels[name] = DeclaredLabel(key, requires or {})

    def _free(self, key: Scalar, kind: str, others: Mapping[str, DeclaredType] | Mapping[str, DeclaredLabel]) -> bool:
        """Whether no other document declares the name."""
        other = others.get(key.text)
        if other is None:
            return True
        line, _ = other.node.source.position(other.node.start)
        what = f"{other.node.source.path}:{line} also declares the {kind} `{key.text}`"
        self.reader.report(key, "duplicate-name", what, "it once")
        return False

    def _config(self, key: Scalar, value: Node, integration: Integration) -> None:
        name = self.reader.name(key, "a configuration value", "expression")
        body = self.reader.mapping(value, key.text, "`{type: string, default: ...}`")
        if name is None:
            # Routes that use it say so in the same words; without this they would call it unknown as well.
            integration.config[key.text.replace("-", "_")] = (None, ANY)
            return
        integration.config[name] = (None, ANY)
        if body is None:
            return
        self.reader.keys(body, CONFIG_KEYS, "a configuration value")
        type_node = self.reader.required(body, "type", f"configuration value `{name}`", key)
        kind = None if type_node is None else self.reader.choice(type_node, "type", CONFIG_TYPES)
        if kind is not None:
            integration.config[name] = (self._value(name, key, body, kind), CONFIG_TYPES[kind])

    def _value(self, name: str, key: Scalar, body: MappingNode, kind: str) -> Json:
        variable = body.get("env")
        env = None if variable is None else self.reader.text(variable, "env")
        given = self.secrets.configured(env) if env else None
        if variable is not None and given is not None:
            found, value = converted(given, kind)
            if not found:
                self.reader.report(variable, "wrong-type", f"the variable {env} is no {kind}", f"{_an(kind)} into it")
            return value
        default = body.get("default")
        if default is None and self.reader.near_miss(body, "default"):
            return None  # which has its finding
        if default is None:
            what = f"`{name}` has no `default`" + (f" and the variable {env} is not set" if env else " and no `env`")
            self.reader.report(key, "config-missing", what, "`default: ...`" + (f", or set {env}" if env else ""))
            return None
        raw = self.secrets.json(default)
        found, value = converted(raw, kind)
        if not found and not (isinstance(default, Scalar) and default.broken):
            text = default.text if isinstance(default, Scalar) else "..."
            written = isinstance(raw, str) and raw != text
            self.reader.report(default, "wrong-type", f"`default` is no {kind}", "" if written else _an(kind))
        return value


def _an(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def converted(value: Json, kind: str) -> tuple[bool, Json]:
    """A configuration value as its type; texts (variables have no other kind) are read as numbers and truth values."""
    if kind == "string":
        return isinstance(value, str), value if isinstance(value, str) else None
    if kind == "boolean":
        word = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
        return isinstance(word, bool), word if isinstance(word, bool) else None
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return False, None
        if kind == "integer":
            number = int(value) if not isinstance(value, float) else None
            return number is not None and abs(number) < 2**63, number
        real = float(value)
        return abs(real) != float("inf") and real == real, real
    except ValueError:
        return False, None


def check_uses(reader: Reader, uses: list[tuple[Scalar, Folder]], namespace: Namespace) -> None:
    """Report integrations that are used and not there."""
    for node, _ in uses:
        if node.text not in namespace.integrations:
            what = f"there is no integration `{node.text[:80]}` beside this one"
            reader.report(node, "unknown-integration", what, instead_of(node.text, namespace.integrations, "its name"))
