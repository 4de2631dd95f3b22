"""AsyncAPI: valid to the official parser, and true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bus.config.pages.asyncapi import asyncapi
from bus.config.pages.gather import Book
from bus.config.pages.schemas import SchemaParts

PARSER = "3.6.6"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentbus" / f"asyncapi-parser-{PARSER}"
SCRIPT = Path(__file__).parent / "validate.mjs"


def without(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} in CI")
    pytest.skip(what)


@pytest.fixture(scope="session")
def parser() -> Path:
    """The folder with the official parser, installed from npm once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        without("no node and npm here")
    if not (CACHE / "node_modules").is_dir():
        fresh = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
        fresh.mkdir(parents=True)
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"@asyncapi/parser@{PARSER}"]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            shutil.rmtree(fresh)
            without(f"npm cannot install the parser: {done.stderr[-300:]}")
        try:
            fresh.rename(CACHE)
        except OSError:  # another run was faster
            shutil.rmtree(fresh)
    return CACHE


def validate(parser: Path, *files: Path) -> tuple[int, list[dict[str, Any]]]:
    command = ["node", str(SCRIPT), str(parser), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_official_parser_accepts_it(parser: Path, books: dict[str, Book], tmp_path: Path) -> None:
    files = []
    for name, book in books.items():
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(asyncapi(book, "agentbus", "A bus")))
    code, said = validate(parser, *files)
    assert (code, [each.get("messages") for each in said]) == (0, [len(book_messages(book)) for book in books.values()])


def book_messages(book: Book) -> set[str]:
    messages: set[str] = set(asyncapi(book, "agentbus", "A bus")["components"]["messages"])
    return messages


@pytest.mark.parametrize("broken", ["components.schemas.desk.order.v1", "channels.in", "operations.ask-check.action"])
def test_the_official_parser_refuses_it_without_a_part(parser: Path, desk: Book, tmp_path: Path, broken: str) -> None:
    document = asyncapi(desk, "agentbus", "A bus")
    where: Any = document
    head, *steps = broken.split(".", 2 if "schemas" in broken else -1)
    for step in (head, *steps[:-1]):
        where = where[step]
    del where[steps[-1]]
    (tmp_path / "a.json").write_text(json.dumps(document))
    code, said = validate(parser, tmp_path / "a.json")
    assert (code, bool(said)) == (1, True)


def test_what_is_taken_and_sent_over_which_queue(desk: Book) -> None:
    document = asyncapi(desk, "acme", "A bus")
    channels, operations = document["channels"], document["operations"]
    assert {name: each["address"] for name, each in channels.items()} == {
        "in": "acme.in", "capability.check": "acme.capability.check", "agent.front": "acme.agent.front",
        "agent.checker": "acme.agent.checker",
    }  # fmt: skip
    assert {name: (each["action"], each["channel"]["$ref"]) for name, each in operations.items()} == {
        "ask-check": ("send", "#/channels/capability.check"),
        "receive-from-front": ("receive", "#/channels/in"),
        "receive-from-gateway": ("receive", "#/channels/in"),
        "deliver-to-front": ("send", "#/channels/agent.front"),
        "deliver-to-checker": ("send", "#/channels/agent.checker"),
    }
    assert [each["$ref"].rpartition("/")[2] for each in operations["ask-check"]["reply"]["messages"]] == [
        "check.replied", "check.failed"
    ]  # fmt: skip
    assert set(channels["agent.front"]["messages"]) == {
        "check.requested", "check.replied", "check.failed", "bus.failed"
    }  # fmt: skip
    assert set(channels["agent.checker"]["messages"]) == {"check.requested", "bus.failed"}
    assert document["components"]["messages"]["order.placed"]["summary"] == "An order; see `order.v1`."


def test_references_lead_to_parts(desk: Book) -> None:
    schemas = asyncapi(desk, "agentbus", "A bus")["components"]["schemas"]
    order = schemas["desk.order.v1"]
    root = "#/components/schemas"
    assert order["properties"]["lines"]["items"]["$ref"] == f"{root}/desk.order.v1/$defs/line"
    assert order["properties"]["payer"]["$ref"] == f"{root}/desk.person"
    assert order["properties"]["sent"]["$ref"] == f"{root}/desk.person/$defs/address"
    assert order["properties"]["parent"]["$ref"] == f"{root}/desk.order.v1"
    assert schemas["desk.answer.v1"] == {"type": ["string", "null"]}
    assert "s3cret" not in json.dumps(schemas)


def test_a_value_that_looks_like_a_reference_is_none(tmp_path: Path) -> None:
    schema = {"const": {"$ref": "#/a"}, "properties": {"$ref": {"enum": [{"$ref": "#/b"}]}}}
    (tmp_path / "a.json").write_text(json.dumps(schema))
    parts = SchemaParts("#/x")
    parts.ref(tmp_path / "a.json")
    assert list(parts.parts.values()) == [schema]


def test_files_of_one_name_are_parts_of_their_own(tmp_path: Path) -> None:
    parts = SchemaParts("#/x")
    for folder in ("one", "two"):
        (tmp_path / folder / "shop").mkdir(parents=True)
        (tmp_path / folder / "shop" / "a.json").write_text(json.dumps({"title": folder}))
        parts.ref(tmp_path / folder / "shop" / "a.json")
    assert [each["title"] for each in parts.parts.values() if isinstance(each, dict)] == ["one", "two"]
