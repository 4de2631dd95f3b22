"""Routes with memory: what a run asks, waits for, tries again and remembers, and that nothing happens twice."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.core.world import FACTS

CALLS = """\
route: r
match: {type: asked}
steps:
- wire_tap: {event: seen}
- call: {capability: grade, data: {text: "{{ data.text }}"}, into: vars.grade}
- call: {capability: other, data: {grade: "{{ vars.grade.text }}"}, into: vars.other}
  when: vars.grade.text != "skip"
to: {reply: ok, data: {grade: "{{ vars.grade.text }}"}}
"""


def test_a_call_goes_on_with_the_answer(world: Any) -> None:
    w = world(CALLS)
    assert w.send({"text": "x"}).end == "routed"
    assert (w.asked, w.requests[0]["data"]) == (["grade"], {"text": "x"})
    w.answer("grade", {"text": "A"})
    assert (w.asked, w.requests[0]["data"]) == (["other"], {"grade": "A"})
    w.answer("other", 1)
    assert (w.heard(), w.memory) == ([{"grade": "A"}], {})


def test_a_run_that_waits_for_nothing_is_not_remembered(world: Any) -> None:
    w = world(CALLS)
    w.send({"text": "x"})
    w.answer("grade", {"text": "skip"})
    assert (w.heard(), w.memory, w.asked) == ([{"grade": "skip"}], {}, [])


def test_an_answer_that_nobody_waits_for_is_recorded_only(world: Any) -> None:
    w = world(CALLS)
    w.send({"text": "x"})
    w.answer("grade", {"text": "skip"}, again=True)
    late = w.answer("grade", {"text": "skip"})
    assert (late.end, w.heard(), w.memory) == ("superseded", [{"grade": "skip"}], {})


def test_steps_that_were_done_are_not_done_again(world: Any) -> None:
    w = world(CALLS.replace("wire_tap: {event: seen}", "wire_tap: {capability: third, data: 1}"))
    w.send({"text": "x"})
    w.answer("grade", {"text": "A"})
    w.answer("other", 1)
    assert w.asked == ["third"]
    said = [note for each in w.decisions for note in each.steps]
    assert len(said) == len(set(said))


def test_a_timeout_fails_the_step_and_the_asker_is_told(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- call: {capability: grade, timeout: 2s, into: vars.grade}
to: {reply: ok}
""")
    w.send({})
    w.pass_time(1.9)
    assert w.heard() == []
    w.pass_time(0.2)
    [failed] = w.heard()
    assert (failed["class"], failed["step"], w.memory) == ("timeout", "call#1", {})
    assert w.told[0][0] == "dead"
    assert w.answer("grade", {"text": "late"}).end in ("superseded", "expired")


RETRY = """\
route: r
match: {type: asked}
steps:
- call: {capability: grade, into: vars.grade}
  on_error:
  - class: rate_limit
    retry: {attempts: 3, initial: 1s, jitter: 0}
    then: {steps: [{call: {capability: other, into: vars.grade}}]}
to: {reply: ok, data: {got: "{{ vars.grade }}"}}
"""


def test_a_failed_call_is_tried_again_and_then_the_rule_is_taken(world: Any) -> None:
    w = world(RETRY)
    w.send({})
    ids = [w.requests[0]["id"]]
    w.fail("grade", "rate_limit")
    assert w.asked == []
    w.pass_time(1.0)
    ids.append(w.requests[0]["id"])
    w.fail("grade", "rate_limit")
    w.pass_time(1.9)
    assert w.asked == []
    w.pass_time(0.1)
    ids.append(w.requests[0]["id"])
    w.fail("grade", "rate_limit")
    assert w.asked == ["other"]
    w.answer("other", 7)
    assert (w.heard(), len(set(ids)), w.memory) == ([{"got": 7}], 3, {})


def test_another_class_is_not_tried_again(world: Any) -> None:
    w = world(RETRY)
    w.send({})
    w.fail("grade", "refusal")
    assert (w.heard()[0]["class"], w.heard()[0]["agent"], w.memory) == ("refusal", "grader", {})


def test_an_answer_that_breaks_the_contract_goes_back_with_what_is_wrong(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- call: {capability: grade, repair: 2, into: vars.grade}
to: {reply: ok, data: {got: "{{ vars.grade.text }}"}}
""")
    w.send({})
    w.answer("grade", {"txt": "A"})
    assert '"pointer": "/text"' in w.requests[0]["repair"]
    assert "txt" in w.requests[0]["repair"]
    w.answer("grade", {"text": 1})
    assert '"attempt": 2' in w.requests[0]["repair"]
    w.answer("grade", {"text": "A"})
    assert w.heard() == [{"got": "A"}]
    w.send({}, id_="m2")
    for _ in range(3):
        w.answer("grade", {})
    assert (w.told[1][0], w.heard()[1]["class"], w.memory) == ("invalid", "contract", {})


GATHER = """\
route: r
match: {type: asked}
steps:
- scatter_gather:
    branches:
      grade: {capability: grade, data: {text: x}}
      other: {capability: other, timeout: 2s}
      third: {steps: [{call: {capability: third, into: data}}, {set: {data.more: 1}}], when: data.third}
    join: JOIN
    into: vars.found
to: {reply: ok, data: {found: "{{ vars.found }}"}}
"""


def gather(world: Any, join: str) -> Any:
    w = world(GATHER.replace("JOIN", join))
    w.send({"third": True})
    assert w.asked == ["grade", "other", "third"]
    return w


def test_best_effort_awaits_everyone(world: Any) -> None:
    w = gather(world, "{policy: best_effort, require: [grade], deadline: 8s}")
    w.answer("third", {"n": 3})
    w.answer("grade", {"text": "A"})
    assert w.heard() == []
    w.answer("other", 2)
    results = {"grade": {"text": "A"}, "other": 2, "third": {"n": 3, "more": 1}}
    whole = {"results": results, "completeness": 1.0, "missing": [], "degraded": False}
    assert (w.heard(), w.memory) == ([{"found": whole}], {})


def test_best_effort_goes_on_without_the_late_ones(world: Any) -> None:
    w = gather(world, "{policy: best_effort, require: [grade], deadline: 8s}")
    w.answer("grade", {"text": "A"})
    w.pass_time(7.9)
    assert w.heard() == []
    w.pass_time(0.1)
    found = w.heard()[0]["found"]
    assert sorted(found["missing"]) == ["other", "third"]
    assert w.answer("third", {"n": 3}).end == "superseded"
    assert w.memory == {}


@pytest.mark.parametrize(
    ("join", "acts", "class_"),
    [
        ("{policy: all, deadline: 8s}", [("other", None)], "tool_error"),
        ("{policy: all, deadline: 8s}", [("grade", {"text": "A"})], "timeout"),
        ("{policy: best_effort, require: [grade], deadline: 8s}", [("grade", None)], "tool_error"),
        ("{policy: quorum, n: 2, deadline: 8s}", [("grade", None), ("other", None)], "tool_error"),
        ("{policy: any, deadline: 1s}", [], "timeout"),
    ],
)
def test_a_join_fails_when_it_cannot_be_satisfied(
    world: Any, join: str, acts: list[tuple[str, Any]], class_: str
) -> None:
    w = gather(world, join)
    for capability, data in acts:
        w.fail(capability, "tool_error") if data is None else w.answer(capability, data)
    w.pass_time(8)
    assert (w.heard()[0]["class"], w.memory) == (class_, {})


def test_a_quorum_closes_as_soon_as_it_is_satisfied(world: Any) -> None:
    w = gather(world, "{policy: quorum, n: 2, require: [third], deadline: 8s}")
    w.answer("grade", {"text": "A"})
    w.answer("other", 2)
    assert w.heard() == []
    w.answer("third", {"n": 3})
    assert (w.heard()[0]["found"]["degraded"], w.memory) == (False, {})


SERIAL = """\
route: r
match: {type: asked}
serial_by: data.account
deadline: 30s
steps:
- call: {capability: other, data: {n: "{{ data.n }}"}, into: vars.posted}
to: {reply: ok, data: {n: "{{ data.n }}"}}
"""


def test_one_message_of_a_key_runs_from_start_to_end(world: Any) -> None:
    w = world(SERIAL)
    for n, account in enumerate(("a", "a", "b", "a")):
        w.send({"account": account, "n": n}, id_=f"m{n}")
    assert [each["data"]["n"] for each in w.requests] == [0, 2]
    for _ in range(4):
        w.answer("other", 1)
        w.pass_time(0)
    assert [each["n"] for each in w.heard()] == [0, 2, 1, 3]
    assert w.memory == {}


def test_who_fails_lets_the_next_one_go(world: Any) -> None:
    w = world(SERIAL)
    for n in range(3):
        w.send({"account": "a", "n": n}, id_=f"m{n}")
    w.fail("other", "refusal")
    w.pass_time(0)
    w.answer("other", 1)
    w.pass_time(31)
    assert [each.get("class", each.get("n")) for each in w.heard()] == ["refusal", 1, "timeout"]
    assert w.memory == {}


def test_a_delay_holds_a_message(world: Any) -> None:
    w = world("route: r\nmatch: {type: asked}\nsteps:\n- delay: {for: 10s}\nto: {reply: ok, data: {x: 1}}\n")
    assert w.send({}).end == "waiting"
    w.pass_time(9.9)
    assert w.heard() == []
    w.pass_time(0.2)
    assert (w.heard(), w.memory) == ([{"x": 1}], {})


def test_a_rule_of_a_step_around_comes_before_the_routes(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
on_error: [{then: reply}]
steps:
- choose:
    cases:
    - when: data.n > 1
      steps: [{call: {capability: grade, into: vars.g}}]
  on_error: [{class: refusal, then: continue}]
to: {reply: ok, data: {done: true}}
""")
    w.send({"n": 2})
    w.fail("grade", "refusal")
    w.send({"n": 2}, id_="m2")
    w.fail("grade", "unavailable")
    assert [each.get("class", "ok") for each in w.heard()] == ["ok", "unavailable"]


def test_a_step_that_fails_leaves_nothing_behind(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- choose: {cases: [{when: "true", steps: [{set: {vars.x: 1, data.y: 1}}, {call: {capability: grade}}]}]}
  on_error: [{then: continue}]
- call: {capability: other, data: {x: "{{ vars.?x.orValue(0) }}", data: "{{ data }}"}}
to: {reply: ok, data: {x: "{{ vars.?x.orValue(0) }}", data: "{{ data }}"}}
""")
    w.send({})
    w.fail("grade", "refusal")
    assert w.requests[0]["data"] == {"x": 0, "data": {}}
    w.answer("other", 1)
    assert (w.heard(), w.memory) == ([{"x": 0, "data": {}}], {})


def test_a_message_and_an_answer_at_the_limit_reach_a_run_that_lives_elsewhere(world: Any) -> None:
    w = world(SERIAL)
    body = {"specversion": "1.0", "id": "m1", "source": "cli", "type": "asked", "replyto": "client:me"}
    room = FACTS.limits.body_bytes - len(orjson.dumps({**body, "data": {"account": "a", "n": 1, "text": ""}}))
    w.send({"account": "a", "n": 1, "text": "x" * room})
    deep: Any = 0
    for _ in range(FACTS.limits.depth - 1):
        deep = [deep]
    w.answer("other", deep)
    w.pass_time(0)
    assert (w.heard(), w.memory, [who for who, _ in w.told]) == ([{"n": 1}], {}, ["me"])
