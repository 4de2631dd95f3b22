"""The load: seeded inputs of every kind, and for each what must become of it.

Pure. `Mix` draws the next input; `Sent` says its bytes, its end in the log, and the places that it must reach. A place
is a queue that the harness consumes raw, or an agent of its own. Inputs are numbered, so order can be told at each one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

PRODUCER = "producer"
REUSED_KIND = "reused"  # a body under an id that another body has; the first of the two that comes is good


@dataclass(frozen=True, slots=True)
class Expected:
    """A place that an input must reach once; `ordered`: after all earlier ones of its conversation there.

    `often`: more than one message of it may come there, each once.
    """

    place: str
    ordered: bool = True
    often: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """One input.

    Args:
        token: identity of the body; two bodies under one id have two tokens.
        id: message id.
        conversation, routing_key: the latter differs for strays only.
        number: rises within the conversation.
        kind: which path through the bus it takes.
        body: its bytes.
        end: how the log must say that it ended.
        expected: places that it must reach.
    """

    token: str
    id: str
    conversation: str
    routing_key: str
    number: int
    kind: str
    body: bytes
    end: str
    expected: tuple[Expected, ...]


class Load(Protocol):
    """What a producer sends."""

    def next(self) -> Sent | None:
        """Draw the next publish; None when there is no more."""

    def rest(self) -> list[Sent]:
        """What must still be sent at the end, so that all that was sent can end."""


Making = tuple[str, dict[str, Any], str, tuple[Expected, ...], dict[str, Any]]
"""Type, further data, end, places, further attributes."""


def _order(draw: random.Random) -> Making:
    keep, lane = draw.random() < 0.85, draw.choice(("fast", "slow"))
    data = {"keep": keep, "lane": lane, "pad": "x" * draw.choice((0, 0, 40, 600, 5000))}
    return "chaos.order", data, "routed" if keep else "filtered", (Expected(lane),) if keep else (), {}


def _spread(draw: random.Random) -> Making:
    to = draw.sample(("fast", "slow", "single"), draw.randint(1, 3))
    places = tuple(Expected(each) for each in to)
    answered = (Expected("auditor"),) if "single" in to else ()
    return "chaos.spread", {"to": to}, "routed", places + answered, {}


def _asked(draw: random.Random) -> Making:
    # Two agents compete for `work`: neither what they do nor what they answer has an order.
    return (
        "chaos.task", {}, "routed", (Expected("work", False), Expected(PRODUCER, False)), {"replyto": "agent:producer"}
    )  # fmt: skip


def _unasked(draw: random.Random) -> Making:
    return "chaos.task", {}, "routed", (Expected("work", False), Expected("auditor", False)), {}


def _step(draw: random.Random) -> Making:
    return "chaos.step", {}, "routed", (Expected("single"), Expected(PRODUCER)), {"replyto": "agent:producer"}


def _gone(draw: random.Random) -> Making:
    # The asker is a client whose inbox is not there any more: its answer comes back to the bus, and ends there.
    return (
        "chaos.task",
        {},
        "routed",
        (Expected("work", False),),
        {"source": "cli", "replyto": f"client:gone{draw.randrange(10**9)}"},
    )


def _happened(draw: random.Random) -> Making:
    return "chaos.happened", {}, "routed", (Expected("ear_one"), Expected("ear_two")), {}


def _began(draw: random.Random) -> Making:
    return "chaos.began", {}, "routed", (Expected("stepper"), Expected("ear_one", False)), {}


def _stray(draw: random.Random) -> Making:
    return "chaos.stray", {}, "routed", (Expected("fast", False),), {}


def _broken(draw: random.Random) -> Making:
    data: dict[str, Any] = {"lane": "sideways", "keep": "perhaps"}
    return "chaos.order", data, "invalid", (Expected("invalid"), Expected(PRODUCER, False)), {}


def _nowhere(draw: random.Random) -> Making:
    return "chaos.nowhere", {}, "dead_letter", (Expected("dead"), Expected(PRODUCER, False)), {}


def _late(draw: random.Random) -> Making:
    attributes = {"expirytime": "2020-01-01T00:00:00Z"}
    return (
        "chaos.order",
        {"lane": "fast", "keep": True},
        "expired",
        (Expected("dead"), Expected(PRODUCER, False)),
        attributes,
    )


def _gather(draw: random.Random) -> Making:
    places = Expected("work", False), Expected("mute"), Expected("broken", False), Expected("ear_one", False)
    return "chaos.gather", {}, "routed", places, {}


def _call(draw: random.Random) -> Making:
    return "chaos.call", {}, "routed", (Expected("moody", False, often=True), Expected("ear_one", False)), {}


def _serve(draw: random.Random) -> Making:
    # It goes to the partition of its key first. There the two conversations of a key are served in turns.
    return "chaos.serve", {}, "routed", (Expected("single"), Expected("ear_two")), {}


def _pair(draw: random.Random) -> Making:
    # The first of two; `Mix` sends the second, of which no more is heard than that it came.
    return "chaos.pair", {}, "routed", (Expected("ear_two", False),), {}


def _wait(draw: random.Random) -> Making:
    return "chaos.wait", {}, "waiting", (Expected("ear_two", False),), {}


KINDS: dict[str, tuple[int, Callable[[random.Random], Making]]] = {
    "order": (34, _order),
    "spread": (12, _spread),
    "asked": (10, _asked),
    "unasked": (6, _unasked),
    "step": (10, _step),
    "happened": (10, _happened),
    "gone": (3, _gone),
    "began": (6, _began),
    "stray": (3, _stray),
    "broken": (3, _broken),
    "nowhere": (3, _nowhere),
    "late": (1, _late),
    "gather": (6, _gather),
    "call": (5, _call),
    "serve": (8, _serve),
    "wait": (3, _wait),
    "pair": (4, _pair),
}
"""Weight and maker of every kind."""

OWN_CONVERSATIONS = frozenset(("stray", "serve", "pair"))
"""Kinds whose way is longer than that of others to the same places, so that no order holds between them."""

DUPLICATES = 0.08  # share of inputs that are published again, under the same id, at once or later
REUSED = 0.01  # share of inputs whose id a different body takes later
SECONDS = 0.1  # chance that a pair that was begun gets its second one next
GARBAGE = 0.01  # share of inputs that are no message at all


class Mix:
    """Args:
    seed: of every draw.
    name: of the producer; ids and conversations begin with it.
    conversations: how many are under way.
    duplicates: whether some inputs are published again.
    """

    def __init__(self, seed: int, name: str, conversations: int, duplicates: bool = True) -> None:
        self._draw = random.Random(f"{seed}/{name}")
        self._name = name
        self._duplicates = duplicates
        self._conversations = [f"{name}-c{each}" for each in range(conversations)]
        self._number = 0
        self._seconds: list[Sent] = []  # of pairs
        self._again: list[tuple[int, Sent]] = []  # due at which number
        self._weights = [weight for weight, _ in KINDS.values()]

    def next(self) -> Sent:
        """Draw the next publish: a new input, or an earlier one again."""
        if self._again and self._again[0][0] <= self._number:
            return self._again.pop(0)[1]
        if self._seconds and self._draw.random() < SECONDS:
            return self._seconds.pop(0)
        self._number += 1
        chance = self._draw.random()
        if chance < GARBAGE:
            return self._garbage()
        (kind,) = self._draw.choices(tuple(KINDS), self._weights)
        sent = self._make(kind, self._draw.choice(self._conversations))
        if self._duplicates and chance > 1.0 - DUPLICATES:
            self._later(sent)
        elif self._duplicates and chance > 1.0 - DUPLICATES - REUSED and kind == "order":
            self._later(self._reused(sent))
        return sent

    def _later(self, sent: Sent) -> None:
        self._again.append((self._number + self._draw.choice((0, 1, 5, 50, 400)), sent))
        self._again.sort(key=lambda each: each[0])

    def _make(self, kind: str, conversation: str) -> Sent:
        number, token = self._number, f"{self._name}-{self._number}"
        type_, data, end, expected, attributes = KINDS[kind][1](self._draw)
        if kind == "pair":
            data["key"] = token  # of the first; what the two become goes by it
        elif kind == "serve":
            data["key"] = f"{self._name}-k{self._conversations.index(conversation) // 2}"
        if kind in OWN_CONVERSATIONS:
            conversation = f"{conversation}-{kind}"
        body = _body(token, type_, conversation, {"token": token, "number": number, **data}, attributes)
        key = f"elsewhere-{number}" if kind == "stray" else conversation
        if kind == "pair":
            self._seconds.append(self._second(token, conversation))
        return Sent(token, token, conversation, key, number, kind, body, end, expected)

    def _second(self, first: str, conversation: str) -> Sent:
        token = f"{first}-second"
        data = {"token": token, "number": self._number, "key": first}
        body = _body(token, "chaos.pair", conversation, data, {})
        return Sent(token, token, conversation, conversation, self._number, "pair", body, "routed", ())

    def rest(self) -> list[Sent]:
        """The seconds of pairs that were begun."""
        left, self._seconds = self._seconds, []
        return left

    def _reused(self, sent: Sent) -> Sent:
        token = f"{sent.token}-reused"
        data = {"token": token, "number": sent.number, "lane": "slow", "keep": True}
        body = _body(sent.id, "chaos.order", sent.conversation, data, {})
        places = (Expected("invalid", False), Expected(PRODUCER, False))
        return Sent(
            token, sent.id, sent.conversation, sent.conversation, sent.number, REUSED_KIND, body, "invalid", places
        )

    def _garbage(self) -> Sent:
        token = f"{self._name}-{self._number}"
        body = b'{"specversion": "1.0", "token": "' + token.encode()
        places = (Expected("invalid", False),)
        return Sent(token, token, token, token, self._number, "garbage", body, "invalid", places)


def _body(id_: str, type_: str, conversation: str, data: dict[str, Any], attributes: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {"specversion": "1.0", "id": id_, "source": PRODUCER, "type": type_, "conversationid": conversation,
         **attributes, "data": data}
    )  # fmt: skip
