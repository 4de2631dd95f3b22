"""The codec: bytes and headers in, a Message out, and back. The wire contract's only reader and writer.

Accepted are CloudEvents 1.0 in structured mode (`application/cloudevents+json`) and in binary mode (attributes in
the headers `ce-NAME`, `cloudEvents:NAME` or `cloudEvents_NAME`, JSON in the body). The payload is JSON in both.
Attributes keep their types; the integers that the bus counts with may also come as decimal strings, because many
CloudEvents libraries make every attribute a string. A null attribute is an absent one, as the CloudEvents JSON
format says.

`decode` believes nothing: whatever it does not understand is refused with one sentence for the sender.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn, cast

from bus.core import strict_json
from bus.core.actions import Delivery
from bus.core.errors import Refused
from bus.core.facts import Limits
from bus.core.labels import names_of, text_of
from bus.core.message import (
    ATTEMPT,
    BUDGET_TOKENS,
    CAUSATION,
    CONVERSATION,
    CORRELATION,
    DATACONTENTTYPE,
    EXPIRY,
    FENCE,
    HOPS,
    ID,
    LABELS,
    REDRIVE,
    REPLYTO,
    SOURCE,
    SPECVERSION,
    SUBJECT,
    TIME,
    TRACEPARENT,
    TRACESTATE,
    TYPE,
    Attribute,
    Json,
    Message,
)

STRUCTURED = "application/cloudevents+json"
JSON_TYPE = "application/json"
HEADER_PREFIX = "ce-"

_PREFIXES = ("ce-", "cloudEvents:", "cloudEvents_")
_MAX_ATTRIBUTES = 64
_MAX_BYTES = 4096  # of one attribute; larger things belong in the payload
_SURELY_SHORT = _MAX_BYTES // 4  # characters; UTF-8 needs at most four bytes for one
_MAX_ID = 128  # characters; ids become broker properties, index keys and log fields
_SHORT_ID = 63  # characters; UTF-8 needs at most four bytes for one, so that these fit a routing key
_MAX_KEY = 255  # bytes of an AMQP routing key, which the conversation, and so the id, becomes
_NAME = re.compile(r"[a-z0-9]{1,20}")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_INTEGER = re.compile(r"[0-9]{1,18}")
_JSON_TYPES = re.compile(r"[a-z0-9.!#$&^_-]+/(?:json|[a-z0-9.!#$&^_-]+\+json)", re.IGNORECASE)
_CHARSET = re.compile(r"\s*charset\s*=\s*\"?utf-8\"?\s*", re.IGNORECASE)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]([01]\d|2[0-3])(:[0-5]\d:)([0-5]\d|60)(?:\.(\d{1,12}))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def _bad(name: str, what: str) -> NoReturn:
    raise Refused("bad-attribute", f"attribute `{name[:40]}` {what}")


# --- single attributes --------------------------------------------------------------------------------------------


def _id(value: Attribute) -> Attribute:
    if not isinstance(value, str) or not value:
        _bad(ID, "must be a non-empty string")
    if len(value) > _MAX_ID or not value.isprintable() or len(value.encode()) > _MAX_KEY:
        _bad(ID, f"must be at most {_MAX_ID} printable characters and {_MAX_KEY} bytes")
    return value


def _conversation(value: Attribute) -> Attribute:
    if not isinstance(value, str) or len(value.encode("utf-8", "replace")) > _MAX_KEY:
        _bad(CONVERSATION, f"must be a string of at most {_MAX_KEY} bytes: it is the routing key")
    return value


def _source(value: Attribute) -> Attribute:
    if not isinstance(value, str) or not value:
        _bad(SOURCE, "must be a non-empty string: the sender's agent name")
    return value


@lru_cache(maxsize=4096)  # types are few, but agents choose them: bounded at 1 MiB
def _is_type(text: str) -> bool:
    return _TYPE.fullmatch(text) is not None


def _type(value: Attribute) -> Attribute:
    if not isinstance(value, str) or not _is_type(value):
        _bad(TYPE, "must be letters, digits, `.`, `_` and `-`, such as `order.placed`")
    return value


def _specversion(value: Attribute) -> Attribute:
    if value != "1.0":
        _bad(SPECVERSION, 'must be "1.0"')
    return value


def _contenttype(value: Attribute) -> Attribute:
    if not isinstance(value, str) or not _is_json(value):
        raise Refused("unsupported-content-type", "attribute `datacontenttype` must be `application/json`")
    return value


def _count(name: str) -> Callable[[Attribute], Attribute]:
    def check(value: Attribute) -> Attribute:
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            _bad(name, "must be an integer, 0 or more")
        return value

    return check


def _timestamp(name: str) -> Callable[[Attribute], Attribute]:
    def check(value: Attribute) -> Attribute:
        if not isinstance(value, str) or not _is_time(value):
            _bad(name, "must be an RFC 3339 time, such as `2026-01-31T09:30:00Z`")
        return value

    return check


def _labels(value: Attribute) -> Attribute:
    if not isinstance(value, str):
        _bad(LABELS, "must be names separated by commas, such as `personal,eu`")
    try:
        return text_of(names_of(value))
    except ValueError as error:
        _bad(LABELS, f"is wrong: {error}")


_CHECKS: Mapping[str, Callable[[Attribute], Attribute]] = {
    ID: _id,
    CONVERSATION: _conversation,
    LABELS: _labels,
    SOURCE: _source,
    TYPE: _type,
    SPECVERSION: _specversion,
    DATACONTENTTYPE: _contenttype,
    **{name: _timestamp(name) for name in (TIME, EXPIRY)},
    **{name: _count(name) for name in (HOPS, ATTEMPT, FENCE, REDRIVE, BUDGET_TOKENS)},
}


_REQUIRED = frozenset({ID, SOURCE, TYPE, SPECVERSION})
_FREE = frozenset(
    {
        ID,
        SOURCE,
        TYPE,
        SPECVERSION,
        CONVERSATION,
        CORRELATION,
        CAUSATION,
        REPLYTO,
        TRACEPARENT,
        TRACESTATE,
        SUBJECT,
    }
)
"""Names whose values `_usual` has looked at, or that may be any text."""
_KNOWN = _CHECKS.keys() | _FREE


def _is_json(content_type: str) -> bool:
    kind, _, parameters = content_type.partition(";")
    return bool(_JSON_TYPES.fullmatch(kind.strip())) and (not parameters or bool(_CHARSET.fullmatch(parameters)))


def _is_time(text: str) -> bool:
    """Tell whether a text is an RFC 3339 time; cheaper than reading it, as most are never read."""
    if _RFC3339.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def _epoch(text: str) -> float | None:
    """Read an RFC 3339 time as epoch seconds; None when it is none. A leap second counts as the second after :59."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    day, hour, minute, second, fraction, zone = found.groups()
    leap = second == "60"
    whole = f"{day}T{hour}{minute}{'59' if leap else second}{'+00:00' if zone in 'Zz' else zone}"
    try:
        at = datetime.fromisoformat(whole)
        return (at + timedelta(seconds=leap)).timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
    except (ValueError, OverflowError):
        return None


# --- decode -------------------------------------------------------------------------------------------------------


def decode(delivery: Delivery, limits: Limits) -> Message:
    """Read a message from the wire.

    Args:
        delivery: what the broker handed over.
        limits: body size and nesting depth.

    Raises:
        Refused: what is wrong and what was expected: the codes of `strict_json.parse`, `not-an-object`,
            `unsupported-content-type`, `missing-attribute`, `bad-attribute`, `too-many-attributes`,
            `property-mismatch`.
    """
    content_type = delivery.content_type
    if content_type == STRUCTURED or (content_type and _is_structured(content_type)):
        message = _structured(delivery.body, limits)
    else:
        message = _binary(delivery, limits)
    attributes = message.attributes
    said = delivery.message_id
    if said is not None and said != attributes[ID]:
        raise Refused("property-mismatch", "the AMQP property message_id differs from the attribute `id`")
    said = delivery.type
    if said is not None and said != attributes[TYPE]:
        raise Refused("property-mismatch", "the AMQP property type differs from the attribute `type`")
    return message


def _is_structured(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == STRUCTURED and _is_json(content_type)


def _structured(body: bytes, limits: Limits) -> Message:
    event = strict_json.parse(body, limits)
    if not isinstance(event, dict):
        raise Refused("not-an-object", "a structured CloudEvent is a JSON object with its attributes and `data`")
    if "data_base64" in event:
        raise Refused("unsupported-content-type", "`data_base64` is not accepted; send JSON in `data`")
    data = event.pop("data", None)
    return tuple.__new__(Message, (_checked(event), data))


def _binary(delivery: Delivery, limits: Limits) -> Message:
    attributes: dict[str, object] = {}
    for header, value in delivery.headers.items():
        if not header.startswith(_PREFIXES):
            continue
        name = header[3:] if header.startswith(HEADER_PREFIX) else header[12:]
        value = _from_header(name, value)
        if name in attributes and attributes[name] != value:
            _bad(name, "is there twice, under two header prefixes, with different values")
        attributes[name] = value
    if not attributes:
        raise Refused(
            "unsupported-content-type",
            f"content type {delivery.content_type!r:.80} without `ce-` headers; send `{STRUCTURED}`, or `ce-` headers",
        )
    content_type = delivery.content_type
    if content_type is not None and not _is_json(content_type):
        raise Refused("unsupported-content-type", f"content type {content_type!r:.80}; the payload must be JSON")
    if content_type is not None and DATACONTENTTYPE not in attributes:
        attributes[DATACONTENTTYPE] = content_type
    data = strict_json.parse(delivery.body, limits) if delivery.body else None
    return Message(_checked(attributes), data)


def _from_header(name: str, value: object) -> object:
    """Turn what AMQP tables hold into what attributes hold; the rest is refused by its type later."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


def _checked(raw: dict[str, Any]) -> dict[str, Attribute]:
    """Check names, types and sizes of all attributes, and the meaning of those that the bus knows; `raw` is used up."""
    if len(raw) > _MAX_ATTRIBUTES:
        raise Refused("too-many-attributes", f"{len(raw)} attributes; at most {_MAX_ATTRIBUTES} are accepted")
    hops = raw.pop(HOPS, None)
    usual = _usual(raw) if hops is None else type(hops) is int and 0 <= hops < 2**63 and _usual(raw)
    if hops is not None:
        raw[HOPS] = hops
    if usual:
        return cast("dict[str, Attribute]", raw)
    attributes = _plain_ones(raw)
    for name, check in _CHECKS.items():
        if name in attributes:
            attributes[name] = check(attributes[name])
    if not attributes.keys() >= _REQUIRED:
        missing = next(name for name in (ID, SOURCE, TYPE, SPECVERSION) if name not in attributes)
        raise Refused("missing-attribute", f"attribute `{missing}` is required")
    return attributes


def _usual(raw: dict[str, Any]) -> bool:
    """Whether all is in order, seen without a look at each attribute: known names, short printable strings.

    It errs on one side only: what it does not know is looked at closely.
    """
    try:
        text = "".join(raw.values())
        return (
            len(text) <= _SURELY_SHORT
            and text.isprintable()
            and _FREE.issuperset(raw)
            and 0 < len(raw[ID]) <= _SHORT_ID
            and raw[SOURCE] != ""
            and raw[SPECVERSION] == "1.0"
            and _is_type(raw[TYPE])
            and (CONVERSATION not in raw or len(raw[CONVERSATION]) <= _SHORT_ID)
        )
    except (TypeError, KeyError):
        return False


def _plain_ones(raw: dict[str, Any]) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {}
    for name, value in raw.items():
        if name not in _KNOWN and not _NAME.fullmatch(name):
            _bad(name, "has a bad name; attribute names are 1 to 20 of a-z and 0-9")
        if value is not None:
            attributes[name] = _plain(name, value)
    return attributes


def _plain(name: str, value: object) -> Attribute:
    if isinstance(value, str):
        if len(value) > _SURELY_SHORT and len(value.encode("utf-8", "replace")) > _MAX_BYTES:
            _bad(name, f"is longer than {_MAX_BYTES} bytes")
        if not value.isprintable() and _CONTROL.search(value):
            _bad(name, "has control characters")
        return value
    if isinstance(value, bytes):
        if len(value) > _MAX_BYTES:
            _bad(name, f"is longer than {_MAX_BYTES} bytes")
        return value
    if isinstance(value, int):  # a bool is one too
        if not -(2**63) <= value < 2**63:
            _bad(name, "does not fit 64 bits")
        return value
    _bad(name, "must be a string, an integer or a boolean; put structured values into `data`")


# --- encode -------------------------------------------------------------------------------------------------------


def encode(attributes: Mapping[str, Attribute], data: Json) -> bytes:
    """Write a structured CloudEvent; bytes become base64, absent data stays absent.

    Raises:
        Refused: `not-json`: the data is no JSON value.
    """
    event: dict[str, Any] = dict(attributes)
    if data is not None:
        event["data"] = data
    return write(event)


def write(event: dict[str, Any]) -> bytes:
    """Write a structured CloudEvent whose payload, if it has one, stands under `data`; see `encode`."""
    return strict_json.dump(event, _base64)


def _base64(value: object) -> str:
    """Write a Binary attribute as the CloudEvents JSON format says."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def encode_binary(message: Message) -> tuple[bytes, dict[str, Attribute]]:
    """Write the payload, and the attributes as `ce-` headers; `datacontenttype` belongs into the content type property.

    Raises:
        Refused: `not-json`: the data is no JSON value.
    """
    headers = {f"{HEADER_PREFIX}{name}": value for name, value in message.attributes.items() if name != DATACONTENTTYPE}
    return (b"" if message.data is None else strict_json.dump(message.data)), headers


def expiry_s(message: Message) -> float | None:
    """Return when the message expires, in epoch seconds, or None when it never does."""
    text = message.attributes.get(EXPIRY)
    return _epoch(text) if isinstance(text, str) else None
