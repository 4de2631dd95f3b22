"""Flows: steps in their places, then targets; and the error rules of a step, a route or an integration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from bus.config.fragments import FragmentReader
from bus.config.names import check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.observer import UNOBSERVED, Observer
from bus.config.parsing import BAD, FlowRead, ShapeReader
from bus.config.places import AFTER, PARTS, WITHIN, Names, merged, unknown, unsure, with_error, written
from bus.config.slots import Slots
from bus.config.step_checks import CHECKS, Checked, RunPlace
from bus.config.suggest import instead_of, nearest
from bus.config.targets import TargetReader
from bus.config.types import ANY
from bus.config.waiting_checks import asked, check_join, check_retry
from bus.config.yamlfaults import clip
from bus.core.errors import FAILURE_CLASSES, FailureClass
from bus.core.spec import FlowShape, Record, Spec
from bus.core.work import Flow, OnError, Placed, Retry, Step

STEP_KEYS = ("id", "when", "on_error", "description")
LATER_STEP_KEYS = ("compensate", "pivot")
LATER_STEPS = (
    "wait", "approve", "process", "plan",
)  # fmt: skip
USE = "use"
RULE_KEYS = ("class", "when", "retry", "then")
RETRY_KEYS = ("attempts", "initial", "factor", "max", "jitter")
WORDS = ("dead_letter", "invalid", "reply", "continue")

_BOUNDS = {"factor": (1.0, 10.0), "jitter": (0.0, 1.0)}

_Then = Flow | Literal["dead_letter", "invalid", "reply", "continue"]


@dataclass(slots=True)
class FlowReader:
    """Compiles the flows of one route; step ids count through the whole route.

    Args:
        steps: the table of steps.
        inside: the fragments that this flow is in, outermost first.
        place: what the route says of where its runs live; None when that is not known, as in a fragment by itself.
        memory: whether something was read that waits or remembers.
        homed: whether something was read that must see all runs of the route.
        asked: the capabilities that are asked by steps without rules of their own.
    """

    slots: Slots
    steps: Mapping[str, Spec]
    targets: TargetReader
    inside: tuple[str, ...] = ()
    observer: Observer = UNOBSERVED
    place: RunPlace | None = None
    memory: bool = False
    homed: bool = False
    asked: list[str] = field(default_factory=list)
    _ids: dict[str, Scalar] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _parts: list[str] = field(default_factory=list)

    def flow(self, node: MappingNode, names: Names) -> tuple[Flow, FlowRead]:
        """Compile the `steps` and `to` of a mapping.

        Args:
            names: the scope at its start.

        Returns:
            The flow, and what is known at its end.
        """
        steps: list[Placed] = []
        steps_node = node.get("steps")
        nodes = () if steps_node is None else self.slots.reader.items(steps_node, "steps", "`- kind: ...`") or ()
        for each in nodes:
            placed, names = self._step(each, names)
            if placed is not None:
                steps.append(placed)
        to = node.get("to")
        targets = () if to is None else self.targets.read_to(to, names)
        if self._parts and to is not None and any(target.kind == "reply" for target in targets):
            what = f"a copy made by `{self._parts[-1]}` carries no return address, so nobody gets this reply"
            self.slots.reader.report(to, "bad-target", what, "an agent, capability or event")
        return Flow(tuple(steps), targets), FlowRead(names, to is not None)

    def _nested(self, node: MappingNode, names: Names) -> tuple[Flow, FlowRead]:
        flow, read = self.flow(node, names)
        return self.observer.nested(node, flow), read

    def _step(self, node: Node, names: Names) -> tuple[Placed | None, Names]:
        body = self.slots.reader.mapping(node, "steps", "`- kind: ...`")
        kind = None if body is None else self._kind(body)
        if body is None:
            return None, names
        if kind is None:
            meant = [nearest(key.text, self.steps) for key, _ in body.pairs]
            return None, names if any(each and each not in AFTER for each in meant) else unknown(names)
        id_ = self._id(body, kind.text)
        when_node = body.get("when")
        when = None if when_node is None else self.slots.expression(when_node, "when", names, "bool")
        if when is not None and when_node is not None:
            when = self.observer.condition(when_node, when, f"{id_} `when`")
        spec = self.steps[kind.text]
        within = WITHIN.get(spec.kind, {})
        shape = ShapeReader(self.slots, names, self._nested, self.targets.read, within, self.observer)
        parts, inside = list(self._parts), len(self.asked)
        self._parts += [spec.kind] if spec.kind in PARTS else []
        parsed = shape.read(spec.shape, cast(Node, body.get(kind.text)), kind.text)
        self._parts = parts
        rules_node = body.get("on_error")
        rules = () if rules_node is None else self.rules(rules_node, names)
        if parsed is BAD:
            return None, _together(unsure(names, spec.kind, cast(Node, body.get(kind.text))), shape.flows)
        self._renamed(body.get(kind.text), shape, parsed)
        if spec.kind == USE:
            parsed = self._used(cast(MappingNode, body.get(USE)), parsed, names, shape)
            if parsed is BAD:
                return None, {**names, "data": ANY}
        if spec.kind in CHECKS:
            node = cast(Node, body.get(kind.text))
            part = self._parts[-1] if self._parts else ""
            namespace, reader = self.targets.namespace, self.slots.reader
            CHECKS[spec.kind](Checked(node, parsed, names, namespace, reader, self.place, part))
        self.memory = self.memory or spec.remembers(parsed)
        self.homed = self.homed or spec.homed
        check_join(body.get(kind.text), self.slots.reader)
        capabilities = tuple(asked(parsed)) if spec.remembers(parsed) else ()
        self.asked += capabilities if rules_node is None else ()
        within_it = (*capabilities, *self.asked[inside:])  # to try a step again is to ask again what it asks inside
        check_retry(rules_node, within_it, self.targets.namespace, self.slots.reader)
        run = self._build(spec, kind, parsed)
        placed = None if run is None else Placed(id_, spec.kind, run, when, rules)
        if placed is not None:
            join = parsed.get("join") if isinstance(parsed, dict) else None
            placed = self.observer.step(kind, placed, falls_through=_falls_through(spec, parsed), join=join)
        after = self._after(spec, parsed, names, shape)
        return placed, merged((names, after)) if when_node is not None else after

    def _used(self, node: MappingNode, parsed: Any, names: Names, shape: ShapeReader) -> Any:
        """What the step `use` is built from: its fragment's steps are compiled for this place.

        Findings in them are at their place in the fragment's file, and come once, however often it is used.
        """
        namespace, reader, assets = self.targets.namespace, self.slots.reader, self.slots.assets
        fragments = FragmentReader(reader, assets, namespace)
        used = fragments.used(node, parsed, shape.type_of)
        if used is None:
            return BAD
        fragment, given = used
        name = fragment.node.text
        if name in self.inside:
            way = " -> ".join((*self.inside[self.inside.index(name) :], name))
            what = f"fragment `{name}` uses itself: {way}"
            reader.report(node.get("fragment") or node, "recursive-fragment", what, "steps that end")
            return BAD
        slots = Slots(reader, assets, fragment.document.folder, self.slots.watch)
        targets = replace(self.targets, slots=slots)
        inner = FlowReader(slots, self.steps, targets, (*self.inside, name), self.observer, self.place)
        inner._parts = list(self._parts)
        flow, read = inner.flow(fragment.document.node, fragments.scope(fragment, names))
        self.memory = self.memory or inner.memory
        self.asked += inner.asked
        self.homed = self.homed or inner.homed
        return shape.typed({**given, "flow": flow}, read.after["data"])

    def _build(self, spec: Spec, kind: Scalar, parsed: Any) -> Step | None:
        try:
            return spec.build(parsed)
        except ValueError as error:
            what, instead = (*error.args, "", "")[:2]
            self.slots.reader.report(kind, "bad-step", f"{spec.kind}: {what}", str(instead))
            return None

    def _renamed(self, node: Node | None, shape: ShapeReader, parsed: Any) -> None:
        """Check a step that says which type its `data` now has (`translate`): declared, and the data keeps it."""
        if not isinstance(node, MappingNode) or not isinstance(parsed, dict):
            return
        type_node, data_node = node.get("type"), node.get("data")
        if not isinstance(type_node, Scalar) or data_node is None:
            return
        namespace = self.targets.namespace
        if check_type(type_node, namespace, self.slots.reader, self.targets.known):
            contract = namespace.contract_of(type_node.text)
            if contract is not None:
                self.slots.check(data_node, shape.type_of(parsed.get("data")), contract)

    def _after(self, spec: Spec, parsed: Any, names: Names, shape: ShapeReader) -> Names:
        """The scope after a step: by its kind, or by its nested flows and the paths it says it writes."""
        if spec.kind in AFTER:
            return AFTER[spec.kind](names, parsed, shape.type_of)
        names = _together(names, shape.flows)
        for path in spec.writes(parsed):
            names = written(names, path, ANY)
        return names

    def _kind(self, body: MappingNode) -> Scalar | None:
        """The key that says which step this is."""
        kinds = [key for key, _ in body.pairs if key.text in self.steps]
        good = True
        for key, _ in body.pairs:
            good = self._step_key(key, kinds) and good
        if len(kinds) > 1:
            names = ", ".join(f"`{kind.text}`" for kind in kinds)
            self.slots.reader.report(kinds[1], "bad-step", f"a step is one of {names}", "two steps")
            return None
        if not kinds and good:
            self.slots.reader.report(body, "missing-key", "the step says no kind", instead_of("", self.steps))
        return kinds[0] if kinds else None

    def _step_key(self, key: Scalar, kinds: list[Scalar]) -> bool:
        """Report a key that a step cannot have."""
        text, reader = key.text, self.slots.reader
        if text in STEP_KEYS or text in self.steps:
            return True
        if text in LATER_STEP_KEYS:
            reader.report(key, "unknown-key", f"`{text}` in a step is not in this version", "the step without it")
        elif text in LATER_STEPS:
            known = instead_of("", self.steps)
            reader.report(key, "unknown-step", f"the step `{text}` is not in this version", known)
        elif kinds or nearest(text, (*STEP_KEYS, *self.steps)) in STEP_KEYS:
            what = f"unknown key `{clip(text)}` in a step"
            reader.report(key, "unknown-key", what, instead_of(text, (*STEP_KEYS, *(kind.text for kind in kinds))))
            return bool(kinds)
        else:
            reader.report(key, "unknown-step", f"there is no step `{clip(text)}`", instead_of(text, self.steps))
        return False

    def _id(self, body: MappingNode, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        node = body.get("id")
        name = None if node is None else self.slots.reader.name(node, "id")
        if name is None or not isinstance(node, Scalar):
            return f"{kind}#{self._counts[kind]}"
        if name in self._ids:
            line, col = node.source.position(self._ids[name].start)
            what = f"the step at {line}:{col} is `{name}` too"
            self.slots.reader.report(node, "duplicate-name", what, "another `id`")
        self._ids.setdefault(name, node)
        return name

    def rules(self, node: Node, names: Names) -> tuple[OnError, ...]:
        """Compile error rules.

        Args:
            names: the scope of the step or route that they belong to.
        """
        scope = with_error({"vars": ANY, **names})
        found: list[OnError] = []
        for each in self.slots.reader.items(node, "on_error", "`- {class: ..., then: ...}`") or ():
            body = self.slots.reader.mapping(each, "on_error", "`{class: timeout, then: dead_letter}`")
            rule = None if body is None else self._rule(body, scope)
            if rule is not None:
                found.append(rule)
        return tuple(found)

    def _rule(self, body: MappingNode, names: Names) -> OnError | None:
        reader = self.slots.reader
        reader.keys(body, RULE_KEYS, "an error rule")
        class_node = body.get("class")
        nodes = class_node.items if isinstance(class_node, Sequence) else () if class_node is None else (class_node,)
        classes = [reader.choice(each, "class", FAILURE_CLASSES, "unknown-class") for each in nodes]
        when_node = body.get("when")
        when = None if when_node is None else self.slots.expression(when_node, "when", names, "bool")
        then_node = reader.required(body, "then", "an error rule")
        then: _Then | None = None
        if isinstance(then_node, MappingNode):
            reader.keys(then_node, ("steps", "to"), "`then`")
            then = self._nested(then_node, names)[0]
        elif then_node is not None:
            then = cast("_Then | None", reader.choice(then_node, "then", WORDS))
        retry_node = body.get("retry")
        retry = None if retry_node is None else self._retry(retry_node)
        if then is None or None in classes or (retry_node is not None and retry is None):
            return None
        rule = OnError(tuple(cast(FailureClass, each) for each in classes), when, then, retry)
        return self.observer.rule(body, rule)

    def _retry(self, node: Node) -> Retry | None:
        reader = self.slots.reader
        body = reader.mapping(node, "retry", "`{attempts: 3, initial: 1s}`")
        if body is None:
            return None
        self.memory = True
        reader.keys(body, RETRY_KEYS, "`retry`")
        attempts_node = reader.required(body, "attempts", "`retry`")
        attempts = None if attempts_node is None else reader.integer(attempts_node, "attempts", 2)
        times = {name: each for name in ("initial", "max") if (each := body.get(name)) is not None}
        seconds = {name: reader.duration(each, name) for name, each in times.items()}
        numbers = {name: each for name in ("factor", "jitter") if (each := body.get(name)) is not None}
        shares = {name: reader.number(each, name, *_BOUNDS[name]) for name, each in numbers.items()}
        if attempts is None or None in seconds.values() or None in shares.values():
            return None
        usual = Retry(attempts)
        return Retry(
            attempts,
            seconds.get("initial") or usual.initial_s,
            shares.get("factor") or usual.factor,
            seconds.get("max") or max(usual.most_s, seconds.get("initial") or 0.0),
            usual.jitter if shares.get("jitter") is None else cast("float", shares["jitter"]),
        )


def _falls_through(spec: Spec, parsed: Any) -> bool:
    """Whether a step has a flow for what none of its cases fits, and it is not written."""
    fields = spec.shape.fields if isinstance(spec.shape, Record) else {}
    return any(isinstance(each.shape, FlowShape) and name not in parsed for name, each in fields.items())


def _together(names: Names, flows: list[FlowRead]) -> Names:
    """The scope after a step, which may have gone through one of its nested flows or past all of them."""
    return merged((names, *(read.after for read in flows if not read.ended)))
