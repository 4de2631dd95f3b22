"""Targets: where a message goes, with its type and contract filled in and its payload checked against them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal

from bus.config.contracts import LoadedContract
from bus.config.declared import ASKED, Namespace
from bus.config.expressions import Compiled
from bus.config.finding import Severity
from bus.config.names import check_agent, check_capability, check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.patterns import TypeNames
from bus.config.places import Names
from bus.config.reader import Reader
from bus.config.slots import Slots
from bus.config.suggest import instead_of
from bus.core.message import FAILED
from bus.core.work import Target

KINDS = ("agent", "capability", "event", "reply")
LATER_KEYS = ("version", "where", "allow")

_Kind = Literal["agent", "capability", "event", "reply"]


@dataclass(frozen=True, slots=True)
class TargetReader:
    """Reads the targets of one route.

    Args:
        known: all known types.
        matched: exact types that the route matches.
        published: events that routes send, for the check that somebody wants them.
    """

    slots: Slots
    namespace: Namespace
    known: TypeNames
    matched: tuple[str, ...]
    published: list[Scalar] = field(default_factory=list)

    def read(self, node: Node, names: Names, beside: tuple[str, ...] = ()) -> Target | None:
        """A target, or None after adding findings.

        Args:
            beside: further keys that may stand there, which are read elsewhere.
        """
        reader = self.slots.reader
        body = reader.mapping(node, "to", "`{capability: ...}`")
        if body is None:
            return None
        reader.keys(body, (*KINDS, "data", *beside), "a target", LATER_KEYS)
        kinds = [key for key, _ in body.pairs if key.text in KINDS]
        data_node = body.get("data")
        value = None if data_node is None else self.slots.value(data_node, names)
        if len(kinds) != 1:
            self._kinds(body, kinds)
            return None
        name = body.get(kinds[0].text)
        if not isinstance(name, Scalar) or not self._plain(name, kinds[0].text):
            if not isinstance(name, Scalar) and name is not None:
                reader.wrong(name, kinds[0].text, "a name")
            return None
        target = self._named(kinds[0].text, name, value)
        if target is None or (data_node is not None and value is None):
            return None
        built, contract = target
        if contract is not None:
            self.slots.check(data_node or name, names["data"] if value is None else value.type, contract)
        return built

    def _kinds(self, body: MappingNode, kinds: SequenceOf[Scalar]) -> None:
        reader = self.slots.reader
        if kinds:
            what = f"a target is one of {', '.join(f'`{kind.text}`' for kind in kinds)}"
            reader.report(kinds[1], "bad-target", what, "a list of targets, or delete one")
        elif not any(reader.near_miss(body, kind) for kind in KINDS):
            what = "the target names no `agent`, `capability`, `event` or `reply`"
            reader.report(body, "missing-key", what, "`capability: ...`")

    def _plain(self, name: Scalar, kind: str) -> bool:
        """Whether the name is plain text: a target never comes from the message."""
        if "{{" in name.text:
            what = "target comes from message content"
            self.slots.reader.report(name, "open-target", what, "`recipient_list` with `allow: [...]`")
            return False
        return not name.broken and self.slots.reader.text(name, kind) is not None and not self.slots.env(name)

    def _named(self, kind: str, name: Scalar, value: Compiled | None) -> tuple[Target, LoadedContract | None] | None:
        leaf = None if value is None else value.expression
        if kind == "agent":
            capability = self._pinned(name)
            return None if capability is None else self._request("agent", name.text, capability, value)
        if kind == "capability":
            if not check_capability(name, self.namespace, self.slots.reader):
                return None
            return self._request("capability", name.text, name.text, value)
        if kind == "event":
            return self._event(name, value)
        word = self.slots.reader.choice(name, "reply", ("ok", "error"))
        if word is None:
            return None
        contract = self._asked_contract() if word == "ok" else None
        type_ = FAILED if word == "error" else ""
        return Target("reply", word, type_, leaf, contract), contract

    def _pinned(self, name: Scalar) -> str | None:
        """The one capability of a pinned agent."""
        if not check_agent(name, self.namespace, self.slots.reader):
            return None
        has = self.namespace.agents[name.text].agent.capabilities
        if len(has) == 1:
            return has[0]
        what = f"agent `{name.text}` has {len(has) or 'no'} capabilities, and `agent:` needs exactly one"
        instead = "`" + "`, `".join(f"capability: {each}" for each in has) + "`" if has else "`capability: ...`"
        self.slots.reader.report(name, "not-one-capability", what, instead)
        return None

    def _request(
        self, kind: _Kind, name: str, capability: str, value: Compiled | None
    ) -> tuple[Target, LoadedContract | None]:
        declared = self.namespace.capabilities.get(capability)
        contract = None if declared is None else declared.request
        leaf = None if value is None else value.expression
        lease_s = None if declared is None else declared.lease_s
        reply = None if declared is None else declared.reply
        return Target(kind, name, f"{capability}.{ASKED}", leaf, contract, lease_s=lease_s, reply=reply), contract

    def _event(self, name: Scalar, value: Compiled | None) -> tuple[Target, LoadedContract | None] | None:
        if "*" in name.text:
            self.slots.reader.report(name, "bad-name", "an event has one type", instead_of(name.text, self.known))
            return None
        if not check_type(name, self.namespace, self.slots.reader, self.known):
            return None
        capability, _, last = name.text.rpartition(".")
        if last == ASKED and capability in self.namespace.capabilities:
            what = f"`{name.text}` is no event but what the capability `{capability}` is asked with"
            self.slots.reader.report(name, "bad-target", what, f"`capability: {capability}`")
            return None
        self.published.append(name)
        contract = self.namespace.contract_of(name.text)
        target = Target(
            "event",
            name.text,
            name.text,
            None if value is None else value.expression,
            contract,
            to_route=self.namespace.matched.fit(name.text),
            to_subscribers=self.namespace.subscribed.fit(name.text),
        )
        return target, contract

    def _asked_contract(self) -> LoadedContract | None:
        """The reply contract, when the route answers requests of one capability."""
        if len(self.matched) != 1:
            return None
        capability, _, last = self.matched[0].rpartition(".")
        declared = self.namespace.capabilities.get(capability)
        return declared.reply if declared is not None and last == ASKED else None

    def read_to(self, node: Node, names: Names) -> tuple[Target, ...]:
        """The value of `to`: one target or a list, with at most one that is no event."""
        if not isinstance(node, Sequence):
            target = self.read(node, names)
            return () if target is None else (target,)
        found: list[Target] = []
        spoken = False
        for each in node.items:
            target = self.read(each, names)
            if target is None:
                continue
            if target.kind != "event" and spoken:
                what = "only one target of a list may answer the asker; the others are events"
                self.slots.reader.report(each, "two-answers", what, "`event: ...`, or `wire_tap` before it")
            spoken = spoken or target.kind != "event"
            found.append(target)
        return tuple(found)


def check_wanted(namespace: Namespace, published: SequenceOf[Scalar], reader: Reader) -> None:
    """Report events that nobody owns or subscribes to: an error where a route sends them, since it always would.

    Args:
        published: the names as routes write them; those that agents may publish are in the namespace.
    """
    if namespace.unread:
        return  # who wants them may be declared there
    for name in published:
        _check_wanted(namespace, name, reader, "error")
    for declared in namespace.agents.values():
        node = declared.body.get("publishes")
        publishes = frozenset(declared.agent.publishes)
        for each in node.items if isinstance(node, Sequence) else ():
            if isinstance(each, Scalar) and each.text in publishes:
                _check_wanted(namespace, each, reader, "warning")


def _check_wanted(namespace: Namespace, name: Scalar, reader: Reader, severity: Severity) -> None:
    declared = namespace.types.get(name.text)
    if declared is None or declared.unrouted:
        return
    if namespace.owned.fit(name.text) or namespace.subscribed.fit(name.text):
        return
    what = f"no route owns `{name.text}` and no agent subscribes to it"
    reader.report(name, "no-owner", what, "a route for it, or `unrouted: ok` under its type", severity=severity)
