"""The agents document: agents, how each is run, and the capabilities they offer.

ADAPTERS is the table of what each adapter may be told. Adapter settings are the one place where secrets are filled in,
besides `attributes` and `config`; names, types and paths are never interpolated, so no finding can show a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bus.config.assets import Assets
from bus.config.declared import DeclaredAgent, DeclaredCapability, Document, Namespace
from bus.config.files import Folder
from bus.config.names import check_capability, check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.patterns import TypeNames
from bus.config.reader import Reader
from bus.config.secrets import Secrets
from bus.config.yamlfaults import clip
from bus.core.endpoints import endpoints
from bus.core.errors import Unreachable
from bus.core.identity import CLIENT, GATEWAY
from bus.core.message import Json
from bus.core.outputs import BUS
from bus.core.route import Agent

AGENT_KEYS = (
    "adapter", "capabilities", "version", "attributes", "subscribes", "publishes", "concurrency", "timeout"
)  # fmt: skip
CAPABILITY_KEYS = ("request", "reply", "idempotent", "lease")
ADAPTERS: Mapping[str, tuple[str, ...]] = {
    "sdk": ("run", "env"),
    "stdio": ("command", "env", "restart"),
    "bridge": ("url", "namespace", "as"),
    "external": (),
}
"""Keys of each adapter: `sdk` runs a Python file's agent, `stdio` any program, `bridge` carries events to another bus,
`external` is run by someone else."""
NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")
LEAST_LEASE_S = 3  # renewed after a third of it, and looked at every second
RESTART_KEYS = ("attempts", "initial", "max")


@dataclass(frozen=True, slots=True)
class AgentsReader:
    """Reads agents documents into the namespace."""

    reader: Reader
    assets: Assets
    secrets: Secrets
    namespace: Namespace

    def read(self, document: Document) -> None:
        self.reader.keys(document.node, ("agents", "capabilities"), "an agents document")
        capabilities = document.node.get("capabilities")
        if capabilities is not None and (found := self.reader.mapping(capabilities, "capabilities")) is not None:
            for key, value in found.pairs:
                self._capability(key, value, document.folder)
        agents = document.node.get("agents")
        if agents is not None and (found := self.reader.mapping(agents, "agents")) is not None:
            for key, value in found.pairs:
                self._agent(key, value, document.folder)

    def _free(
        self, key: Scalar, kind: str, others: Mapping[str, DeclaredAgent] | Mapping[str, DeclaredCapability]
    ) -> bool:
        """Whether no other document declares the name."""
        other = others.get(key.text)
        if other is None:
            return True
        line, _ = other.node.source.position(other.node.start)
        what = f"{other.node.source.path}:{line} also declares the {kind} `{key.text}`"
        self.reader.report(key, "duplicate-name", what, "another name")
        return False

    def _capability(self, key: Scalar, value: Node, folder: Folder) -> None:
        name = self.reader.name(key, "a capability")
        body = self.reader.mapping(value, key.text, "`{request: schemas/..., reply: schemas/...}`")
        if name is None or not self._free(key, "capability", self.namespace.capabilities):
            return
        if body is None:
            self.namespace.capabilities[name] = DeclaredCapability(key, None, None, False, None)
            return
        self.reader.keys(body, CAPABILITY_KEYS, "a capability")
        request = self.reader.required(body, "request", f"capability `{name}`", key)
        reply = self.reader.required(body, "reply", f"capability `{name}`", key)
        idempotent = body.get("idempotent")
        self.namespace.capabilities[name] = DeclaredCapability(
            key,
            None if request is None else self.assets.contract(request, "request", folder),
            None if reply is None else self.assets.contract(reply, "reply", folder),
            idempotent is not None and self.reader.boolean(idempotent, "idempotent") is True,
            self._lease(body),
        )

    def _lease(self, body: MappingNode) -> int | None:
        node = body.get("lease")
        seconds = None if node is None else self.reader.duration(node, "lease")
        if node is None or seconds is None:
            return None
        if seconds < LEAST_LEASE_S:
            self.reader.wrong(node, "lease", f"a time of at least {LEAST_LEASE_S}s", "`1m`")
            return None
        return math.ceil(seconds)

    def _agent(self, key: Scalar, value: Node, folder: Folder) -> None:
        name = self.reader.name(key, "an agent")
        body = self.reader.mapping(value, key.text, "`{adapter: sdk, run: file.py:agent}`")
        if name is None or not self._free(key, "agent", self.namespace.agents):
            return
        if name in (CLIENT, GATEWAY, BUS):
            what = f"`{name}` is the source of the bus's own messages"
            self.reader.report(key, "bad-name", what, "another name")
        if body is None:
            body = MappingNode(value.source, value.start, ())
            self.namespace.declare_agent(DeclaredAgent(key, body, Agent(name, "external")))
            return
        adapter_node = self.reader.required(body, "adapter", f"agent `{name}`", key)
        adapter = None if adapter_node is None else self.reader.choice(adapter_node, "adapter", ADAPTERS)
        adapter_keys = ADAPTERS[adapter] if adapter else tuple(key for keys in ADAPTERS.values() for key in keys)
        self.reader.keys(body, (*AGENT_KEYS, *adapter_keys), f"an agent with adapter `{adapter or '...'}`")
        if adapter == "bridge" and (offered := body.get("capabilities")) is not None:
            what = "a bridge carries events and has no capabilities"
            self.reader.report(offered, "not-here", what, "`subscribes` and `publishes`")
        settings = self._settings(name, key, adapter, body, folder)
        agent = Agent(
            name=name,
            adapter=adapter or "external",
            capabilities=self._names(body, "capabilities", "name"),
            subscribes=self._names(body, "subscribes", "glob"),
            publishes=self._names(body, "publishes", "type"),
            concurrency=self._number(body),
            timeout_s=self._timeout(body),
            version=str(self._value(body, "version") or ""),
            attributes=self._attributes(body),
            settings=settings,
            folder=str(folder.root),
        )
        self.namespace.declare_agent(DeclaredAgent(key, body, agent))

    def _names(self, body: MappingNode, slot: str, kind: str) -> tuple[str, ...]:
        node = body.get(slot)
        if node is None:
            return ()
        found = self.reader.texts(node, slot)
        names = (self.reader.name(each, slot, kind) for each, _ in found)  # type: ignore[arg-type]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def _number(self, body: MappingNode) -> int:
        node = body.get("concurrency")
        filled = self.secrets.scalar(node) if node is not None else None
        return 1 if filled is None else self.reader.integer(filled, "concurrency", 1) or 1

    def _timeout(self, body: MappingNode) -> float | None:
        node = body.get("timeout")
        return None if node is None else self.reader.duration(self.secrets.scalar(node), "timeout")

    def _value(self, body: MappingNode, slot: str) -> Json:
        node = body.get(slot)
        return None if node is None else self.secrets.json(node)

    def _attributes(self, body: MappingNode) -> Mapping[str, Json]:
        node = body.get("attributes")
        if node is None or self.reader.mapping(node, "attributes") is None:
            return {}
        value = self.secrets.json(node)
        return value if isinstance(value, dict) else {}

    def _settings(
        self, name: str, key: Scalar, adapter: str | None, body: MappingNode, folder: Folder
    ) -> Mapping[str, Json]:
        """Adapter settings with secrets filled in."""
        required = {"sdk": "run", "stdio": "command", "bridge": "url"}.get(adapter or "")
        if required is not None:
            self.reader.required(body, required, f"agent `{name}` with adapter `{adapter}`", key)
        readers: Mapping[str, Callable[[Node, Folder], Json]] = {
            "run": self._run, "command": self._command, "env": self._env, "restart": self._restart,
            "url": self._url, "namespace": self._name, "as": self._name,
        }  # fmt: skip
        return {
            key.text: readers[key.text](value, folder)
            for key, value in body.pairs
            if key.text in ADAPTERS.get(adapter or "", ())
        }

    def _url(self, node: Node, folder: Folder) -> Json:
        if self.reader.text(node, "url") is None:
            return None
        url = self.secrets.json(node)
        try:
            endpoints(str(url) or "amqp://unset")  # a variable that is not set has a finding of its own
        except Unreachable as error:
            what = str(error).partition(";")[0]
            self.reader.report(node, "bad-url", what, "`url: ${OTHER_BUS}`, with amqp://USER:PASSWORD@HOST/ in it")
        return url

    def _name(self, node: Node, folder: Folder) -> Json:
        text = self.reader.text(node, "a name on the other bus")
        filled = None if text is None else str(self.secrets.json(node))
        if text is not None and filled and not NAMESPACE.fullmatch(filled):
            self.reader.report(node, "bad-name", f"`{clip(text)}` is not a name", "letters, digits, `_` and `-`")
        return filled

    def _run(self, node: Node, folder: Folder) -> Json:
        text = self.reader.text(node, "run")
        if text is None:
            return None
        file, colon, attribute = text.rpartition(":")
        if not colon or not file.endswith(".py") or not attribute.isidentifier():
            what = "`run` names a Python file and the agent in it"
            self.reader.report(node, "wrong-type", what, "`run: file.py:agent`")
            return None
        self.assets.file(node, "run", folder, ".py", file)
        return text

    def _command(self, node: Node, folder: Folder) -> Json:
        if isinstance(node, Scalar) and node.text and not node.broken:
            words = ", ".join(node.text.split()[:6])
            self.reader.report(node, "wrong-type", "`command` is a list of arguments, not a shell line", f"`[{words}]`")
            return None
        if isinstance(node, Sequence) and not node.items:
            self.reader.report(node, "wrong-type", "`command` is empty", "the program and its arguments")
        self.reader.texts(node, "command")
        return self.secrets.json(node)

    def _env(self, node: Node, folder: Folder) -> Json:
        names: list[Json] = []
        for each, text in self.reader.texts(node, "env"):
            if text.isidentifier() and text.isascii():
                names.append(text)
            else:
                what = "`env` lists names of variables that the agent may see"
                self.reader.report(each, "bad-name", what, "`env: [NAME]`")
        return names

    def _restart(self, node: Node, folder: Folder) -> Json:
        body = self.reader.mapping(node, "restart", "`{attempts: 5, initial: 1s, max: 30s}`")
        if body is None:
            return None
        self.reader.keys(body, RESTART_KEYS, "`restart`")
        found: dict[str, Json] = {}
        for key, value in body.pairs:
            if key.text == "attempts":
                found["attempts"] = self.reader.integer(value, "attempts")
            elif key.text in RESTART_KEYS:
                found[key.text] = self.reader.duration(value, key.text)
        return found


def check_agents(namespace: Namespace, reader: Reader) -> None:
    """Report capabilities and types that agents name and nobody declares."""
    known = TypeNames(namespace.type_names())
    for declared in namespace.agents.values():
        agent = declared.agent
        slots = (("capabilities", agent.capabilities), ("publishes", agent.publishes), ("subscribes", agent.subscribes))
        for slot, names in slots:
            node = declared.body.get(slot)
            given = frozenset(names)
            for each in node.items if isinstance(node, Sequence) else ():
                if isinstance(each, Scalar) and each.text in given:
                    _check_name(slot, each, namespace, reader, known)


def _check_name(slot: str, node: Scalar, namespace: Namespace, reader: Reader, types: TypeNames) -> None:
    if slot == "capabilities":
        check_capability(node, namespace, reader, declared=True)
    else:
        check_type(node, namespace, reader, types)
