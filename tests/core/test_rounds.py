"""Loop, Routing Slip, Dynamic Router: one call after the other, each once; what is done is remembered as one result."""

from __future__ import annotations

from typing import Any

import orjson
import pytest


def route(step: str) -> str:
    return f"route: r\nmatch: {{type: asked}}\nsteps:\n- {step}\n" + 'to: {reply: ok, data: {end: "{{ data }}"}}\n'


LOOP = route("""loop:
    while: data.n < 3
    max: 4
    steps:
    - wire_tap: {capability: third, data: {round: "{{ index }}"}}
    - call: {capability: other, data: {n: "{{ data.n }}"}, into: data.n}
""")


def test_a_loop_goes_round_while_its_condition_holds(world: Any) -> None:
    w = world(LOOP)
    w.send({"n": 0})
    for n in range(3):
        assert [each["data"] for each in w.requests] == [{"round": n}, {"n": n}]
        w.requests.pop(0)
        w.answer("other", n + 1)
    assert (w.heard(), w.requests, w.memory) == ([{"end": {"n": 3}}], [], {})


def test_rounds_that_are_done_are_one_result(world: Any) -> None:
    w = world(LOOP.replace("max: 4", "max: 100").replace("data.n < 3", "data.n < 90"))
    w.send({"n": 0})
    sizes = []
    for n in range(90):
        sizes.append(sum(len(body) for body, _ in w.memory.values()))
        w.answer("other", n + 1)
    assert max(sizes[2:]) - min(sizes[2:]) < 100
    assert w.heard() == [{"end": {"n": 90}}]


def test_a_loop_that_does_not_end_fails(world: Any) -> None:
    w = world(LOOP)
    w.send({"n": 0})
    for _ in range(4):
        w.answer("other", 0)
    assert (w.heard()[0]["class"], w.heard()[0]["code"], w.asked, w.memory) == ("internal", "loop", ["third"] * 4, {})


def test_a_loop_is_left_by_to_and_by_a_failure(world: Any) -> None:
    w = world("""\
route: r
match: {type: asked}
steps:
- loop:
    while: "true"
    max: 9
    steps:
    - call: {capability: other, into: vars.x}
      on_error: [{class: refusal, then: {to: {reply: ok, data: {refused: "{{ index }}"}}}}]
    - choose: {cases: [{when: vars.x == 7, to: {reply: ok, data: {seven: "{{ index }}"}}}]}
  on_error: [{class: unavailable, retry: {attempts: 2, initial: 1s, jitter: 0}, then: continue}]
- set: {data: "{{ vars }}"}
to: {reply: ok, data: {left: "{{ data }}"}}
""")
    for n, last in enumerate(("seven", "refused", "left")):
        w.send({}, id_=f"m{n}")
        w.answer("other", 1)
        if last == "seven":
            w.answer("other", 7)
        elif last == "refused":
            w.fail("other", "refusal")
        else:
            w.fail("other", "unavailable")
            w.pass_time(1)
            w.fail("other", "unavailable")
    # A failed step leaves nothing behind: the next attempt begins with what the first began with.
    assert (w.heard(), w.memory) == ([{"seven": 1}, {"refused": 1}, {"left": {}}], {})


def test_a_routing_slip_visits_each_with_the_answer_of_the_one_before(world: Any) -> None:
    w = world(
        route("""routing_slip:
    each: data.slip
    allow: [{capability: grade, timeout: 2s}, {capability: other, data: {was: "{{ data }}", number: "{{ index }}"}}]
""")
    )
    w.send({"slip": ["other", "grade", "other"]})
    assert (w.asked, w.requests[0]["data"]["number"]) == (["other"], 0)
    w.answer("other", {"a": 1})
    assert (w.asked, w.requests[0]["data"]) == (["grade"], {"a": 1})
    w.answer("grade", {"text": "B"})
    assert w.requests[0]["data"] == {"was": {"text": "B"}, "number": 2}
    w.answer("other", 3)
    w.send({"slip": ["other", "third"]}, id_="m2")
    w.send({"slip": ["grade"]}, id_="m3")
    w.pass_time(2)
    w.send({"slip": []}, id_="m4")
    heard = w.heard()
    assert (heard[0], heard[3]) == ({"end": 3}, {"end": {"slip": []}})
    assert [each["class"] for each in heard[1:3]] == ["refusal", "timeout"]
    assert w.memory == {}


ROUTER = route("dynamic_router: {ask: {capability: third}, allow: [{capability: grade}, {capability: other}], max: 2}")


def test_a_dynamic_router_asks_who_is_next(world: Any) -> None:
    w = world(ROUTER)
    w.send({"n": 1})
    for name, answer in (("grade", {"text": "A"}), ("other", {"b": 2})):
        assert w.asked == ["third"]
        w.answer("third", {"next": name})
        assert w.asked == [name]
        w.answer(name, answer)
    assert w.requests[0]["data"] == {"b": 2}
    w.answer("third", {"next": None})
    assert (w.heard(), w.memory) == ([{"end": {"b": 2}}], {})


@pytest.mark.parametrize(
    ("answers", "class_"),
    [
        ([{"next": "desk"}], "refusal"),
        (["grade"], "contract"),
        ([{"next": 7}], "contract"),
        ([{"next": "other"}] * 3, "internal"),
    ],
)
def test_a_dynamic_router_that_cannot_go_on(world: Any, answers: list[Any], class_: str) -> None:
    w = world(ROUTER)
    w.send({"n": 1})
    for answer in answers:
        w.answer("third", answer)
        if w.requests:
            w.answer("other", {})
    assert (w.heard()[0]["class"], w.memory) == (class_, {})


def test_rounds_keep_the_labels_of_their_answers(world: Any) -> None:
    w = world(route('routing_slip: {each: \'["other", "other", "other"]\', allow: [{capability: other}]}'))
    w.send({})
    w.answer("other", 1, labels="said")
    w.answer("other", 2)
    assert w.requests[0]["labels"] == "said"
    w.answer("other", 3)
    told = [orjson.loads(orjson.dumps(each)) for who, each in w.told if who == "me"]
    assert told[0]["labels"] == "said"
