"""Steps that need no memory, in routes that have one: what they did stays done, and no attempt is taken for another."""

from __future__ import annotations

from typing import Any

import pytest


def test_the_items_of_a_split_ask_and_go_on_each_by_itself(world: Any) -> None:
    w = world("""
route: r
match: {type: asked}
steps:
- split:
    each: data.list
    steps:
    - call: {capability: grade, data: {item: "{{ data }}"}, into: vars.grade}
    to: {capability: other, data: {grade: "{{ vars.grade.text }}", number: "{{ index }}"}}
to: {reply: ok, data: split}
""")
    w.send({"list": ["a", "b", "c"]})
    for text in ("A", "B", "C"):
        assert w.heard() == []
        assert all(b"split#1[0]/" not in body or text == "A" for body, _ in w.memory.values())
        w.answer("grade", {"text": text})
    assert [each["data"] for each in w.requests] == [
        {"grade": text, "number": number} for number, text in enumerate("ABC")
    ]
    assert (w.heard(), w.memory) == (["split"], {})


@pytest.mark.parametrize(
    "step",
    [
        "use: {fragment: graded}",
        "choose: {cases: [{when: 'true', steps: [{call: {capability: grade, into: data.grade}}]}]}",
        "detour: {control: never, steps: []}\n- load_balance: "
        "{branches: {one: {weight: 1, steps: [{call: {capability: grade, into: data.grade}}]}}}",
    ],
)
def test_a_step_that_is_tried_again_asks_again(world: Any, step: str) -> None:
    w = world(f"""
route: r
match: {{type: asked}}
steps:
- {step}
  on_error: [{{class: tool_error, retry: {{attempts: 3, initial: 1s}}, then: dead_letter}}]
to: {{reply: ok}}
---
fragment: graded
steps: [{{call: {{capability: grade, into: data.grade}}}}]
""")
    w.send({})
    first = w.requests[0]["id"]
    w.fail("grade", "tool_error")
    assert w.asked == []
    w.pass_time(1.1)
    assert w.asked == ["grade"]
    assert w.requests[0]["id"] != first
    w.answer("grade", {"text": "A"})
    assert (w.heard(), w.memory) == ([{"grade": {"text": "A"}}], {})


LABELS = """
route: r
match: {type: asked}
steps:
- label: {add: [personal]}
- scatter_gather:
    branches:
      one: {capability: grade, data: 1}
      two: {steps: [{label: {add: [inner]}}, {call: {capability: other, data: 2}}]}
    join: {policy: all, deadline: 8s}
    into: vars.found
to: {capability: third}
"""


def test_labels_come_back_with_answers_and_branches(world: Any) -> None:
    w = world(LABELS)
    w.send({})
    assert [each["labels"] for each in w.requests] == ["personal", "inner,personal"]
    w.answer("grade", {"text": "A"}, labels="said")
    refused = w.answer("other", 2)
    assert refused.failure is not None
    assert (refused.failure.failure, "agent `third` lacks `cleared: true`" in refused.reason) == ("refusal", True)
    w = world(LABELS.replace("to: {capability: third}", "- label: {remove: [personal]}\nto: {capability: third}"))
    w.send({})
    w.answer("grade", {"text": "A"}, labels="said")
    w.answer("other", 2)
    assert [each["labels"] for each in w.requests] == ["inner,said"]


def test_a_detour_stays_as_it_was_when_the_run_came_by(world: Any) -> None:
    w = world("""
route: r
match: {type: asked}
steps:
- detour: {control: check, steps: [{set: {data.checked: true}}]}
- call: {capability: grade, data: 1}
to: {reply: ok}
""")
    w.send({})
    w.controls = {"check": True}
    w.answer("grade", {"text": "A"})
    assert w.heard() == [{}]
    w.send({}, id_="m2")
    w.controls = {}
    w.answer("grade", {"text": "A"})
    assert w.heard() == [{}, {"checked": True}]


def test_a_call_may_be_named_by_the_message_and_chooses_agents(world: Any) -> None:
    w = world("""
route: r
match: {type: asked}
steps:
- call: {capability: "{{ data.skill }}", allow: [grade, other], data: 1, into: vars.said}
- call: {capability: grade, where: {cleared: true}, data: 2, into: vars.grade}
to: {reply: ok, data: "{{ vars.said }}"}
""")
    w.send({"skill": "other"})
    w.answer("other", 7)
    w.answer("grade", {"text": "A"})
    assert (w.heard(), w.memory) == ([7], {})
    w.send({"skill": "third"}, id_="m2")
    assert w.heard()[1]["reason"] == "target `third` is not in `allow`: grade, other"
