"""Targets: where a message goes, with its type and contract filled in and its payload checked against them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal, cast

from bus.config.audiences import AudienceReader, Choice
from bus.config.contracts import LoadedContract
from bus.config.declared import ASKED, Namespace
from bus.config.expressions import Compiled
from bus.config.finding import Severity
from bus.config.names import check_agent, check_capability, check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.observer import UNOBSERVED, Observer
from bus.config.patterns import TypeNames
from bus.config.places import Names
from bus.config.reader import Reader
from bus.config.slots import Slots
from bus.config.suggest import instead_of
from bus.config.types import ANY, STRING, Type
from bus.core.audience import Audience
from bus.core.message import FAILED
from bus.core.work import Among, Target

KINDS = ("agent", "capability", "event", "reply")

_Kind = Literal["agent", "capability", "event", "reply"]


@dataclass(frozen=True, slots=True)
class _Given:
    """What a target says besides its name.

    Args:
        type: static type of what it sends.
    """

    kind: _Kind
    choice: Choice | None
    data_node: Node | None
    value: Compiled | None
    type: Type


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
    observer: Observer = UNOBSERVED

    def read(self, node: Node, names: Names, beside: tuple[str, ...] = ()) -> Target | None:
        """A target, or None after adding findings.

        Args:
            beside: further keys that may stand there, which are read elsewhere.
        """
        reader = self.slots.reader
        body = reader.mapping(node, "to", "`{capability: ...}`")
        if body is None:
            return None
        reader.keys(body, (*KINDS, "data", "version", "where", "allow", *beside), "a target")
        kinds = [key for key, _ in body.pairs if key.text in KINDS]
        data_node = body.get("data")
        value = None if data_node is None else self.slots.value(data_node, names)
        if len(kinds) != 1:
            self._kinds(body, kinds)
            return None
        kind = cast(_Kind, kinds[0].text)
        name = body.get(kind)
        sound, choice = AudienceReader(reader, self.namespace).choice(body, kind)
        if not isinstance(name, Scalar):
            if name is not None:
                reader.wrong(name, kind, "a name")
            return None
        # Of a value with findings nothing more is known; without one the data goes as it is.
        type_ = value.type if value is not None else names["data"] if data_node is None else ANY
        given = _Given(kind, choice, data_node, value, type_)
        target = self._open(name, body, given, names) if "{{" in name.text else self._plain(name, body, given)
        return target if sound and (data_node is None or value is not None) else None

    def _kinds(self, body: MappingNode, kinds: SequenceOf[Scalar]) -> None:
        reader = self.slots.reader
        if kinds:
            what = f"a target is one of {', '.join(f'`{kind.text}`' for kind in kinds)}"
            reader.report(kinds[1], "bad-target", what, "a list of targets, or delete one")
        elif not any(reader.near_miss(body, kind) for kind in KINDS):
            what = "the target names no `agent`, `capability`, `event` or `reply`"
            reader.report(body, "missing-key", what, "`capability: ...`")

    def _plain(self, name: Scalar, body: MappingNode, given: _Given) -> Target | None:
        """The target of a name that stands in the file."""
        allow = body.key("allow")
        if allow is not None:
            self.slots.reader.report(allow, "bad-target", "`allow` is for a name from the message", "no `allow`")
            return None
        if name.broken or self.slots.reader.text(name, given.kind) is None or self.slots.env(name):
            return None
        return self._checked(name, given, given.data_node or name)

    def _open(self, name: Scalar, body: MappingNode, given: _Given, names: Names) -> Target | None:
        """A target that the message names, out of an allow-list: it never comes from content alone."""
        allow = body.get("allow")
        if given.kind == "reply" or allow is None:
            instead = "`ok` or `error`" if given.kind == "reply" else "`allow: [...]` beside it"
            self.slots.reader.report(name, "open-target", "target comes from message content", instead)
            return None
        pick = self.slots.value(name, names)
        if pick is not None and pick.type not in (ANY, STRING):
            self.slots.reader.wrong(name, given.kind, "a text", "`{{ ... }}` that gives a name")
            return None
        found: dict[str, Target] = {}
        for each, text in self.slots.reader.texts(allow, "allow"):
            target = self._checked(each, given, given.data_node or each)
            if target is not None:
                found[text] = target
        if isinstance(allow, Sequence) and not allow.items:
            self.slots.reader.report(allow, "wrong-type", "`allow` is empty", "the names that the message may give")
        if pick is None or not found:
            return None
        heard = any(target.to_route for target in found.values())
        return Target(given.kind, name.text, "", to_route=heard, among=Among(pick.expression, found))

    def _checked(self, name: Scalar, given: _Given, at: Node) -> Target | None:
        target = self._named(name, given)
        if target is None:
            return None
        built, contract = target
        if contract is not None:
            self.slots.check(at, given.type, contract)
        return self.observer.target(built)

    def _named(self, name: Scalar, given: _Given) -> tuple[Target, LoadedContract | None] | None:
        kind, value = given.kind, given.value
        leaf = None if value is None else value.expression
        audiences = AudienceReader(self.slots.reader, self.namespace)
        if kind == "agent":
            capability = self._pinned(name)
            audience = audiences.of_agents([name.text])
            return None if capability is None else self._request("agent", name.text, capability, value, audience)
        if kind == "capability":
            if not check_capability(name, self.namespace, self.slots.reader):
                return None
            audience = audiences.of_capability(name.text, given.choice)
            return self._request("capability", name.text, name.text, value, audience)
        if kind == "event":
            return self._event(name, value)
        word = self.slots.reader.choice(name, "reply", ("ok", "error"))
        if word is None:
            return None
        contract = self._asked_contract() if word == "ok" else None
        type_ = FAILED if word == "error" else ""
        everyone = audiences.of_agents(list(self.namespace.agents))
        return Target("reply", word, type_, leaf, contract, audience=everyone), contract

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
        self, kind: _Kind, name: str, capability: str, value: Compiled | None, audience: Audience | None
    ) -> tuple[Target, LoadedContract | None]:
        declared = self.namespace.capabilities.get(capability)
        contract = None if declared is None else declared.request
        leaf = None if value is None else value.expression
        lease_s = None if declared is None else declared.lease_s
        reply = None if declared is None else declared.reply
        type_ = f"{capability}.{ASKED}"
        return Target(kind, name, type_, leaf, contract, lease_s=lease_s, reply=reply, audience=audience), contract

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
        heard = self.namespace.matched.fit(name.text)
        audiences = AudienceReader(self.slots.reader, self.namespace)
        target = Target(
            "event",
            name.text,
            name.text,
            None if value is None else value.expression,
            contract,
            to_route=heard,
            to_subscribers=self.namespace.subscribed.fit(name.text),
            # What a route goes on with comes back to the bus, which looks at its subscribers then.
            audience=None if heard else audiences.of_event(name.text),
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
