"""What agents wrote must not steer a terminal, and durations need their unit."""

from __future__ import annotations

import pytest
import rich_click as click

from bus.cli.common import duration_s, printable
from bus.cli.send import failure_text
from bus.core.message import Json


def test_control_and_direction_characters_become_escapes() -> None:
    assert printable("ok\n\x1b[2Jgone\u202e") == "ok\n\\x1b[2Jgone\\u202e"
    assert printable("Zürich 東京 \t|") == "Zürich 東京 \t|"


def test_durations() -> None:
    assert duration_s("250ms") == 0.25
    assert duration_s("1.5h") == 5400
    with pytest.raises(click.BadParameter, match="write a number with"):
        duration_s("10")


def test_a_failure_names_each_field_or_else_its_reason() -> None:
    findings: list[Json] = [
        {"pointer": "/name", "expected": "string", "got": "nothing"},
        {"pointer": "", "expected": "x", "got": "y"},
    ]
    assert failure_text({"class": "contract", "findings": findings}) == (
        "invalid: /name expected string, got nothing\ninvalid: / expected x, got y"
    )
    assert failure_text({"class": "timeout", "reason": "no answer"}) == "timeout: no answer"
