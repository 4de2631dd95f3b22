"""The outbound half of the hot path: publishes and acks as bytes, to be joined and sent at once."""

from __future__ import annotations

import struct

from bus.core.actions import Output
from bus.shell.amqp.table import encode_table
from bus.shell.amqp.wire import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD, FRAME_OVERHEAD

SHORT_MAX = 255  # bytes in an AMQP short string

_HEAD = struct.Struct(">BHI")
_ACK = struct.Struct(">BHIHHQBB")
_CONTENT_FRAME = struct.Struct(">BHIHHQH")
_NEXT = struct.Struct(">BBHI")  # the end of a frame, and the head of the next
_END = bytes((FRAME_END,))
_LENGTHS = tuple(bytes((length,)) for length in range(SHORT_MAX + 1))
_PERSISTENT = b"\x02"
_MANDATORY = b"\x01"
_BASIC, _PUBLISH, _BASIC_ACK = 60, 40, 80
_CONTENT_TYPE, _HEADERS, _DELIVERY_MODE, _EXPIRATION = 1 << 15, 1 << 13, 1 << 12, 1 << 8
_MESSAGE_ID, _TYPE, _USER_ID = 1 << 7, 1 << 5, 1 << 4
_ALWAYS = _CONTENT_TYPE | _DELIVERY_MODE | _MESSAGE_ID | _USER_ID

_REMEMBERED = 4096  # cached targets and types; agents choose some of them, so the memory is bounded


def short(text: str) -> bytes:
    """Encode a short string.

    Raises:
        ValueError: it is longer than 255 bytes.
    """
    raw = text.encode("utf-8", "replace")
    if len(raw) > SHORT_MAX:
        raise too_long(text, len(raw))
    return _LENGTHS[len(raw)] + raw


def too_long(text: str, size: int) -> ValueError:
    """The error for a text that AMQP cannot carry in a short string."""
    return ValueError(f"`{text[:40]}...` is {size} bytes; AMQP carries at most {SHORT_MAX} there")


def mirrored(type_: str) -> bytes:
    """Encode the type property, a mirror of what the message says itself: one too long for AMQP is left out."""
    return short(type_) if type_ and len(type_.encode("utf-8", "replace")) <= SHORT_MAX else b""


def ack(channel: int, tag: int) -> bytes:
    """Encode an acknowledgement of `tag` and all before it."""
    return _ACK.pack(FRAME_METHOD, channel, 13, _BASIC, _BASIC_ACK, tag, 1, FRAME_END)


class Encoder:
    """Encodes persistent, mandatory publishes for one channel.

    Args:
        channel: channel number.
        user: the broker user, which the broker verifies.
        frame_max: longest frame that was negotiated.
    """

    def __init__(self, channel: int, user: str, frame_max: int) -> None:
        self._channel = channel
        self._user = short(user)
        self._room = frame_max - FRAME_OVERHEAD
        self._methods: dict[tuple[str, str], bytes] = {}
        self._around: dict[tuple[str, str], tuple[bytes, bytes]] = {}

    def publish(self, pieces: list[bytes], exchange: str, routing_key: str, output: Output) -> None:
        """Append the frames of one publish to `pieces`; on an error nothing is appended.

        Raises:
            ValueError: a name is longer than 255 bytes, or the headers than a frame.
        """
        method = self._methods.get((exchange, routing_key)) or self._method(exchange, routing_key)
        _, _, id_, type_, _, body, content_type, headers, expires_ms = output
        if headers or expires_ms is not None or len(body) > self._room:
            self._unusual(pieces, method, output)
            return
        lead, trail = self._around.get((content_type, type_)) or self._known(content_type, type_)
        name = id_.encode("utf-8", "replace")
        if len(name) > SHORT_MAX:
            raise too_long(id_, len(name))
        channel, length = self._channel, len(body)
        size = 15 + len(lead) + len(name) + len(trail)
        flags = _ALWAYS if len(trail) == len(self._user) else _ALWAYS | _TYPE
        head = _CONTENT_FRAME.pack(FRAME_HEADER, channel, size, _BASIC, 0, length, flags)
        if length:
            body_head = _NEXT.pack(FRAME_END, FRAME_BODY, channel, length)
            pieces += (method, head, lead, _LENGTHS[len(name)], name, trail, body_head, body, _END)
        else:
            pieces += (method, head, lead, _LENGTHS[len(name)], name, trail, _END)

    def _unusual(self, pieces: list[bytes], method: bytes, output: Output) -> None:
        """With headers, a time to live, or a body of several frames."""
        body = output.body
        flags = _ALWAYS
        properties = [short(output.content_type)]
        if output.headers:
            flags |= _HEADERS
            properties.append(encode_table(output.headers))
        properties.append(_PERSISTENT)
        if output.expires_ms is not None:
            flags |= _EXPIRATION
            properties.append(short(str(max(0, output.expires_ms))))
        properties.append(short(output.id))
        type_ = mirrored(output.type)
        if type_:
            flags |= _TYPE
        properties += (type_, self._user)
        tail = b"".join(properties)
        size = 14 + len(tail)
        if size > self._room:
            raise ValueError(f"headers of {size} bytes do not fit a frame of {self._room}; put them into the body")
        pieces.append(method)
        pieces.append(_CONTENT_FRAME.pack(FRAME_HEADER, self._channel, size, _BASIC, 0, len(body), flags) + tail + _END)
        for at in range(0, len(body), self._room):
            part = body if len(body) <= self._room else body[at : at + self._room]
            pieces += (_HEAD.pack(FRAME_BODY, self._channel, len(part)), part, _END)

    def _method(self, exchange: str, routing_key: str) -> bytes:
        arguments = short(exchange) + short(routing_key) + _MANDATORY
        payload = struct.pack(">HHH", _BASIC, _PUBLISH, 0) + arguments
        frame = _HEAD.pack(FRAME_METHOD, self._channel, len(payload)) + payload + _END
        if len(self._methods) >= _REMEMBERED:
            self._methods.clear()
        self._methods[exchange, routing_key] = frame
        return frame

    def _known(self, content_type: str, type_: str) -> tuple[bytes, bytes]:
        """What stands around the id among the properties of a usual message."""
        found = short(content_type) + _PERSISTENT, mirrored(type_) + self._user
        if len(self._around) >= _REMEMBERED:
            self._around.clear()
        self._around[content_type, type_] = found
        return found
