"""Whom a target may reach: agents of its capability with the right version and attributes, and the labels' rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bus.config.declared import Namespace
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.reader import Reader
from bus.config.versions import suits, wanted
from bus.config.yamlfaults import clip
from bus.core.audience import Attributes, Audience, unmet
from bus.core.message import Json
from bus.core.route import Agent
from bus.core.table import fits


@dataclass(frozen=True, slots=True)
class Choice:
    """What `version` and `where` of a target ask of an agent.

    Args:
        at: the last of their keys, for findings.
    """

    version: str
    where: Attributes
    at: Scalar

    def takes(self, agent: Agent) -> bool:
        return (not self.version or suits(agent.version, self.version)) and not unmet(agent.attributes, self.where)


def attributes(node: Node, slot: str, reader: Reader) -> Attributes | None:
    """What is wanted of an agent: a mapping of values, each a plain one or a list of which one will do."""
    body = reader.mapping(node, slot, "`{region: eu}`")
    found: dict[str, Json] = {}
    for key, value in () if body is None else body.pairs:
        given = [_plain(each, key.text, reader) for each in value.items] if isinstance(value, Sequence) else None
        one = _plain(value, key.text, reader) if given is None else None
        if None in (given or [one]):
            return None
        found[key.text] = list(given) if given is not None else one
    return None if body is None else found


def _plain(node: Node, slot: str, reader: Reader) -> Json:
    if isinstance(node, Scalar) and isinstance(node.value, (str, int, float)) and not node.broken:
        return node.value
    reader.wrong(node, slot, "a plain value, or a list of them", "`eu` or `[eu, us]`")
    return None


@dataclass(frozen=True, slots=True)
class AudienceReader:
    """Makes the audiences of one namespace's targets."""

    reader: Reader
    namespace: Namespace

    def choice(self, body: MappingNode, kind: str) -> tuple[bool, Choice | None]:
        """Whether a target's `version` and `where` are sound, and what they ask; None when they are not there."""
        version: str | None = ""
        where: Attributes | None = {}
        at: Scalar | None = None
        for slot in ("version", "where"):
            node, key = body.get(slot), body.key(slot)
            if node is None or key is None:
                continue
            at = key
            if kind != "capability":
                what = f"`{slot}` chooses among the agents of a capability, and this target is `{kind}`"
                self.reader.report(key, "bad-target", what, f"`capability: ...`, or drop `{slot}`")
                return False, None
            if slot == "version":
                version = self._version(node)
            else:
                where = attributes(node, slot, self.reader)
        if version is None or where is None:
            return False, None
        return True, None if at is None else Choice(version, where, at)

    def _version(self, node: Node) -> str | None:
        text = node.text if isinstance(node, Scalar) and not node.broken else ""
        if wanted(text):
            return text
        self.reader.report(node, "wrong-type", f"`{clip(text)}` asks for no version", "`^2` or `2.1.0`")
        return None

    def of_capability(self, capability: str, choice: Choice | None) -> Audience | None:
        """The agents of a capability that are chosen; None when that is all of them, whatever a message's labels."""
        having = [each.agent for each in self.namespace.agents.values() if capability in each.agent.capabilities]
        picked = having if choice is None else [agent for agent in having if choice.takes(agent)]
        if choice is not None and having and not picked and not self.namespace.agents_unread():
            self._nobody(capability, having, choice)
        if len(picked) == len(having) and not self.rules:
            return None
        return Audience(_members(picked), self.rules, len(picked) == len(having))

    def _nobody(self, capability: str, having: list[Agent], choice: Choice) -> None:
        left = [agent for agent in having if not choice.version or suits(agent.version, choice.version)]
        if not left:
            what = f"no `{capability}` agent has version {choice.version}"
            instead = f"`version: {choice.version.removeprefix('^')}` on one, or drop `version`"
        else:
            lacks = unmet(left[0].attributes, choice.where)
            what = f"no `{capability}` agent {'of that version ' if choice.version else ''}has `{lacks}`"
            instead = f"`attributes: {{{lacks}}}` on one, or drop `where`"
        self.reader.report(choice.at, "no-agent", what, instead)

    def of_agents(self, names: list[str]) -> Audience | None:
        """These agents; None when no label has a rule."""
        agents = [self.namespace.agents[name].agent for name in names if name in self.namespace.agents]
        return Audience(_members(agents), self.rules) if self.rules else None

    def of_event(self, type_: str) -> Audience | None:
        """The subscribers of an event."""
        agents = (each.agent for each in self.namespace.agents.values())
        return self.of_agents([each.name for each in agents if any(fits(glob, type_) for glob in each.subscribes)])

    @property
    def rules(self) -> Mapping[str, Attributes]:
        return {name: label.requires for name, label in self.namespace.labels.items() if label.requires}


def _members(agents: list[Agent]) -> Mapping[str, Attributes]:
    return {agent.name: agent.attributes for agent in agents}
