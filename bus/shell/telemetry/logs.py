"""Structured logs: one record, one line, whatever is in it.

What agents send ends up in log records, so a record is hostile: control characters and line separators are escaped
(nobody can forge a line or drive a terminal), values and lines are bounded, and formatting never raises. Fields given
by `extra` appear beside the message: `log.info("routed", extra={"message_id": ..., "route": ...})`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from bus.core.errors import BusError

LINE_CHARS = 16_384  # longest line: log shippers split longer ones, commonly at 16 KiB
_VALUE_CHARS = 2_048  # longest single value; the message may have twice, a traceback four times that
_SHORT_CHARS = 460  # what is left of each standing field of a line that is too long
_ITEMS, _DEPTH = 32, 4  # of a list or map in a value

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FIRST = ("ts", "level", "logger", "message", "exception")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Controls (C0, C1), line and paragraph separators, invisible and direction marks, lone surrogates."""


def configure(level: str, style: str, stream: TextIO) -> logging.Handler:
    """Send the process's log to `stream`, in place of where it went before; returns the handler.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        style: `json`, or `text` for people.
        stream: where to.

    Raises:
        BusError: no such level or format.
    """
    if level not in _LEVELS:
        raise BusError(f"log level `{level}` is unknown; write {', '.join(_LEVELS)}")
    if style not in ("json", "text"):
        raise BusError(f"log format `{style}` is unknown; write json or text")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    # pika tells each step of a connect, and logs every refused or lost connection as an error; ours say both once.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    return handler


def set_level(level: str) -> None:
    """Change what is written from now on; `level` as in `configure`."""
    logging.getLogger().setLevel(_LEVELS[level])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts, level, logger, message, exception when there is one, and the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(self, record)
        line = _dump(fields)
        if len(line) > LINE_CHARS:  # an escape takes six characters at most, so five short fields always fit
            short = {name: str(fields[name])[:_SHORT_CHARS] for name in _FIRST if name in fields}
            line = _dump({**short, "truncated": True})
        return line


class TextFormatter(logging.Formatter):
    """`12:00:00.123 INFO    bus.worker  message  key=value`, for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(self, record)
        clock = str(fields["ts"])[11:23]
        extras = "".join(f"  {name}={_word(value)}" for name, value in fields.items() if name not in _FIRST)
        line = f"{clock} {fields['level']:<7} {fields['logger']}  {fields['message']}{extras}"
        if "exception" in fields:
            line += f"  {fields['exception']}"
        return _escape(line, LINE_CHARS)


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    """Return what a line shows, in order, plain and bounded. Whatever cannot be shown says so instead."""
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields: dict[str, object] = {
        "ts": moment.replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": _message(record)[: 2 * _VALUE_CHARS],
    }
    for name, value in list(vars(record).items()):
        if name not in _OWN and name not in _FIRST:
            fields[_escape(str(name), 64)] = _plain(value, _DEPTH)
    if record.exc_info:
        fields["exception"] = formatter.formatException(record.exc_info)[-4 * _VALUE_CHARS :]
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a log line never raises
        return f"{str(record.msg)[:_VALUE_CHARS]} (its arguments do not fit: {type(error).__name__})"


def _plain(value: object, depth: int) -> object:
    """Return `value` as bounded JSON values; what is neither JSON nor short becomes a cut string."""
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) < 1 << 63:
            return value
        if isinstance(value, float) and value - value == 0:  # neither NaN nor infinite
            return value
        if isinstance(value, Mapping) and depth:
            return {str(key)[:64]: _plain(each, depth - 1) for key, each in list(value.items())[:_ITEMS]}
        if isinstance(value, (list, tuple)) and depth:
            return [_plain(each, depth - 1) for each in value[:_ITEMS]]
        return (value if isinstance(value, str) else str(value))[:_VALUE_CHARS]
    except Exception as error:  # noqa: BLE001 - nor does what an object's __str__ does
        return f"(cannot be shown: {type(error).__name__})"


def _dump(fields: Mapping[str, object]) -> str:
    return _UNSAFE.sub(_unicode_escape, json.dumps(fields, ensure_ascii=False))


def _word(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


def _escape(text: str, longest: int) -> str:
    return _UNSAFE.sub(_unicode_escape, text[:longest])[:longest]


def _unicode_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
