"""The route document: what it matches, its flow, its error rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bus.config.assets import Assets
from bus.config.declared import DeclaredFragment, Document, Integration, Namespace, config_values
from bus.config.flows import FlowReader
from bus.config.fragments import FragmentReader
from bus.config.names import check_agent, check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.observer import Observer
from bus.config.ownership import Claim
from bus.config.patterns import TypeNames
from bus.config.places import Names, of_match, with_vars
from bus.config.reader import Reader
from bus.config.slots import Slots
from bus.config.step_checks import RunPlace, check_labels
from bus.config.targets import TargetReader
from bus.config.waiting_checks import check_retry
from bus.config.watch import Watch
from bus.core.route import Match, Route
from bus.core.spec import Spec
from bus.core.table import is_glob
from bus.core.work import OnError
from bus.rehearsal.coverage import Coverage

KEYS = ("route", "match", "observe", "serial_by", "deadline", "on_error", "steps", "to")
LATER_KEYS = ("budget", "key")
MATCH_KEYS = ("type", "source", "labels", "when")


@dataclass(slots=True)
class RouteReader:
    """Compiles route documents, one integration's or another's.

    Args:
        known: all known types.
        claims: what the routes that own claim, in file order.
        published: events that routes send.
        watch: notes down what the compiled expressions do; None in a bus that runs.
    """

    reader: Reader
    assets: Assets
    namespace: Namespace
    steps: Mapping[str, Spec]
    known: TypeNames
    watch: Watch | None = None
    claims: list[Claim] = field(default_factory=list)
    published: list[Scalar] = field(default_factory=list)
    coverage: Coverage | None = None
    _names: dict[str, Scalar] = field(default_factory=dict)
    _defaults: dict[str, tuple[OnError, ...]] = field(default_factory=dict)

    def read(self, document: Document, integration: Integration) -> Route | None:
        """Compile a route, or return None after adding findings."""
        node = document.node
        name_node = node.get("route")
        self.reader.keys(node, KEYS, "a route", LATER_KEYS)
        name = None if name_node is None else self.reader.name(name_node, "route")
        slots = Slots(self.reader, self.assets, document.folder, self.watch)
        slots.forbid_env(node)
        match_node = self.reader.required(node, "match", f"route `{name or '...'}`", name_node)
        types = () if match_node is None else self._types(match_node)
        names = self._scope(types, integration)
        observer = Observer(self.coverage, f"{integration.name}/{name}")
        match = self._match(match_node, types, names, slots, observer)
        observe = self._observe(node)
        exact = tuple(text for _, text in types if not is_glob(text))
        targets = TargetReader(slots, self.namespace, self.known, exact, self.published, observer)
        serial_node = node.get("serial_by")
        place = RunPlace(serial_node is not None, observe)
        flows = FlowReader(slots, self.steps, targets, observer=observer, place=place)
        flow, _ = flows.flow(node, with_vars(names))
        deadline_node = node.get("deadline")
        deadline = None if deadline_node is None else self.reader.duration(deadline_node, "deadline")
        rules_node = node.get("on_error")
        rules = (() if rules_node is None else flows.rules(rules_node, names)) + self.defaults(integration)
        check_retry(rules_node, flows.asked, self.namespace, self.reader)
        serial = None if serial_node is None else slots.expression(serial_node, "serial_by", names)
        if serial_node is not None and observe:
            what = "a route that observes gets copies, and cannot hold up others by `serial_by`"
            self.reader.report(serial_node, "bad-route", what, "the route without it, or without `observe`")
        if not isinstance(name_node, Scalar) or name is None:
            return None
        if node.get("steps") is None and node.get("to") is None:
            self.reader.report(name_node, "missing-key", f"route `{name}` has no `steps` and no `to`", "`to: {...}`")
        self._claim(name_node, types, match_node, observe)
        full = f"{integration.name}/{name}"
        where = f"{name_node.source.path}:{name_node.source.position(name_node.start)[0]}"
        if not self._first(full, name_node) or match is None:
            return None
        flow = observer.whole(name_node, flow)
        memory = flows.memory or serial is not None or any(rule.retry is not None for rule in rules)
        config = config_values(integration)
        return Route(full, where, match, flow, observe, deadline, rules, config, memory, serial, flows.homed)

    def _first(self, full: str, node: Scalar) -> bool:
        other = self._names.setdefault(full, node)
        if other is node:
            return True
        line, _ = other.source.position(other.start)
        self.reader.report(node, "duplicate-name", f"{other.source.path}:{line} is route `{full}` too", "another name")
        return False

    def defaults(self, integration: Integration) -> tuple[OnError, ...]:
        """Error rules of the integration, compiled once."""
        if integration.name not in self._defaults:
            found: tuple[OnError, ...] = ()
            if integration.on_error is not None:
                slots = Slots(self.reader, self.assets, integration.folder, self.watch)
                observer = Observer(self.coverage, integration.name)
                targets = TargetReader(slots, self.namespace, self.known, (), self.published, observer)
                found = FlowReader(slots, self.steps, targets, observer=observer).rules(
                    integration.on_error, self._scope((), integration)
                )
            self._defaults[integration.name] = found
        return self._defaults[integration.name]

    def fragment(self, fragment: DeclaredFragment) -> None:
        """Check a fragment by itself: it may be used nowhere, or only where a mistake in it cannot be seen."""
        slots = Slots(self.reader, self.assets, fragment.document.folder)
        targets = TargetReader(slots, self.namespace, self.known, (), self.published)
        scope = FragmentReader(self.reader, self.assets, self.namespace).scope(fragment, {})
        FlowReader(slots, self.steps, targets, (fragment.node.text,)).flow(fragment.document.node, scope)

    def _types(self, match: Node) -> tuple[tuple[Node, str], ...]:
        """The matched types and globs; those that are not declared are reported and kept."""
        if isinstance(match, Scalar):
            self.reader.wrong(match, "match", "a mapping", f"`match: {{type: {match.text or '...'}}}`")
            return ()
        body = self.reader.mapping(match, "match", "`{type: ...}`")
        if body is None:
            return ()
        self.reader.keys(body, MATCH_KEYS, "`match`")
        node = self.reader.required(body, "type", "`match`", match)
        found: list[tuple[Node, str]] = []
        for each, _ in self.reader.texts(node, "type", or_one=True) if node is not None else ():
            name = self.reader.name(each, "type", "glob")
            if name is not None:
                check_type(each, self.namespace, self.reader, self.known)
                found.append((each, name))
        if isinstance(node, Sequence) and not node.items:
            self.reader.report(node, "wrong-type", "`type` is an empty list", "a type")
        return tuple(found)

    def _scope(self, types: tuple[tuple[Node, str], ...], integration: Integration) -> Names:
        config = {name: type_ for name, (_, type_) in integration.config.items()}
        static = [self.namespace.static_type(text) for _, text in types if not is_glob(text)]
        if any(is_glob(text) for _, text in types) or not static:
            static = []
        return of_match(static, config)

    def _match(
        self, node: Node | None, types: tuple[tuple[Node, str], ...], names: Names, slots: Slots, observer: Observer
    ) -> Match | None:
        if not isinstance(node, MappingNode):
            return None
        source_node = node.get("source")
        source = None if source_node is None else self.reader.name(source_node, "source", "glob")
        if source is not None and isinstance(source_node, Scalar):
            check_agent(source_node, self.namespace, self.reader, senders=True)
        labels_node = node.get("labels")
        labels = () if labels_node is None else self.reader.texts(labels_node, "labels")
        check_labels(labels_node, self.namespace, self.reader)
        when_node = node.get("when")
        when = None if when_node is None else slots.expression(when_node, "when", names, "bool")
        if when is not None and when_node is not None:
            when = observer.condition(when_node, when, "`when`")
        return Match(tuple(text for _, text in types), source, tuple(text for _, text in labels), when)

    def _observe(self, node: MappingNode) -> bool:
        observe = node.get("observe")
        return observe is not None and self.reader.boolean(observe, "observe") is True

    def _claim(self, name: Scalar, types: tuple[tuple[Node, str], ...], match: Node | None, observe: bool) -> None:
        if observe or not types or not isinstance(match, MappingNode):
            return
        when, source, labels = match.get("when"), match.get("source"), match.get("labels")
        broken = isinstance(when, Scalar) and when.broken
        text = when.text if isinstance(when, Scalar) and not broken else ("" if when is None else f"@{name.start}")
        listed = labels.items if isinstance(labels, Sequence) else ()
        label_texts = tuple(each.text for each in listed if isinstance(each, Scalar))
        self.claims.append(Claim(name, types, source.text if isinstance(source, Scalar) else None, text, label_texts))


def gather_matches(documents: tuple[Document, ...], namespace: Namespace) -> None:
    """Note the type patterns of all routes, before any flow is compiled: targets need to know who is listening."""
    for document in documents:
        match = document.node.get("match")
        node = match.get("type") if isinstance(match, MappingNode) else None
        nodes = node.items if isinstance(node, Sequence) else (node,)
        patterns = {each.text for each in nodes if isinstance(each, Scalar) and each.text}
        namespace.matched.add(patterns)
        observe = document.node.get("observe")
        if not (isinstance(observe, Scalar) and observe.value is True):
            namespace.owned.add(patterns)
