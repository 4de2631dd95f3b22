"""Steps that remember what was before: Circuit Breaker, Throttler, Idempotent Receiver."""

from __future__ import annotations

from typing import Any

from tests.core.run_world import RunWorld

BREAKER = """\
route: r
match: {type: asked}
on_error: [{then: dead_letter}]
steps:
- circuit_breaker:
    failures: 3
    window: 30s
    reset: 1m
    steps: [{call: {capability: grade, timeout: 20s, into: vars.out}}]
  on_error:
  - class: [rate_limit, unavailable]
    retry: {attempts: 2, initial: 1s, jitter: 0}
    then: {steps: [{call: {capability: other, into: vars.out}}]}
to: {reply: ok, data: {text: "{{ vars.out.text }}"}}
"""


def test_an_open_breaker_asks_nobody_and_its_rule_applies(world: Any) -> None:
    w = world(BREAKER)
    w.send({}, id_="m1")
    assert [each.key.partition(":")[0] for each in w.decisions[-1].changes] == [
        "flow"
    ]  # nothing has happened to it yet
    w.fail("grade", "rate_limit")
    w.pass_time(1)
    w.fail("grade", "rate_limit")
    assert w.asked == ["other"]
    w.answer("other", {"text": "small"})
    w.send({}, id_="m2")
    w.fail("grade", "rate_limit")  # the third failure; the second attempt finds it open
    w.pass_time(1)
    assert w.asked == ["other"]
    w.answer("other", {"text": "small"})
    w.send({}, id_="m3")
    w.pass_time(1)
    assert w.asked == ["other"]
    w.answer("other", {"text": "small"})
    assert w.heard() == [{"text": "small"}] * 3
    assert not [key for key in w.memory if key.startswith("flow:")]


def opened(world: Any) -> RunWorld:
    w: RunWorld = world(BREAKER.replace("[rate_limit, unavailable]", "budget"))
    for n in range(3):
        w.send({}, id_=f"m{n}")
        w.fail("grade", "tool_error")
    w.send({}, id_="m3")
    assert (w.heard()[3]["class"], w.heard()[3]["step"], w.asked) == ("unavailable", "circuit_breaker#1", [])
    return w


def test_one_message_tries_after_the_reset(world: Any) -> None:
    w = opened(world)
    w.pass_time(60)
    w.send({}, id_="m4")
    w.send({}, id_="m5")
    assert (w.asked, w.heard()[4]["class"]) == (["grade"], "unavailable")
    w.fail("grade", "tool_error")
    w.send({}, id_="m6")
    assert (w.asked, w.heard()[6]["class"]) == ([], "unavailable")
    w.pass_time(60)
    w.send({}, id_="m7")
    w.answer("grade", {"text": "well"})
    assert (w.heard()[7], w.memory) == ({"text": "well"}, {})
    w.send({}, id_="m8")
    w.send({}, id_="m9")
    assert w.asked == ["grade", "grade"]


def test_only_failures_within_the_window_count(world: Any) -> None:
    w = world(BREAKER.replace("[rate_limit, unavailable]", "budget"))
    for n in range(6):
        w.send({}, id_=f"m{n}")
        w.fail("grade", "tool_error")
        w.pass_time(16)
    assert {each["class"] for each in w.heard()} == {"tool_error"}
    w.pass_time(15)
    assert w.memory == {}


THROTTLE = """\
route: r
match: {type: asked}
steps:
- throttle: {rate: 2/s}
to: {reply: ok, data: {n: "{{ data.n }}"}}
"""


def test_a_throttled_route_goes_at_its_rate_in_the_order_of_arrival(world: Any) -> None:
    w = world(THROTTLE)
    homes = set()
    for n in range(10):
        w.send({"n": n}, id_=f"m{n}", conversationid=f"c{n % 3}")
        homes.add(w.decisions[-2].outputs[0].conversation)
    assert len(homes) == 1  # whatever the conversation, one partition
    seen = []
    for _ in range(10):
        seen.append([each["n"] for each in w.heard()])
        w.pass_time(0.5)
    assert seen == [list(range(n + 1)) for n in range(10)]
    assert w.memory == {}


def test_each_key_has_the_rate_and_who_would_come_too_late_takes_no_slot(world: Any) -> None:
    w = world(THROTTLE.replace("rate: 2/s", "rate: 1/m, by: data.key").replace("steps:", "deadline: 90s\nsteps:"))
    for n, key in enumerate("aabaaa"):
        w.send({"n": n, "key": key}, id_=f"m{n}")
    assert [each.get("n", each.get("class")) for each in w.heard()] == [0, 2, "timeout", "timeout", "timeout"]
    w.pass_time(60)
    w.send({"n": 6, "key": "a"}, id_="m6")
    w.pass_time(120)
    assert ([each["n"] for each in w.heard()[5:]], w.memory) == ([1, 6], {})


IDEMPOTENT = """\
route: r
match: {type: asked}
serial_by: data.account
steps:
- idempotent: {by: data.update, window: 1h}
- call: {capability: other, into: vars.x}
to: {reply: ok, data: {n: "{{ data.n }}"}}
"""


def test_what_comes_again_goes_no_further(world: Any) -> None:
    w = world(IDEMPOTENT)

    def come(n: int, account: str, update: str) -> str:
        w.send({"n": n, "account": account, "update": update}, id_=f"m{n}")
        if w.requests:
            w.answer("other", 1)
        return f"{w.decisions[-1].end} {w.decisions[-1].reason}".strip()

    assert [come(n, *each) for n, each in enumerate(["au", "av", "bu"])] == ["routed"] * 3
    assert (come(3, "a", "u"), come(4, "b", "u")) == ("filtered duplicate", "filtered duplicate")
    w.pass_time(3599)
    assert come(5, "a", "u") == "filtered duplicate"
    w.pass_time(1)
    assert w.memory == {}
    assert come(6, "a", "u") == "routed"


def test_what_has_failed_may_come_again(world: Any) -> None:
    w = world(IDEMPOTENT)
    for n in range(2):
        w.send({"n": n, "account": "a", "update": "u"}, id_=f"m{n}")
        w.fail("other", "unavailable")
    w.send({"n": 2, "account": "a", "update": "u"}, id_="m2")
    w.answer("other", 1)
    assert [each.get("class", each.get("n")) for each in w.heard()] == ["unavailable", "unavailable", 2]


def test_a_message_without_its_serial_key_fails(world: Any) -> None:
    w = world(IDEMPOTENT)
    w.send({"n": 1, "update": "u"})
    assert (w.heard()[0]["class"], w.asked, w.memory) == ("internal", [], {})
