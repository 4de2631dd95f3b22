"""YAML to nodes: values of YAML 1.2, positions to the character, and no file that can break the reader."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bus.config.nodes import MAX_BYTES, Mapping, Node, Parsed, Scalar, Sequence, parse, to_json

SUITE = Path(__file__).resolve().parents[3] / "shared" / "data" / "corpora" / "yaml-test-suite"
LIBYAML_READS_OTHERWISE = {"652Z.yaml", "HM87.yaml", "L24T.yaml"}
"""The C parser takes `?x` in a flow mapping for a key mark, and drops a last empty line without a line break."""


def read(text: str) -> Parsed:
    return parse("f.yaml", text.encode())


def only(text: str) -> Node:
    parsed = read(text)
    assert parsed.findings == ()
    return parsed.documents[0]


def value(text: str) -> object:
    return to_json(only(f"k: {text}\n"))["k"]  # type: ignore[index,call-overload]


def codes(text: str) -> list[tuple[int, int, str]]:
    return [(each.line, each.col, each.code) for each in sorted(read(text).findings)]


def scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from scalars(item)
    else:
        for key, item in node.pairs:
            yield key
            yield from scalars(item)


def spot(text: str, token: str) -> tuple[int, int]:
    """Where a token of the value of `k` is said to stand."""
    document = only(text)
    assert isinstance(document, Mapping)
    node = document.get("k")
    assert isinstance(node, Scalar)
    return node.source.position(node.index(node.text.index(token)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"), ("on", "on"), ("0o17", 15), ("017", 17), ("0x1F", 31), ("1:30", "1:30"), ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"), ("~", None), ("", None), ("True", True), ("1e3", 1000.0), ("-.5", -0.5),
        ("'1'", "1"), ('"true"', "true"), ("+7", 7), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "line_col"),
    [
        ("k: data.x == bad", (1, 14)),
        ("ключ: é\nk: é😀 bad", (2, 7)),  # columns are characters, not bytes
        ("k:\tx bad", (1, 6)),
        ('k: "a \\u00e9\\t\\"bad"', (1, 17)),
        ("k: 'it''s bad'", (1, 11)),
        ("k: |\n  one\n   bad\n", (3, 4)),
        ("k: |2-\n   one\n\n  two bad\n", (4, 7)),
        ("k: >\n  one\n  two bad\n\n  x\n", (3, 7)),
        ("k: one\n  two\n  bad", (3, 3)),
        ('k: "one \\\n   two\n\n  bad"', (4, 3)),
        ("\ufeffk: bad", (1, 4)),
        ("a: 1\r\nk: x bad\r\n", (2, 6)),
        ("{a: [1, {b: 2}], k: 'x bad'}", (1, 24)),
    ],
)
def test_a_token_is_found_inside_its_scalar(text: str, line_col: tuple[int, int]) -> None:
    assert spot(text, "bad") == line_col


def test_the_place_after_the_last_character_is_known() -> None:
    node = next(each for each in scalars(only('k: "a "')) if each.text == "a ")
    assert node.source.position(node.index(2)) == (1, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", [(3, 1, "duplicate-key")]),
        ("a: &x 1\nb: *x\n", [(1, 4, "yaml-alias"), (2, 4, "yaml-alias")]),
        ("a: !!int 1\n", [(1, 4, "yaml-tag")]),
        ("a: !data.vip\n", [(1, 4, "yaml-bang")]),
        ("- when: !data.vip && data.x\n", [(1, 9, "yaml-bang")]),
        ("a: {b: {{ data.x }}}\n", [(1, 8, "yaml-brace")]),
        ("a: {{ data.x }} and more\n", [(1, 4, "yaml-brace")]),
        ("a: data.x ? 1 : 2\n", [(1, 15, "yaml-colon")]),
        ("a: Hello: you\n", [(1, 9, "yaml-colon")]),
        ("[1]: 2\n", [(1, 1, "bad-key")]),
        ("a: .inf\n", [(1, 4, "number-range")]),
        ("a: 99999999999999999999\n", [(1, 4, "number-range")]),
        ("a: \x07\n", [(1, 4, "bad-character")]),
        ("a: [\n", [(2, 1, "yaml-syntax")]),
        ("[" * 70, [(1, 66, "too-deep")]),
    ],
)
def test_what_is_refused_has_its_place_and_code(text: str, expected: list[tuple[int, int, str]]) -> None:
    assert codes(text) == expected


def test_a_finding_says_what_to_write() -> None:
    assert str(read("- when: !data.vip\n").findings[0]) == (
        'f.yaml:1:9: error[yaml-bang]: leading `!` is a YAML tag; write `when: "!data.vip"`'
    )
    assert 'write `"{{ data.x }}"`' in str(read("a: {{ data.x }}\n").findings[0])
    assert "`a` is already written at 1:1" in str(read("a: 1\na: 2\n").findings[0])


def test_a_broken_document_does_not_hide_the_others() -> None:
    parsed = read("route: a\nto: x: y\n---\nroute: b\n---\nagents: [\n")
    assert [to_json(each) for each in parsed.documents] == [{"route": "b"}]
    assert parsed.broken == ("route", "agents")
    assert [each.line for each in parsed.findings] == [2, 7]


def test_bytes_that_are_no_yaml_file() -> None:
    assert [each.code for each in parse("f", b"a: \xff").findings] == ["not-utf8"]
    assert [each.code for each in parse("f", b"#" * (MAX_BYTES + 1)).findings] == ["too-big"]


@pytest.mark.parametrize(
    "text", ["[" * 500_000, "{a: " * 200_000, "- " * 300_000, "? " * 300_000, "a: " * 300_000, "&a " * 100_000]
)
def test_a_hostile_file_ends_soon_and_is_quoted_briefly(text: str) -> None:
    findings = read(text).findings
    assert findings
    assert all(len(str(each)) < 400 for each in findings)


@given(st.text() | st.lists(st.sampled_from("ab:-?[]{}#&*!|>'\"%@` \n\t\\,0é😀")).map("".join))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    parsed = parse("f.yaml", text.encode("utf-8", "surrogatepass"))
    for document in parsed.documents:
        for each in scalars(document):
            each.index(len(each.text) // 2)


def suite() -> list[tuple[str, dict[str, object]]]:
    if not SUITE.is_dir():
        return []
    return [
        (path.name, case)
        for path in sorted(SUITE.glob("*.yaml"))
        for case in yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        if "yaml" in case
    ]


def source_of(case: dict[str, object]) -> str:
    """The case's YAML; the suite writes invisible characters as visible ones."""
    text = re.sub("—*»", "\t", str(case["yaml"]))
    for shown, meant in (("␣", " "), ("←", "\r"), ("⇔", "\ufeff"), ("↵", ""), ("∎\n", "")):
        text = text.replace(shown, meant)
    return text


def json_of(case: dict[str, object]) -> list[object]:
    text, found, decoder = str(case["json"]).strip(), [], json.JSONDecoder()
    while text:
        each, end = decoder.raw_decode(text)
        found.append(each)
        text = text[end:].strip()
    return [each for each in found if each is not None]  # empty documents are none


def test_the_yaml_test_suite() -> None:
    """No file crashes or hangs the reader; what is accepted has the suite's values, and every scalar its place."""
    cases = suite()
    if not cases:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no corpus at {SUITE}")
        pytest.skip(f"no corpus at {SUITE}")
    equal = 0
    for name, case in cases:
        parse(name, (SUITE / name).read_bytes())
        parsed = read(source_of(case))
        for document in parsed.documents if not parsed.findings else ():  # an anchor moves a scalar's start
            for each in scalars(document):
                _check_places(each)
        if case.get("json") and not parsed.findings and not case.get("fail") and name not in LIBYAML_READS_OTHERWISE:
            assert [to_json(each) for each in parsed.documents] == json_of(case), name
            equal += 1
    assert equal >= 175  # the rest uses anchors, aliases, tags, complex or duplicate keys


def _check_places(node: Scalar) -> None:
    text = node.source.text
    for offset, char in enumerate(node.text):
        if char.isspace():
            continue
        at = node.index(offset)
        assert text[at] == char or (node.style == "double" and text[at] == "\\"), (node.text, offset)
