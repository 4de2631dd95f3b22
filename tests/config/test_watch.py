"""Watched expressions: the same value, and the paths that each reads."""

from __future__ import annotations

import pytest

from bus.config.expressions import Compiled, Scope, compile_expression
from bus.config.types import ANY
from bus.config.watch import ABSENT, Watch
from bus.core.message import Json

NAMES: dict[str, Json] = {
    "data": {"n": 5, "list": [{"price": 2}, {"price": 3}], "a-b": "x", "who": {"name": "Ada"}}, "vars": {"limit": 4},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value", "reads"),
    [
        ("data.n > 3", True, {"data.n": 5}),
        ("data.n > vars.limit && data.n < 9", True, {"data.n": 5, "vars.limit": 4}),
        ('data.?phone.orValue("none")', "none", {"data.phone": ABSENT}),
        ("has(data.who.phone)", False, {"data.who.phone": ABSENT}),
        ('data["a-b"] + data.who.name', "xAda", {"data['a-b']": "x", "data.who.name": "Ada"}),
        ("data.list[1].price", 3, {"data.list[1].price": 3}),
        ("data.list.map(x, x.price * data.n)", [10, 15], {"data.list": NAMES["data"]["list"], "data.n": 5}),  # type: ignore[index,call-overload]
        ("size(data.list[size(data.list) - 1]) == 1", True, {"data.list": NAMES["data"]["list"]}),  # type: ignore[index,call-overload]
        ("data.list.map(data, data.price)", [2, 3], {"data.list": NAMES["data"]["list"]}),  # type: ignore[index,call-overload]
        ("1 + 1", 2, {}),
    ],
)
def test_reads(text: str, value: Json, reads: dict[str, object]) -> None:
    roots = frozenset(NAMES)
    compiled = compile_expression(text, Scope(dict.fromkeys(NAMES, ANY)))
    assert isinstance(compiled, Compiled)
    watch = Watch()
    watched = watch.condition(compiled.expression, "when", "a.yaml:1:2", roots)
    assert watched.text == text
    assert watched(NAMES) == value
    (seen,) = watch.seen
    assert (seen.place, seen.text, seen.value, seen.error) == ("a.yaml:1:2", f"when {text}", value, "")
    assert dict(seen.reads) == reads
