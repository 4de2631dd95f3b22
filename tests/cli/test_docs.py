"""`bus docs`: to the terminal or to a file; never of a broken configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Bus


def test_asyncapi(bus: Bus, hello: Path, tmp_path: Path) -> None:
    (document,) = bus("docs", "asyncapi", hello, "--namespace", "acme", "--title", "Hello").rows
    assert (document["asyncapi"], document["info"]["title"]) == ("3.0.0", "Hello")
    assert document["channels"]["in"]["address"] == "acme.in"
    ran = bus("docs", "asyncapi", hello, "--namespace", "acme", "--title", "Hello", "--file", tmp_path / "a.json")
    assert (ran.code, ran.out) == (0, "")
    assert json.loads((tmp_path / "a.json").read_text()) == document


def test_html(bus: Bus, hello: Path, tmp_path: Path) -> None:
    printed = bus("docs", "html", hello, "--title", "Hello")
    assert printed.out.startswith("<!doctype html>")
    assert bus("docs", "html", hello, "--title", "Hello", "--file", tmp_path / "a.html").code == 0
    assert (tmp_path / "a.html").read_text().strip() == printed.out.strip()


@pytest.mark.parametrize("form", ["asyncapi", "html"])
def test_a_broken_configuration_is_1(bus: Bus, broken: Path, tmp_path: Path, form: str) -> None:
    ran = bus("docs", form, broken, "--file", tmp_path / "out")
    assert ran.code == 1
    assert "error[unknown-field]" in ran.err
    assert not (tmp_path / "out").exists()
