"""JSONTestSuite through the strict parser."""

from __future__ import annotations

import pytest

from bus.core import strict_json
from bus.core.errors import Refused
from bus.core.facts import Limits
from tests.corpora import corpus

WITH_DUPLICATES = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}


def refused(body: bytes) -> Refused | None:
    try:
        strict_json.parse(body, Limits())
    except Refused as error:
        return error
    return None


def test_what_must_parse_parses_but_duplicate_keys() -> None:
    files = sorted(corpus("json-test-suite").glob("y_*.json"))
    assert len(files) == 95
    errors = {each.name: found.code for each in files if (found := refused(each.read_bytes()))}
    assert errors == dict.fromkeys(WITH_DUPLICATES, "duplicate-key")


def test_what_must_be_refused_is_refused() -> None:
    files = sorted(corpus("json-test-suite").glob("n_*.json"))
    assert len(files) == 188
    assert [each.name for each in files if refused(each.read_bytes()) is None] == []


def test_the_rest_ends_either_way() -> None:
    files = sorted(corpus("json-test-suite").glob("i_*.json"))
    assert len(files) == 35
    codes = {each.name: found.code for each in files if (found := refused(each.read_bytes()))}
    assert set(codes.values()) <= {"not-json", "not-utf8", "lone-surrogate", "number-too-big", "too-deep"}


@pytest.mark.parametrize("body", [b"", b" ", b"\xef\xbb\xbf{}", b"nul", b"[1", b'{"a":1}x', b"'a'"])
def test_reasons_say_where(body: bytes) -> None:
    found = refused(body)
    assert found is not None
    assert found.code == "not-json"
    assert "line 1" in found.reason
