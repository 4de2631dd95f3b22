"""Routes with memory where two promises meet: each is kept alone, and both must be kept together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.core.run_world import RunWorld, catalog


@pytest.fixture
def world(tmp_path: Path) -> Any:
    return lambda routes: RunWorld(catalog(tmp_path, routes))


def test_a_step_whose_id_is_its_kind_is_tried_again_alone(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- call: {capability: grade, into: vars.a}
- call: {capability: other, into: vars.b}
  id: call
  on_error: [{retry: {attempts: 2, initial: 1s}, then: continue}]
to: {reply: ok, data: 1}
""")
    w.send({})
    w.answer("grade", {"text": "A"})
    w.fail("other", "timeout")
    w.pass_time(2)
    assert w.asked == ["other"]


@pytest.mark.parametrize("policy", ["all", "any", "best_effort"])
def test_a_required_branch_that_takes_no_part_is_not_awaited(world: Any, policy: str) -> None:
    w = world(f"""\
route: r
match: {{type: asked}}
steps:
- scatter_gather:
    branches:
      a: {{capability: grade}}
      b: {{capability: other, when: "false"}}
    join: {{policy: {policy}, require: [b], deadline: 8s}}
    into: vars.f
to: {{reply: ok, data: 1}}
""")
    w.send({})
    [failed] = w.heard()
    assert (failed["class"], failed["reason"].split(":")[0]) == ("unavailable", "`b` is required and takes no part")
    assert (w.asked, w.memory) == ([], {})
