"""Routes with memory where two promises meet: each is kept alone, and both must be kept together."""

from __future__ import annotations

from typing import Any

import pytest

from bus.core.answering import reply
from bus.core.codec import encode
from bus.core.message import Message
from tests.core.run_world import OF


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


def test_what_an_item_or_a_branch_filters_is_no_result(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- split:
    each: data.items
    steps: [{filter: data > 2}]
    join: {policy: all, deadline: 10s}
    into: vars.items
- scatter_gather:
    branches: {a: {steps: [{filter: data.items.size() > 5}]}, b: {steps: [{translate: {data: 1}}]}}
    join: {policy: all, deadline: 10s}
    into: vars.branches
to: {reply: ok, data: {items: "{{ vars.items }}", branches: "{{ vars.branches.results }}"}}
""")
    w.send({"items": [1, 3]})
    [heard] = w.heard()
    assert (heard["items"]["results"], heard["items"]["missing"]) == ([None, 3], [])
    assert heard["branches"] == {"a": None, "b": 1}


def test_a_branch_hands_on_without_the_return_address(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- scatter_gather:
    branches:
      a: {steps: [{filter: "true"}], to: {capability: third}}
      b: {capability: other}
    join: {policy: all, deadline: 10s}
    into: vars.f
to: {reply: ok, data: 1}
""")
    w.send({})
    w.answer("third", {"said": "by the branch"})
    w.answer("other", 2)
    assert w.heard() == [1]


def test_what_is_nested_too_deep_to_be_remembered_fails_its_run(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- loop:
    while: index < 300
    max: 300
    steps: [{set: {vars.x: ["{{ vars.?x.orValue(1) }}"]}}]
- call: {capability: other, data: 1}
to: {reply: ok, data: 1}
""")
    assert w.send({}).end == "dead_letter"
    assert (w.heard()[0]["class"], w.asked, w.memory) == ("internal", [], {})


def test_no_more_than_a_thousand_wait_for_a_number_that_does_not_come(world: Any) -> None:
    w = world("""\
route: r
match: {type: numbered}
steps:
- resequence: {by: msg.conversationid, sequence: data.n, deadline: 30s, on_gap: release}
to: {reply: ok, data: "{{ data.n }}"}
""")
    for n in range(2, 1003):
        w.send({"n": n}, "numbered", id_=f"m{n}", conversationid="c")
    assert (w.decisions[-2].end, w.decisions[-1].end, w.heard()[0]["class"]) == ("waiting", "dead_letter", "refusal")
    w.send({"n": 1}, "numbered", id_="m1", conversationid="c")
    w.pass_time(1)
    assert w.heard()[1:] == [*range(1, 1002)]


def test_a_redriven_message_begins_a_run_that_asks_anew(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- call: {capability: grade, into: vars.a}
- call: {capability: other, into: vars.b}
to: {reply: ok, data: 1}
""")
    w.send({})
    first = w.requests[0]
    w.answer("grade", {"text": "A"})
    w.fail("other", "tool_error")
    w.redrive({}, 1)
    [again] = w.requests
    assert again["id"] != first["id"]  # else the agent gives the answer that it has, which is known to the bus
    assert again["replyto"] != first["replyto"]
    for name in ("grade", "other"):  # as the SDK answers
        request = w.requests.pop()
        data = request.pop("data")
        answer = reply(OF[name], Message(request, data), f"{name}.replied", {"text": "A"})
        assert w._hear(encode(answer.attributes, answer.data), "m1", "agents").end == "routed"
    assert (w.heard()[1:], w.memory) == ([1], {})
