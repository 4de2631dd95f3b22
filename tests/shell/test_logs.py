"""Logs: one record is one bounded line whatever is in it, and formatting never raises."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.core.errors import BusError
from bus.shell.telemetry.logs import LINE_CHARS, JsonFormatter, TextFormatter, configure

log = logging.getLogger("bus.test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: object, *args: object, **extra: object) -> logging.LogRecord:
    return log.makeRecord("bus.test", logging.WARNING, __file__, 1, message, args, None, extra=extra)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_json_lines_have_their_fields(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    log.debug("not shown")
    log.info("routed %s", "m-1", extra={"message_id": "m-1", "conversation_id": "c-1", "route": "shop/orders", "n": 3})
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "INFO", "logger": "bus.test", "message": "routed m-1",
        "message_id": "m-1", "conversation_id": "c-1", "route": "shop/orders", "n": 3,
    }  # fmt: skip


def test_text_lines_are_for_people(stream: io.StringIO) -> None:
    configure("debug", "text", stream)
    log.debug("routed", extra={"route": "shop/orders", "why": "exact type"})
    assert stream.getvalue()[12:] == ' DEBUG   bus.test  routed  route=shop/orders  why="exact type"\n'


def test_configuring_twice_does_not_write_twice(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    configure("info", "json", stream)
    log.info("once")
    assert stream.getvalue().count("once") == 1


@pytest.mark.parametrize(("level", "style"), [("loud", "json"), ("info", "xml")])
def test_a_wrong_setting_says_what_to_write(stream: io.StringIO, level: str, style: str) -> None:
    with pytest.raises(BusError, match="write"):
        configure(level, style, stream)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@pytest.mark.parametrize(
    "evil", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x9b1mb", "a\u202eb", "a\ud800b", "a\x00b"]
)
def test_nobody_forges_a_line_or_drives_a_terminal(formatter: logging.Formatter, evil: str) -> None:
    line = formatter.format(record(evil, route=evil))
    assert len(line.splitlines()) == 1
    assert all(each.isprintable() for each in line)
    line.encode()
    if isinstance(formatter, JsonFormatter):
        assert json.loads(line)["message"] == evil  # escaped, not lost


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=5,
)


@given(message=st.text() | json_values, args=st.lists(json_values, max_size=2), extra=json_values)
def test_whatever_is_logged_is_one_valid_bounded_line(message: object, args: list[object], extra: object) -> None:
    shown = record(message, *args, x=extra)
    line = JsonFormatter().format(shown)
    assert json.loads(line)["level"] == "WARNING"
    for each in (line, TextFormatter().format(shown)):
        assert len(each.splitlines()) == 1
        assert len(each) <= LINE_CHARS


def test_formatting_never_raises_on_odd_objects() -> None:
    odd = record("%d of %s", "x", number=10**5000, thing=Unprintable(), pair=(1, {"a": Unprintable()}))
    line = json.loads(JsonFormatter().format(odd))
    assert "do not fit" in line["message"]
    assert "cannot be shown" in line["number"]
    assert "cannot be shown" in line["thing"]
    TextFormatter().format(odd)


@pytest.mark.parametrize("filler", ["x", "\x00", '"'])
def test_long_lines_are_cut_and_stay_json(filler: str) -> None:
    extras = {f"field{n}": filler * 100_000 for n in range(50)}
    line = JsonFormatter().format(record(filler * 100_000, **extras))
    assert len(line) <= LINE_CHARS
    assert json.loads(line)["truncated"] is True
    assert json.loads(line)["message"].startswith(filler * 100)


def test_an_exception_is_one_field() -> None:
    try:
        raise RuntimeError("broken\nhere")
    except RuntimeError:
        shown = log.makeRecord("bus.test", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    line = JsonFormatter().format(shown)
    assert "broken\nhere" in json.loads(line)["exception"]
    assert len(TextFormatter().format(shown).splitlines()) == 1
