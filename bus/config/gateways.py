"""The `gateway` of an integration document: HTTP requests that become messages, and whether anybody answers them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bus.config.declared import DeclaredEntrance, Document, Integration, Namespace
from bus.config.names import check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.patterns import TypeNames
from bus.config.reader import Reader
from bus.config.yamlfaults import clip
from bus.core.identity import GATEWAY
from bus.core.route import Agent, Entrance
from bus.core.table import fits

KEYS = ("http", "type", "wait", "on_timeout")
VERBS = ("POST", "PUT", "PATCH")
MOST_WAIT_S = 300.0  # proxies and clients have given up long before; what takes longer is fetched later

_HTTP = re.compile(r"([A-Za-z]+) (/\S*)")
_PATH = re.compile(r"(?:/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?)+")
_GOES_ON = frozenset(("routing_slip", "dynamic_router", "use", "plan"))
"""Steps whose targets only show at run time, or stand elsewhere."""


@dataclass(frozen=True, slots=True)
class GatewayReader:
    """Reads entries into the namespace."""

    reader: Reader
    namespace: Namespace

    def read(self, key: Scalar, value: Node, integration: Integration) -> None:
        """Read one entry."""
        name = self.reader.name(key, "an entry of the gateway")
        body = self.reader.mapping(value, key.text, "`{http: POST /orders, type: order.placed}`")
        if body is None:
            return
        owner = f"entry `{clip(key.text)}` of the gateway"
        self.reader.keys(body, KEYS, "an entry of the gateway")
        http, type_ = (self.reader.required(body, each, owner, key) for each in ("http", "type"))
        at = None if http is None else self._http(http)
        type_name = None if type_ is None else self.reader.name(type_, "type", "type")
        wait_s = self._wait(body)
        on_timeout = self._on_timeout(body)
        if name is None or at is None or type_name is None or not isinstance(http, Scalar):
            return
        method, path = at
        entrance = Entrance(f"{integration.name}/{name}", method, path, type_name, wait_s,
                            "fail" if on_timeout == "fail" else "accepted")  # fmt: skip
        assert isinstance(type_, Scalar)
        self.namespace.entrances.append(DeclaredEntrance(http, type_, entrance))

    def _http(self, node: Node) -> tuple[str, str] | None:
        text = self.reader.text(node, "http")
        if text is None:
            return None
        match = _HTTP.fullmatch(text)
        if match is None or len(text) > 200:
            what = f"`{clip(text)}` is no verb and path"
            self.reader.report(node, "bad-http", what, "`POST /orders`")
            return None
        verb, path = match.groups()
        if verb not in VERBS:
            likely = verb.upper() if verb.upper() in VERBS else "POST"
            what = f"`{verb}` cannot make a message, only {', '.join(VERBS)} can"
            self.reader.report(node, "bad-http", what, f"`{likely} {clip(path)}`")
            return None
        if not _PATH.fullmatch(path):
            what = f"the path `{clip(path)}` cannot be taken"
            instead = "segments of letters, digits, `-`, `_`, `.`, that begin with a letter or digit, as `/orders`"
            self.reader.report(node, "bad-http", what, instead, offset=len(verb) + 1)
            return None
        return verb, path

    def _wait(self, body: MappingNode) -> float | None:
        node = body.get("wait")
        seconds = None if node is None else self.reader.duration(node, "wait")
        if node is not None and seconds is not None and seconds > MOST_WAIT_S:
            what = f"no request is held for more than {MOST_WAIT_S:g}s"
            self.reader.report(node, "wrong-type", what, "`wait: 30s` with `on_timeout: accepted`: it is fetched later")
        fails = body.get("on_timeout")
        if node is not None and seconds == 0 and isinstance(fails, Scalar) and fails.text == "fail":
            what = "without time to wait every request fails"
            self.reader.report(node, "wrong-type", what, "`wait: 10s`, or `on_timeout: accepted`")
        return seconds

    def _on_timeout(self, body: MappingNode) -> str | None:
        node = body.get("on_timeout")
        if node is None:
            return None
        if body.get("wait") is None and not self.reader.near_miss(body, "wait"):
            self.reader.report(node, "missing-key", "`on_timeout` without `wait` has nothing to time", "`wait: 10s`")
        return self.reader.choice(node, "on_timeout", ("accepted", "fail"))


def gateway_agent(entrances: Iterable[Entrance]) -> Mapping[str, Agent]:
    """The agent that stands for the gateway, so that its inbox is made and its types are checked like anybody's."""
    types = tuple(dict.fromkeys(each.type for each in entrances))
    return {GATEWAY: Agent(GATEWAY, "external", publishes=types)} if types else {}


def check_gateways(namespace: Namespace, documents: Iterable[Document], known: TypeNames, reader: Reader) -> None:
    """Report entries that take the same request, types that nobody declares, and waits that nobody ends.

    Args:
        documents: all routes and processes.
        known: all known types.
    """
    answering = Answering(documents)
    taken: dict[tuple[str, str], Scalar] = {}
    for each in namespace.entrances:
        entrance = each.entrance
        first = taken.setdefault((entrance.method, entrance.path), each.http)
        if first is not each.http:
            line, _ = first.source.position(first.start)
            what = f"{first.source.path}:{line} takes `{entrance.method} {entrance.path}` too"
            reader.report(each.http, "duplicate-name", what, "another path")
        if not check_type(each.type, namespace, reader, known):
            continue
        if entrance.wait_s is not None and not namespace.unread and not answering.answers(entrance.type):
            what = f"gateway `{entrance.name.partition('/')[2]}` waits, but {answering.why_not(entrance.type)}"
            reader.report(each.type, "no-reply", what, "`to: {reply: ok}` there, or leave out `wait`")


class Answering:
    """Which types are answered, as far as the documents show: when in doubt, they are.

    Args:
        documents: all routes and processes.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._routes = [(_patterns(each.node), each.node) for each in documents if not _observes(each.node)]

    def answers(self, type_: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether some route that a message of this type may come to ends with an answer."""
        if type_ in seen:
            return False
        return any(self._ends(node, seen | {type_}) for node in self._owners(type_))

    def why_not(self, type_: str) -> str:
        """The sentence's second half."""
        node = next(iter(self._owners(type_)), None)
        if node is None:
            return f"no route owns `{type_}`, and subscribers answer nobody"
        line, _ = node.source.position(node.start)
        return f"{node.source.path}:{line} never answers"

    def _owners(self, type_: str) -> list[MappingNode]:
        return [node for patterns, node in self._routes if any(fits(each, type_) for each in patterns)]

    def _ends(self, node: MappingNode, seen: frozenset[str]) -> bool:
        for key, value in _keys(node):
            if key in _GOES_ON:
                return True
            for target in _targets(value) if key == "to" else ():
                event = target.get("event")
                if event is None or (isinstance(event, Scalar) and self.answers(event.text, seen)):
                    return True
        return False


def _targets(node: Node) -> list[MappingNode]:
    items = node.items if isinstance(node, Sequence) else (node,)
    return [each for each in items if isinstance(each, MappingNode)]


def _keys(node: Node) -> Iterator[tuple[str, Node]]:
    """All keys with their values, however deep."""
    if isinstance(node, MappingNode):
        for key, value in node.pairs:
            yield key.text, value
            yield from _keys(value)
    elif isinstance(node, Sequence):
        for each in node.items:
            yield from _keys(each)


def _patterns(node: MappingNode) -> list[str]:
    match = node.get("match")
    types = match.get("type") if isinstance(match, MappingNode) else None
    items = types.items if isinstance(types, Sequence) else (types,)
    return [each.text for each in items if isinstance(each, Scalar)]


def _observes(node: MappingNode) -> bool:
    observe = node.get("observe")
    return isinstance(observe, Scalar) and observe.value is True
