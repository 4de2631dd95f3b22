"""The log of an agent's process: one JSON object a line, or text for people. Configured by `run`, never at import."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from bus.core.errors import BusError
from bus.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_TEXT = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"


class JsonFormatter(logging.Formatter):
    """What a record says and every field given by `extra`; control characters are escaped by JSON itself."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(settings: Settings) -> None:
    """Send the log to stderr, unless the program has configured logging itself.

    Raises:
        BusError: no such level.
    """
    if settings.log_level not in _LEVELS:
        raise BusError(f"log level `{settings.log_level}` is unknown; write {', '.join(_LEVELS)}")
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=_LEVELS[settings.log_level], handlers=[handler])
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # the link logs every loss, once and with its reason
