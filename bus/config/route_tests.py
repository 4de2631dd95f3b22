"""The tests document: what is sent, how agents answer, what is expected. Only in `*.test.yaml`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from bus.config.assets import Assets
from bus.config.declared import Document, Integration, Namespace
from bus.config.integrations import CONFIG_TYPES, converted
from bus.config.matchers import MatcherReader
from bus.config.names import check_agent, check_capability, check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence, to_json
from bus.config.patterns import TypeNames
from bus.config.reader import Reader
from bus.config.slots import Slots
from bus.config.suggest import instead_of
from bus.config.targets import KINDS as TARGETS
from bus.config.yamlfaults import clip
from bus.core.errors import FAILURE_CLASSES, FailureClass
from bus.core.message import Json
from bus.rehearsal.matching import Matcher
from bus.rehearsal.script import CHANNELS, Advance, Calls, Do, Expected, RouteTest, SeenKind, Send, Stub

TEST_KEYS = ("test", "config", "controls", "schedules", "start_time", "agents", "do", "expect", "order")
STUB_KEYS = ("reply", "fail", "reason", "never", "after")
LATER_STUB_KEYS = ("usage",)
SEND_KEYS = ("type", "data", "file", "source", "conversation", "labels", "wait")
DO_KINDS = ("send", "advance")
LATER_DO_KINDS = ("approve", "reject")
EXPECT_KINDS = ("sent", "reply", "channel", "never", "calls")
EXPECT_KEYS = ("data", "error", "at", "reason")

_BROKEN_JSON = 60  # characters of what Python's parser says


@dataclass(slots=True)
class RouteTestReader:
    """Reads tests documents, one integration's or another's.

    Args:
        known: all known types.
    """

    reader: Reader
    assets: Assets
    namespace: Namespace
    known: TypeNames
    _names: dict[tuple[str, str], Scalar] = field(default_factory=dict)

    def read(self, document: Document, integration: Integration) -> tuple[RouteTest, ...]:
        """Every test without findings."""
        node = document.node.get("tests")
        self.reader.keys(document.node, ("tests",), "a tests document")
        found: list[RouteTest] = []
        for each in self.reader.items(node, "tests", "`- test: NAME`") or () if node is not None else ():
            body = self.reader.mapping(each, "tests", "`- test: NAME`")
            test = None if body is None else self._test(body, document, integration)
            if test is not None:
                found.append(test)
        return tuple(found)

    def _test(self, node: MappingNode, document: Document, integration: Integration) -> RouteTest | None:
        reader = self.reader
        before = len(reader.findings)
        reader.keys(node, TEST_KEYS, "a test")
        name_node = reader.required(node, "test", "a test")
        name = None if name_node is None else reader.text(name_node, "test")
        if name_node is not None and name is not None:
            self._once(name_node, name)
        slots = Slots(reader, self.assets, document.folder)
        do_node = reader.required(node, "do", f"test `{clip(name or '...')}`", name_node)
        expect_node = reader.required(node, "expect", f"test `{clip(name or '...')}`", name_node)
        do = [] if do_node is None else [self._do(each, slots) for each in reader.items(do_node, "do") or ()]
        expect = self._expectations(expect_node, slots)
        config = self._config(node.get("config"), integration)
        controls = self._controls(node.get("controls"))
        schedules = self._schedules(node.get("schedules"), integration)
        stubs = self._agents(node.get("agents"))
        start_s = self._start(node.get("start_time"))
        order_node = node.get("order")
        order = None if order_node is None else reader.choice(order_node, "order", ("any", "exact"))
        if len(reader.findings) > before or name is None:
            return None
        line, _ = node.source.position(node.start)
        more = {} if start_s is None else {"start_s": start_s}
        return RouteTest(
            name, integration.name, node.source.path, line, tuple(cast("list[Do]", do)), tuple(expect), stubs, config,
            controls, schedules, exact=order == "exact", **more,
        )  # fmt: skip

    def _once(self, node: Node, name: str) -> None:
        if not isinstance(node, Scalar):
            return
        other = self._names.setdefault((node.source.path, name), node)
        if other is not node:
            line, _ = other.source.position(other.start)
            self.reader.report(node, "duplicate-name", f"the test at line {line} is `{clip(name)}` too", "another name")

    def _config(self, node: Node | None, integration: Integration) -> Mapping[str, Json]:
        body = None if node is None else self.reader.mapping(node, "config", "`{limit: 100}`")
        found: dict[str, Json] = {}
        for key, value in body.pairs if body is not None else ():
            if key.text not in integration.config:
                what = f"the integration has no configuration value `{clip(key.text)}`"
                self.reader.report(key, "unknown-key", what, instead_of(key.text, integration.config))
                continue
            type_ = integration.config[key.text][1]
            kind = next((kind for kind, each in CONFIG_TYPES.items() if each == type_), None)
            good, found[key.text] = (True, to_json(value)) if kind is None else converted(to_json(value), kind)
            if not good:
                self.reader.wrong(value, key.text, f"a value of type {kind}")
        return found

    def _controls(self, node: Node | None) -> Mapping[str, bool]:
        body = None if node is None else self.reader.mapping(node, "controls", "`{extra_checks: true}`")
        found = {key.text: self.reader.boolean(value, key.text) for key, value in body.pairs} if body else {}
        return {name: each for name, each in found.items() if each is not None}

    def _schedules(self, node: Node | None, integration: Integration) -> tuple[str, ...]:
        known = {each.schedule.name for each in self.namespace.schedules}
        own = [name.partition("/")[2] for name in known if name.startswith(f"{integration.name}/")]
        found: list[str] = []
        for each, text in self.reader.texts(node, "schedules") if node is not None else ():
            if text not in own:
                what = f"the integration has no schedule `{clip(text)}`"
                self.reader.report(each, "unknown-schedule", what, instead_of(text, own, "one under `schedules`"))
            found.append(f"{integration.name}/{text}")
        return tuple(found)

    def _start(self, node: Node | None) -> float | None:
        text = None if node is None else self.reader.text(node, "start_time")
        if node is None or text is None:
            return None
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            parsed = None
        if parsed is None or parsed.tzinfo is None:
            self.reader.wrong(node, "start_time", "a time with its zone", '`"2026-05-01T12:00:00Z"`')
            return None
        return parsed.timestamp()

    # --- stand-ins ------------------------------------------------------------------------------------------------

    def _agents(self, node: Node | None) -> Mapping[str, tuple[Stub, ...]]:
        body = None if node is None else self.reader.mapping(node, "agents", "`{NAME: {reply: ...}}`")
        found: dict[str, tuple[Stub, ...]] = {}
        for key, value in body.pairs if body is not None else ():
            self._asked(key)
            nodes = value.items if isinstance(value, Sequence) else (value,)
            if not nodes:
                self.reader.wrong(value, key.text, "at least one answer", "`{never: true}`")
            stubs = [self._stub(each, key.text) for each in nodes]
            found[key.text] = tuple(each for each in stubs if each is not None)
        return found

    def _asked(self, key: Scalar) -> None:
        """Report a name that is neither an agent nor a capability."""
        names = (*self.namespace.agents, *self.namespace.capabilities)
        if key.text not in names and not self.namespace.agents_unread():
            what = f"there is no agent or capability `{clip(key.text)}`"
            self.reader.report(key, "unknown-agent", what, instead_of(key.text, names))

    def _stub(self, node: Node, name: str) -> Stub | None:
        body = self.reader.mapping(node, name, "`{reply: ...}`, `{fail: timeout}` or `{never: true}`")
        if body is None:
            return None
        self.reader.keys(body, STUB_KEYS, "a stub", LATER_STUB_KEYS)
        after_node = body.get("after")
        after_s = None if after_node is None else self.reader.duration(after_node, "after")
        kinds = [key for key, _ in body.pairs if key.text in ("reply", "fail", "never")]
        if len(kinds) != 1:
            what = "a stub answers in one way" if kinds else "the stub does not say how it answers"
            self.reader.report(kinds[1] if kinds else body, "bad-test", what, "one of `reply`, `fail`, `never`")
            return None
        kind, value = kinds[0].text, cast(Node, body.get(kinds[0].text))
        if kind == "never":
            if self.reader.boolean(value, "never") is not True:
                self.reader.wrong(value, "never", "`true`", "`never: true`")
            return Stub("never")
        if kind == "reply":
            return Stub("reply", to_json(value), after_s=after_s or 0.0)
        failure = self.reader.choice(value, "fail", FAILURE_CLASSES, "unknown-class")
        reason_node = body.get("reason")
        reason = None if reason_node is None else self.reader.text(reason_node, "reason")
        data: Json = None if reason is None else {"class": failure, "reason": reason}
        return None if failure is None else Stub("fail", data, cast(FailureClass, failure), after_s or 0.0)

    # --- what is done ---------------------------------------------------------------------------------------------

    def _do(self, node: Node, slots: Slots) -> Do | None:
        body = self.reader.mapping(node, "do", "`- send: {type: ...}`")
        if body is None:
            return None
        kind = self._kind(body, DO_KINDS, "what is done", LATER_DO_KINDS)
        if kind is None:
            return None
        self.reader.keys(body, (kind.text,), "what is done")
        value = cast(Node, body.get(kind.text))
        if kind.text == "advance":
            seconds = self.reader.duration(value, "advance")
            return None if seconds is None else Advance(seconds)
        return self._send(value, slots)

    def _kind(
        self, body: MappingNode, kinds: tuple[str, ...], owner: str, later: tuple[str, ...] = ()
    ) -> Scalar | None:
        """The one key that says what it is."""
        found = [key for key, _ in body.pairs if key.text in kinds]
        for key, _ in body.pairs:
            if key.text in later:
                self.reader.report(key, "unknown-key", f"`{key.text}` is not in this version", f"one of {_list(kinds)}")
                return None
        if len(found) == 1:
            return found[0]
        if found:
            self.reader.report(found[1], "bad-test", f"{owner} is one of {_list(kinds)}, not two", "two items")
        elif body.pairs and not any(self.reader.near_miss(body, kind) for kind in kinds):
            self.reader.report(body, "missing-key", f"{owner} has none of {_list(kinds)}", f"`{kinds[0]}: ...`")
        else:
            self.reader.keys(body, (*kinds, *EXPECT_KEYS), owner)
        return None

    def _send(self, node: Node, slots: Slots) -> Send | None:
        body = self.reader.mapping(node, "send", "`{type: TYPE, data: ...}`")
        if body is None:
            return None
        reader = self.reader
        reader.keys(body, SEND_KEYS, "`send`")
        type_node = reader.required(body, "type", "`send`")
        type_ = None if type_node is None else reader.name(type_node, "type", "type")
        if isinstance(type_node, Scalar) and type_ is not None:
            check_type(type_node, self.namespace, reader, self.known)
        source_node = body.get("source")
        source = None if source_node is None else reader.text(source_node, "source")
        if isinstance(source_node, Scalar) and source is not None:
            check_agent(source_node, self.namespace, reader, senders=True)
        conversation = body.get("conversation")
        labels = body.get("labels")
        wait = body.get("wait")
        data = self._data(body, slots)
        if type_ is None:
            return None
        return Send(
            type_,
            data,
            source or "cli",
            None if conversation is None else reader.text(conversation, "conversation"),
            () if labels is None else tuple(text for _, text in reader.texts(labels, "labels")),
            wait is None or reader.boolean(wait, "wait") is not False,
        )

    def _data(self, body: MappingNode, slots: Slots) -> Json:
        data, file = body.get("data"), body.get("file")
        if data is not None and file is not None:
            self.reader.report(
                cast(Scalar, body.key("file")), "bad-test", "`data` and `file` both say it", "one of them"
            )
        if file is None:
            return None if data is None else to_json(data)
        path = self.assets.file(file, "file", slots.folder, ".json")
        if path is None:
            return None
        try:
            value: Json = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            what = f"`{clip(str(path.name))}` is not JSON: {str(error)[:_BROKEN_JSON]}"
            self.reader.report(file, "bad-json", what, "a file with one JSON value")
            return None
        return value

    # --- what is expected -----------------------------------------------------------------------------------------

    def _expectations(self, node: Node | None, slots: Slots) -> list[Expected | Calls]:
        items = () if node is None else self.reader.items(node, "expect", "`- sent: {...}`") or ()
        matchers = MatcherReader(slots)
        found = [self._expect(each, matchers) for each in items]
        if isinstance(node, Sequence) and not items:
            self.reader.report(node, "bad-test", "a test that expects nothing cannot fail", "`- reply: ok`")
        return [each for each in found if each is not None]

    def _expect(self, node: Node, matchers: MatcherReader) -> Expected | Calls | None:
        reader = self.reader
        body = reader.mapping(node, "expect", "`- reply: ok`")
        kind = None if body is None else self._kind(body, EXPECT_KINDS, "an expectation")
        if body is None or kind is None:
            return None
        line, _ = body.source.position(body.start)
        value = cast(Node, body.get(kind.text))
        if kind.text == "calls":
            reader.keys(body, ("calls",), "`calls`")
            return self._calls(value, line)
        reader.keys(body, (kind.text, *EXPECT_KEYS), "an expectation")
        seen = self._seen(kind.text, value)
        matched = {name: self._matcher(body, name, matchers) for name in ("data", "error", "reason")}
        at_node = body.get("at")
        at_s = None if at_node is None else reader.duration(at_node, "at")
        if seen is None:
            return None
        return Expected(line, *seen, kind.text == "never", at_s=at_s, **cast("dict[str, Any]", matched))

    def _matcher(self, body: MappingNode, name: str, matchers: MatcherReader) -> Matcher | None:
        node = body.get(name)
        return None if node is None else matchers.read(node)

    def _calls(self, node: Node, line: int) -> Calls | None:
        body = self.reader.mapping(node, "calls", "`{AGENT: 1}`")
        counts: dict[str, int] = {}
        for key, value in body.pairs if body is not None else ():
            self._asked(key)
            number = self.reader.integer(value, key.text)
            if number is not None:
                counts[key.text] = number
        return None if body is None else Calls(line, counts)

    def _seen(self, kind: str, node: Node) -> tuple[SeenKind, str] | None:
        """What is to be seen: a target, an answer or a channel."""
        if kind == "reply":
            word = self.reader.choice(node, "reply", ("ok", "error"))
            return None if word is None else ("reply", word)
        if kind == "channel":
            word = self.reader.choice(node, "channel", CHANNELS)
            return None if word is None else ("channel", word)
        body = self.reader.mapping(node, kind, "`{capability: NAME}`")
        if body is None:
            return None
        kinds = TARGETS if kind == "sent" else (*TARGETS, "channel")
        data = body.key("data")
        if data is not None:
            self.reader.report(data, "unknown-key", f"`data` stands inside of `{kind}`", f"it beside `{kind}`")
        self.reader.keys(body, (*kinds, "data"), f"`{kind}`")
        found = self._kind(body, kinds, f"`{kind}`")
        if found is None:
            return None
        name = cast(Node, body.get(found.text))
        if found.text in ("reply", "channel"):
            return self._seen(found.text, name)
        text = self.reader.text(name, found.text)
        if text is None or not isinstance(name, Scalar):
            return None
        return (cast(SeenKind, found.text), text) if self._declared(found.text, name) else None

    def _declared(self, kind: str, name: Scalar) -> bool:
        if kind == "capability":
            return check_capability(name, self.namespace, self.reader, declared=True)
        if kind == "agent":
            return check_agent(name, self.namespace, self.reader)
        return check_type(name, self.namespace, self.reader, self.known)


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{each}`" for each in words)
