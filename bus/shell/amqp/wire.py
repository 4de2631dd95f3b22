"""The inbound half of the hot path: bytes in, frozen events out, no socket.

Theory of operation. One connection, one hot channel. The scanner cuts what the socket gave into frames and keeps to
itself the few kinds that make up the traffic on the hot channel: deliveries and returns with their content, and
confirms. Every other frame (handshake, heartbeats, other channels, closes) is handed on unread, for pika to decode.
Frames and contents may be split anywhere: an unfinished frame is kept as bytes, an unfinished content as what is
understood of it.

Of a delivery only what the bus needs is decoded; headers stay bytes until they are read. What breaks the protocol
raises `WireFault`; the caller drops the connection, for after it nothing on it can be trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bus.core.actions import Delivery
from bus.core.errors import BusError
from bus.shell.amqp.table import LazyHeaders, Malformed, decode_table
from bus.shell.engine import ENGINE

FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT, FRAME_END = 1, 2, 3, 8, 0xCE
FRAME_OVERHEAD = 8  # type, channel, size, end octet
DELIVER, RETURN, ACK, NACK = 0x003C003C, 0x003C0032, 0x003C0050, 0x003C0078  # class and method in one number

_HEAD = struct.Struct(">BHI")
_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_DELIVERED = struct.Struct(">QBB")  # delivery tag, redelivered, length of the exchange's name
_DELIVER_METHOD = DELIVER.to_bytes(4, "big")
_CONTENT_FRAME = struct.Struct(">BHIHHQH")  # a frame's head and the one of content
_CONTENT = struct.Struct(">HHQH")  # class, weight, body size, property flags
_BASIC = 60

_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
_PRIORITY, _CORRELATION_ID, _REPLY_TO, _EXPIRATION = 1 << 11, 1 << 10, 1 << 9, 1 << 8
_MESSAGE_ID, _TIMESTAMP, _TYPE, _USER_ID = 1 << 7, 1 << 6, 1 << 5, 1 << 4

_new = tuple.__new__  # half the time of a NamedTuple's own constructor

NO_HEADERS: Final[Mapping[str, object]] = LazyHeaders(b"")


class WireFault(BusError):
    """The broker's fault: bytes that are not AMQP; the connection is dropped."""


class Confirm(NamedTuple):
    """The broker's word on publishes: number `tag`, or with `multiple` all up to it. `ok` is ack, not `ok` nack."""

    tag: int
    multiple: bool
    ok: bool


@dataclass(frozen=True, slots=True)
class Return:
    """A mandatory publish that no queue took; its confirm follows."""

    code: int
    reason: str
    exchange: str
    routing_key: str
    message_id: str | None


class Scan(NamedTuple):
    """What one read held, each in the order in which it came.

    Args:
        deliveries: (delivery tag, delivery).
        signals: confirms and returns.
        foreign: whole frames for pika, joined; b"" when there are none.
    """

    deliveries: Sequence[tuple[int, Delivery]]
    signals: Sequence[Confirm | Return]
    foreign: bytes


@dataclass(slots=True)
class _Content:
    """A delivery or return whose content is still coming."""

    method: int
    tag: int
    queue: str
    redelivered: bool
    code: int
    reason: str
    exchange: str
    routing_key: str
    size: int = -1  # of the whole body; -1 until the content header has come
    missing: int = 0
    properties: _Properties | None = None
    chunks: list[bytes] | None = None


_Properties = tuple[str | None, bytes, str | None, str | None, str | None, str | None]
"""content type, header table, reply-to, message id, type, user id."""


class Scanner:
    """Cuts a byte stream into events of the hot channel and frames for pika.

    Args:
        channel: number of the hot channel.
        frame_max: longest frame that was negotiated; a longer one is a fault and not a reason to buffer.
    """

    def __init__(self, channel: int, frame_max: int = 131072) -> None:
        self._channel = channel
        self._frame_max = frame_max
        self._rest = b""
        self._content: _Content | None = None
        self._queues: dict[bytes, str] = {}
        self._frames = None if ENGINE is None else ENGINE.Frames(Delivery, LazyHeaders, NO_HEADERS, channel, frame_max)

    def name_consumer(self, consumer_tag: str, queue: str) -> None:
        """Say which queue the deliveries with this consumer tag are from."""
        self._queues[consumer_tag.encode()] = queue

    def feed(self, data: bytes) -> Scan:
        """Take what the socket gave.

        Raises:
            WireFault: this is not AMQP; the scanner cannot go on.
        """
        try:
            return self._scan(self._rest + data if self._rest else data)
        except (struct.error, IndexError) as error:
            raise WireFault(f"a frame ends before its content: {error}") from error

    def _scan(self, buffer: bytes) -> Scan:
        deliveries: list[tuple[int, Delivery]] = []
        signals: list[Confirm | Return] = []
        foreign: list[bytes] = []
        at, end = 0, len(buffer)
        unpack, hot, content = _HEAD.unpack_from, self._channel, self._content
        while end - at >= FRAME_OVERHEAD:
            kind, channel, size = unpack(buffer, at)
            start = at + 7
            stop = start + size
            if size > self._frame_max or (kind > 3 and kind != FRAME_HEARTBEAT) or not kind:
                if buffer.startswith(b"AMQP", at):  # the broker refuses our protocol version; pika knows what to say
                    foreign.append(buffer[at:])
                    at = end
                    break
                raise WireFault(f"no AMQP frame: type {kind}, {size} bytes")
            if stop >= end:
                break
            if buffer[stop] != FRAME_END:
                raise WireFault("a frame does not end where it says")
            if channel != hot or kind == FRAME_HEARTBEAT:
                foreign.append(buffer[at : stop + 1])
            elif kind == FRAME_METHOD:
                whole = at if content is not None else self._whole(buffer, at, start, stop, end, deliveries)
                if whole > at:
                    at = whole
                    continue
                content = self._method(buffer, at, start, stop, content, signals, foreign)
            elif content is None:
                raise WireFault("content without the method that it belongs to")
            else:
                if kind == FRAME_HEADER:
                    _read_header(content, buffer, start, stop)
                else:
                    _read_body(content, buffer, start, stop)
                if not content.missing:
                    self._finish(content, deliveries, signals)
                    content = None
            at = stop + 1
        self._rest, self._content = buffer[at:], content
        return Scan(deliveries, signals, b"".join(foreign))

    def _whole(
        self, buffer: bytes, at: int, start: int, stop: int, end: int, deliveries: list[tuple[int, Delivery]]
    ) -> int:
        """Read what is whole and usual from `at` on: one, or with the engine as many as there are."""
        if self._frames is None:
            return self._whole_delivery(buffer, start, stop, end, deliveries)
        ends: int = self._frames.take(buffer, at, self._queues, deliveries)
        return ends

    def _whole_delivery(
        self, buffer: bytes, at: int, stop: int, end: int, deliveries: list[tuple[int, Delivery]]
    ) -> int:
        """Read a first delivery whose three frames are here, the usual case, without a note of what is still to come.

        Returns:
            Where the frames end; 0 when it is another case, or not in order, and must be read frame by frame.
        """
        if not buffer.startswith(_DELIVER_METHOD, at):
            return 0
        at += 4
        key = at + 1 + buffer[at]
        queue = self._queues.get(buffer[at + 1 : key])
        tag, redelivered, length = _DELIVERED.unpack_from(buffer, key)
        key += 10 + length
        key_end = key + 1 + buffer[key]
        header = stop + 1
        if queue is None or redelivered or key_end > stop or end - header < _CONTENT_FRAME.size:
            return 0
        kind, channel, size, class_id, _weight, length, flags = _CONTENT_FRAME.unpack_from(buffer, header)
        stop = header + 7 + size
        body = stop + 8
        last: int = body + length
        hot = self._channel
        if kind != FRAME_HEADER or channel != hot or class_id != _BASIC or not length or last >= end:
            return 0
        if (
            _HEAD.unpack_from(buffer, stop + 1) != (FRAME_BODY, hot, length)
            or buffer[stop] != FRAME_END
            or buffer[last] != FRAME_END
            or max(size, length) > self._frame_max
        ):
            return 0
        content_type, table, reply_to, message_id, type_, user = _read_properties(buffer, header + 21, stop, flags)
        headers = LazyHeaders(table) if table else NO_HEADERS
        routing_key = _routing_key(buffer[key + 1 : key_end])
        delivery = _new(
            Delivery,
            (buffer[body:last], content_type, headers, user, message_id, type_, routing_key, queue, 0, reply_to),
        )
        deliveries.append((tag, delivery))
        return last + 1

    def _method(
        self,
        buffer: bytes,
        at: int,
        start: int,
        stop: int,
        content: _Content | None,
        signals: list[Confirm | Return],
        foreign: list[bytes],
    ) -> _Content | None:
        if content is not None:
            raise WireFault("a method before the content of the one before it has come")
        (method,) = _U32.unpack_from(buffer, start)
        start += 4
        if method == DELIVER:
            return self._deliver(buffer, start, stop)
        if method in (ACK, NACK):
            (tag,) = _U64.unpack_from(buffer, start)
            if start + 9 > stop:
                raise WireFault("a confirm is cut off")
            signals.append(Confirm(tag, bool(buffer[start + 8] & 1), method == ACK))
            return None
        if method == RETURN:
            return _read_return(buffer, start, stop)
        foreign.append(buffer[at : stop + 1])
        return None

    def _deliver(self, buffer: bytes, start: int, stop: int) -> _Content:
        at = start + 1 + buffer[start]
        queue = self._queues.get(buffer[start + 1 : at])
        if queue is None:
            raise WireFault("a delivery for a consumer that we do not have")
        (tag,) = _U64.unpack_from(buffer, at)
        redelivered = buffer[at + 8] != 0
        at += 9
        at += 1 + buffer[at]  # the exchange it was published to
        key_end = at + 1 + buffer[at]
        if key_end > stop:
            raise WireFault("a delivery is cut off")
        key = _routing_key(buffer[at + 1 : key_end])
        return _Content(DELIVER, tag, queue, redelivered, 0, "", "", key)

    def _finish(
        self, content: _Content, deliveries: list[tuple[int, Delivery]], signals: list[Confirm | Return]
    ) -> None:
        assert content.properties is not None
        content_type, table, reply_to, message_id, kind, user_id = content.properties
        if content.method == RETURN:
            signals.append(Return(content.code, content.reason, content.exchange, content.routing_key, message_id))
            return
        chunks = content.chunks
        body = b"" if not chunks else chunks[0] if len(chunks) == 1 else b"".join(chunks)
        headers = LazyHeaders(table) if table else NO_HEADERS
        # An agent can forge the count in its own headers; the broker replaces it once it has delivered before.
        count = _delivery_count(table) if content.redelivered else 0
        delivery = Delivery(
            body, content_type, headers, user_id, message_id, kind, content.routing_key, content.queue, count, reply_to
        )
        deliveries.append((content.tag, delivery))


def _routing_key(raw: bytes) -> str:
    """The key as text. One that is no UTF-8 ends in what no conversation may have: it must be the key of none, or a
    conversation would come to several partitions."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace") + "\ufffe"


def _read_return(buffer: bytes, start: int, stop: int) -> _Content:
    (code,) = _U16.unpack_from(buffer, start)
    at = start + 2
    texts: list[str] = []
    for _ in range(3):
        end = at + 1 + buffer[at]
        if end > stop:
            raise WireFault("a return is cut off")
        texts.append(buffer[at + 1 : end].decode("utf-8", "replace"))
        at = end
    return _Content(RETURN, 0, "", False, code, texts[0], texts[1], texts[2])


def _read_header(content: _Content, buffer: bytes, start: int, stop: int) -> None:
    if content.size >= 0:
        raise WireFault("two content headers for one method")
    class_id, _weight, size, flags = _CONTENT.unpack_from(buffer, start)
    if class_id != _BASIC:
        raise WireFault(f"content of class {class_id}; only basic has content")
    content.size = content.missing = size
    content.properties = _read_properties(buffer, start + _CONTENT.size, stop, flags)


def _read_body(content: _Content, buffer: bytes, start: int, stop: int) -> None:
    size = stop - start
    if content.size < 0 or size > content.missing:
        raise WireFault("more body than the content header said")
    content.missing -= size
    if content.chunks is None:
        content.chunks = [buffer[start:stop]]
    else:
        content.chunks.append(buffer[start:stop])


def _read_properties(buffer: bytes, at: int, stop: int, flags: int) -> _Properties:
    """Decode the few properties that the bus needs; they stand in the order of their flags, highest bit first.

    The two lowest bits mean nothing to RabbitMQ, which hands them on as a publisher has set them (seen on 3.10.8, from
    classic queues). So they mean nothing here: a fault would drop the connection, and the message would come again.
    """
    content_type = reply_to = message_id = kind = user_id = None
    table = b""
    if flags & _CONTENT_TYPE:
        end = at + 1 + buffer[at]
        content_type, at = buffer[at + 1 : end].decode("utf-8", "replace"), end
    if flags & _CONTENT_ENCODING:
        at += 1 + buffer[at]
    if flags & _HEADERS:
        end = at + 4 + _U32.unpack_from(buffer, at)[0]
        table, at = buffer[at + 4 : end], end
    if flags & _DELIVERY_MODE:
        at += 1
    if flags & (_PRIORITY | _CORRELATION_ID | _REPLY_TO | _EXPIRATION):
        reply_to, at = _read_rare(buffer, at, flags)
    if flags & _MESSAGE_ID:
        end = at + 1 + buffer[at]
        message_id, at = buffer[at + 1 : end].decode("utf-8", "replace"), end
    if flags & _TIMESTAMP:
        at += 8
    if flags & _TYPE:
        end = at + 1 + buffer[at]
        kind, at = buffer[at + 1 : end].decode("utf-8", "replace"), end
    if flags & _USER_ID:
        end = at + 1 + buffer[at]
        user_id, at = buffer[at + 1 : end].decode("utf-8", "replace"), end
    if at > stop:
        raise WireFault("properties run over the end of their frame")
    return content_type, table, reply_to, message_id, kind, user_id


def _read_rare(buffer: bytes, at: int, flags: int) -> tuple[str | None, int]:
    reply_to = None
    if flags & _PRIORITY:
        at += 1
    if flags & _CORRELATION_ID:
        at += 1 + buffer[at]
    if flags & _REPLY_TO:
        end = at + 1 + buffer[at]
        reply_to, at = buffer[at + 1 : end].decode("utf-8", "replace"), end
    if flags & _EXPIRATION:
        at += 1 + buffer[at]
    return reply_to, at


def _delivery_count(table: bytes) -> int:
    """Read `x-delivery-count`; 1 when a redelivery does not tell (not a quorum queue)."""
    try:
        count = decode_table(table).get("x-delivery-count", 1)
    except Malformed:
        return 1
    return count if isinstance(count, int) and count > 0 else 1
