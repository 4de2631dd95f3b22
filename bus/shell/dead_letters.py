"""The Dead Letter Channel and the Invalid Message Channel, as an operator reads and empties them.

Reading takes the letters without acknowledging them and lets go of them when the connection closes. Redriving publishes
the original body to the ingress as the bus, with `redrive` counted up, so that it is a new input to the inbox and
not a duplicate; the letter is acknowledged only after the broker confirmed that publish. A crash between the two
leaves the letter where it is, and the second redrive of it is found to be a duplicate.

A deadline that has passed is taken out, or the letter would only expire once more. What is made of a redriven message
carries its count on, so that a letter that comes back again and again is known as such and stays, whichever of
the messages on its way is the one that comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import pika
from pika.exceptions import NackError, UnroutableError

from bus.core.codec import expiry_s
from bus.core.errors import BusError, Unreachable
from bus.core.identity import AT_THE_DOOR
from bus.core.message import EXPIRY, REDRIVE, SOURCE, Json, Message
from bus.core.naming import dead_queue, ingress_exchange, invalid_queue
from bus.core.outputs import BUS
from bus.shell.probe import queue_states, user_of

Channel = Literal["dead", "invalid"]

_STRUCTURED = "application/cloudevents+json"
_NEVER = ("not-you", "unsolicited-reply")  # refused for who published it, which a redrive would hide
_AT_ONCE, _OCTETS_AT_ONCE = 5000, 64 * 1024 * 1024  # letters in memory, to sort them
_PREFIXES = ("ce-", "cloudEvents:", "cloudEvents_")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter: who sent what, and why it lies here.

    Args:
        tag: delivery tag on the connection that read it.
        id, type, source, conversation: of the original message, as far as it could be read.
        end: how it ended, e.g. `dead_letter`.
        failure, code, reason: why.
        at: when, RFC 3339.
        route: the route that failed, or the rule of the bus.
        findings: every failing field, when a contract was broken.
        content_type: of the original.
        headers: as they came.
        body: the original, byte for byte.
    """

    tag: int
    id: str
    type: str
    source: str
    conversation: str
    end: str
    failure: str
    code: str
    reason: str
    at: str
    route: str
    findings: Json
    content_type: str
    headers: Mapping[str, Any]
    body: bytes


@dataclass(frozen=True, slots=True)
class Redrive:
    """How letters are sent again.

    Args:
        now_s: epoch seconds.
        tries: redrives of one letter at most, those that it came back from included.
        keep_deadline: leave a deadline that has passed where it is.
        verified: a source must be the broker user that sent it, as with BUS_IDENTITY=broker.
        bus_user: broker user of the bus.
    """

    now_s: float
    tries: int
    keep_deadline: bool = False
    verified: bool = False
    bus_user: str = "bus"


@dataclass(frozen=True, slots=True)
class Again:
    """What is published for a letter: its body and headers, and how often it was redriven then."""

    body: bytes
    headers: dict[str, Any]
    count: int


def queue_of(namespace: str, channel: Channel) -> str:
    """Name of the queue behind a channel."""
    return dead_queue(namespace) if channel == "dead" else invalid_queue(namespace)


class DeadLetters:
    """A channel of one namespace, on one connection.

    Args:
        opened: a connection of `bus.shell.probe.connection`, logged in as the bus for `redrive`.
        url: what it was opened with; the broker wants the user's name with each publish.
        namespace: the bus's namespace.
        channel: `dead` or `invalid`.

    Attributes:
        user: broker user of the bus.
    """

    def __init__(self, opened: Any, url: str, namespace: str, channel: Channel) -> None:
        self._opened = opened
        self._namespace = namespace
        self._queue = queue_of(namespace, channel)
        self.user = user_of(url)
        self._taken = opened.channel()
        self._publishing: Any = None

    def read(self) -> Iterator[DeadLetter]:
        """Yield the letters, oldest first, without taking them out: they return when the connection closes.

        The broker returns more than 32 of them in no order (seen on 3.10.8), so they are sorted, as many as fit memory.

        Raises:
            Unreachable: the queue does not exist: no bus has run in this namespace.
        """
        left, more = self.depth(), True
        while left > 0 and more:
            letters, octets = list[DeadLetter](), 0
            while more and len(letters) < min(left, _AT_ONCE) and octets < _OCTETS_AT_ONCE:
                method, properties, body = self._taken.basic_get(self._queue, auto_ack=False)
                more = method is not None
                if more:
                    letters.append(_letter(method.delivery_tag, properties, body))
                    octets += len(body)
            left -= len(letters)
            yield from sorted(letters, key=lambda each: each.at)

    def depth(self) -> int:
        """How many letters there are.

        Raises:
            Unreachable: the queue does not exist: no bus has run in this namespace.
        """
        state = queue_states(self._opened, [self._queue])[self._queue]
        if state is None:
            raise Unreachable(
                f"there is no queue `{self._queue}`; has `bus run` been started in namespace `{self._namespace}`?"
            )
        return state.depth

    def redrive(self, letter: DeadLetter, again: Again) -> None:
        """Send a letter that `read` gave through the bus once more, and take it out of the channel.

        Args:
            again: from `sent_again`.

        Raises:
            BusError: the broker did not take it; it stays where it is.
        """
        if self._publishing is None:
            self._publishing = self._opened.channel()
            self._publishing.confirm_delivery()
        properties = pika.BasicProperties(
            message_id=letter.id,
            type=letter.type or None,
            user_id=self.user,
            delivery_mode=2,
            content_type=letter.content_type,
            headers=again.headers,
        )
        try:
            self._publishing.basic_publish(
                ingress_exchange(self._namespace),
                letter.conversation or letter.id,
                again.body,
                properties,
                mandatory=True,
            )
        except (UnroutableError, NackError) as error:
            raise BusError(f"the broker did not take redrive {again.count} of {letter.id}; run `bus doctor`") from error
        self._taken.basic_ack(letter.tag)


def sent_again(letter: DeadLetter, how: Redrive) -> Again:
    """Make of a letter what is published when it is redriven.

    Raises:
        BusError: it must not be sent again, was redriven often enough, or is no CloudEvent that could carry the count.
    """
    if letter.code in _NEVER:
        raise BusError(f"{letter.id} was refused as {letter.code}: sent again by the bus it would be believed")
    _check_source(letter, how)
    again = _counted_up(letter, how)
    if again.count > how.tries:
        raise BusError(
            f"{letter.id} was redriven {again.count - 1} times and came back; mend what its reason says, then write "
            f"--tries {again.count} or more"
        )
    return again


def _check_source(letter: DeadLetter, how: Redrive) -> None:
    """What the bus sends is believed, so a letter may not say that it is from somebody who has not sent it.

    What was refused at the door, was not understood, or expired in an ingress queue has not been checked for that.
    """
    user = letter.headers.get("bus-user")  # that published it; letters of early versions do not tell
    for said in _said_sources(letter):
        by_the_bus = user == how.bus_user if user is not None else letter.source == BUS
        as_the_bus = said == BUS and (not by_the_bus or letter.code in AT_THE_DOOR)
        as_another = how.verified and not by_the_bus and said != (letter.source if user is None else user)
        if as_the_bus or as_another:
            raise BusError(
                f"{letter.id} says that it is from `{said!s:.100}`, which has not sent it: sent again by the bus it "
                "would be believed"
            )


def _said_sources(letter: DeadLetter) -> list[object]:
    if not _structured(letter):
        return [letter.headers[name] for name in (each + SOURCE for each in _PREFIXES) if name in letter.headers]
    try:
        event = orjson.loads(letter.body)
    except orjson.JSONDecodeError:
        return []
    return [event[SOURCE]] if isinstance(event, dict) and SOURCE in event else []


def _structured(letter: DeadLetter) -> bool:
    return letter.content_type.partition(";")[0].strip().lower() == _STRUCTURED


def _counted_up(letter: DeadLetter, how: Redrive) -> Again:
    if _structured(letter):
        try:
            event = orjson.loads(letter.body)
        except orjson.JSONDecodeError as error:
            raise BusError(f"{letter.id} is not JSON and would fail again; have its sender repeat it") from error
        if not isinstance(event, dict):
            raise BusError(f"{letter.id} is no CloudEvent and would fail again; have its sender repeat it")
        count = _next(event.get(REDRIVE))
        return Again(orjson.dumps(_in_time({**event, REDRIVE: count}, EXPIRY, how)), {}, count)
    headers = {name: value for name, value in letter.headers.items() if name.startswith(_PREFIXES)}
    if not headers:
        raise BusError(f"{letter.id} has no CloudEvents attributes and would fail again; have its sender repeat it")
    prefix = next(each for each in _PREFIXES if next(iter(headers)).startswith(each))
    count = _next(headers.get(prefix + REDRIVE))
    return Again(letter.body, _in_time({**headers, prefix + REDRIVE: count}, prefix + EXPIRY, how), count)


def _in_time(attributes: dict[str, Any], deadline: str, how: Redrive) -> dict[str, Any]:
    """The same without a deadline that has passed."""
    expiry = expiry_s(Message({EXPIRY: attributes.get(deadline, "")}, None))
    if expiry is not None and expiry <= how.now_s and not how.keep_deadline:
        del attributes[deadline]
    return attributes


def _next(value: object) -> int:
    return value + 1 if isinstance(value, int) and value >= 0 else 1


def _letter(tag: int, properties: Any, body: bytes) -> DeadLetter:
    headers: dict[str, Any] = dict(properties.headers or {})

    def text(name: str) -> str:
        return str(headers.get(f"bus-{name}", ""))

    try:
        findings: Json = orjson.loads(text("findings") or b"[]")
    except orjson.JSONDecodeError:
        findings = []
    return DeadLetter(
        tag=tag,
        id=text("id") or str(properties.message_id or ""),
        type=text("type"),
        source=text("source"),
        conversation=text("conversation"),
        end=text("end"),
        failure=text("class"),
        code=text("code"),
        reason=text("reason"),
        at=text("at"),
        route=text("route"),
        findings=findings,
        content_type=text("content-type") or str(properties.content_type or ""),
        headers=headers,
        body=body,
    )
