"""The page: whole, of one piece, and without secrets."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from bus.config.pages.fields import FieldRow, field_rows
from bus.config.pages.gather import Book
from bus.config.pages.page import page
from bus.core.message import Json

_VOID = {"meta", "br", "rect", "path"}


class Reader(HTMLParser):
    """Collects what a page links to, what it has, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and tag != "marker":
                self.ids.append(str(value))
            elif name == "href":
                self.links.add(str(value).removeprefix("#"))
            elif name in ("src", "srcset", "data", "action", "onload"):
                self.fetched.append(f"{tag} {name}")
        if tag in ("script", "iframe", "link", "img", "object", "b"):
            self.fetched.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("name", ["desk", "customer_service", "shop"])
def test_links_lead_somewhere_and_nothing_is_fetched(books: dict[str, Book], name: str) -> None:
    text = page(books[name], "Our bus")
    read = Reader(text)
    assert read.open == []
    assert read.links - set(read.ids) == set()
    assert len(read.ids) == len(set(read.ids))
    assert read.fetched == []
    assert "url(" not in text.replace("url(#agentbus-head)", "")


def test_it_tells_everything_but_secrets(desk: Book) -> None:
    text = page(desk, "Our <bus>")
    words = "".join(Reader(text).words)
    for said in (
        "Our <bus>", "Takes <b>orders</b> & more.", "An order; see `order.v1`.", "Has it checked.", "front", "checker",
        "order.seen", "idempotent, lease 60 s", "lines[].id", "at least 1 items", "wire_tap",
        "POST /orders", "waits 5 s for the answer, then fail", "0 3 * * *", "Europe/Berlin",
    ):  # fmt: skip
        assert said in words, said
    assert "s3cret" not in text


def test_fields_of_a_contract() -> None:
    line: Json = {"$ref": "#/order/$defs/line"}
    parts: dict[str, Json] = {
        "order": {
            "required": ["lines"],
            "properties": {"lines": {"type": "array", "items": line, "minItems": 1}, "parent": {"$ref": "#/order"}},
            "$defs": {"line": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}},
        },
        "names": {"type": "array", "items": {"type": "string", "maxLength": 3}},
        "odd": {"properties": {"a": {"$ref": "#/order"}, "b": {"enum": ["c", 1]}, "d": False, "e": {"const": 2}}},
    }
    assert field_rows("order", parts, "#") == (
        FieldRow("lines", "list", True, "at least 1 items"),
        FieldRow("lines[].id", "string", True, ""),
        FieldRow("parent", "any", False, "", "order"),
    )
    assert field_rows("names", parts, "#") == (FieldRow("[]", "string", False, "length at most 3"),)
    assert field_rows("odd", parts, "#") == (
        FieldRow("a", "any", False, "", "order"),
        FieldRow("b", "one of `c`, `1`", False, ""),
        FieldRow("d", "never", False, ""),
        FieldRow("e", "`2`", False, ""),
    )
