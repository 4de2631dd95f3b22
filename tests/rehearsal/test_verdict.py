"""Whole tests on the stage: what is sent, when, what stands in, and what is said when it is not as expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bus.config import load
from bus.core.registry import STEPS
from bus.core.route import Catalog
from bus.rehearsal.coverage import Coverage
from bus.rehearsal.verdict import Outcome, rehearse
from tests.config.corpus_cases import lay_out
from tests.core.world import FACTS

ORDER = '{id: "1", text: hello, amount: 5.0, count: 1, lines: []}'
SENT = f"do: [{{send: {{type: order.placed, source: clerk, data: {ORDER}}}}}]"
VIP = SENT.replace("amount: 5.0", "amount: 200.0, vip: true")
LINES = SENT.replace("lines: []", "lines: [order.refused]")


class Shop:
    """The sound integration of the corpus, with tests of one's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.coverage = Coverage()

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def run(self, *tests: str) -> list[Outcome]:
        """Each test is the YAML under `- test: NAME`."""
        blocks = ["\n  ".join([f"- test: number {n}", *each.strip().splitlines()]) for n, each in enumerate(tests)]
        self.write("own.test.yaml", "tests:\n" + "\n".join(blocks) + "\n")
        loaded = load([self.root], {}, STEPS, tests=True, coverage=self.coverage)
        assert [str(each) for each in loaded.findings] == []
        assert isinstance(loaded.catalog, Catalog)
        return [rehearse(each, loaded.catalog, FACTS, self.coverage.where) for each in loaded.tests]

    def misses(self, test: str) -> list[str]:
        (outcome,) = self.run(test)
        return [f"{each.expected} | {each.got} | {each.because}" for each in outcome.misses]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(lay_out("", tmp_path))


def test_what_is_expected_is_seen(shop: Shop) -> None:
    reply = "agents: {check: {reply: {text: fine}, after: 90s}}"
    (outcome,) = shop.run(
        f"""
{reply.replace("90s", "20s")}
config: {{desk: back}}
{LINES}
expect:
- {{sent: {{capability: check}}, at: 0s, data: {{text: "for back: hello"}}}}
- {{sent: {{event: order.refused}}, data: {{why: {{$match: ^for back}}}}}}
- {{sent: {{event: mail.out}}}}
- {{reply: ok, at: 20s, data: {{text: fine}}}}
- {{never: {{event: order.accepted}}}}
- {{calls: {{check: 1, checker: 1}}}}
"""
    )
    assert outcome.misses == ()
    assert outcome.took_s == pytest.approx(20.0)


def test_an_answer_after_the_deadline_is_expired_at_its_time(shop: Shop) -> None:
    (outcome,) = shop.run(
        f"""
agents: {{check: {{reply: {{text: late}}, after: 31s}}}}
{LINES}
expect:
- {{channel: dead, at: 31s, error: {{class: expired}}, reason: {{$has: its deadline}}}}
- {{reply: error, at: 31s}}
"""
    )
    assert outcome.misses == ()


def test_answers_come_call_by_call_and_the_last_repeats(shop: Shop) -> None:
    send = f"{{send: {{type: order.placed, source: clerk, data: {ORDER.replace('[]', '[order.refused]')}}}}}"
    (outcome,) = shop.run(
        f"""
agents: {{check: [{{fail: refusal, reason: not today}}, {{reply: {{text: yes}}}}]}}
do: [{send}, {{advance: 1h}}, {send}, {{advance: 1h}}, {send}]
order: exact
expect:
{
            "".join(
                f'''
- {{sent: {{event: order.placed}}, at: {n}h}}
- {{sent: {{event: mail.out}}}}
- {{sent: {{event: order.refused}}}}
- {{sent: {{capability: check}}, at: {n}h}}
- {{reply: {word}}}'''
                for n, word in enumerate(["error", "ok", "ok"])
            )
        }
"""
    )
    assert [(each.expected, each.got, each.lines) for each in outcome.misses] == []


def test_an_unstubbed_call_fails_the_test_and_says_what_to_write(shop: Shop) -> None:
    (miss,) = shop.misses(f"{LINES}\nexpect: [{{sent: {{capability: check}}}}]")
    assert "write `agents: {check: {reply: ...}}`" in miss


def test_a_failed_step_is_told_with_its_error(shop: Shop) -> None:
    sent = SENT.replace("lines: []", "lines: [order.lost]")
    (miss,) = shop.misses(f"{sent}\nexpect: [{{reply: ok}}]")
    assert miss.startswith("answered reply:ok | no reply:ok; seen: ")
    assert "channel:dead, reply:error" in miss
    assert f"| step recipient_list#1 ({shop.root}/sound.yaml:16) failed" in miss
    assert miss.endswith("failed (refusal): recipient `order.lost` is not in `allow`: order.refused")


def test_a_refused_message_is_told_field_by_field(shop: Shop) -> None:
    sent = SENT.replace("count: 1, ", "")
    (miss,) = shop.misses(f"{sent}\nexpect: [{{reply: ok}}]")
    assert miss.endswith("`order.placed` failed (contract): breaks order.v1: /count expected integer, got nothing")


def test_the_nearest_message_is_the_one_compared(shop: Shop) -> None:
    twice = f"{SENT[:-1]}, {VIP.removeprefix('do: [')}"
    (outcome,) = shop.run(f'{twice}\nexpect: [{{sent: {{event: order.placed}}, data: {{amount: 200.0, id: "2"}}}}]')
    (miss,) = outcome.misses
    assert "the nearest of 2" in miss.got
    assert [f"{each.mark}{each.text}" for each in miss.lines if each.mark != " "] == ['-id: "2"', '+id: "1"']
    assert miss.hop == 1


def test_each_expectation_wants_a_message_of_its_own(shop: Shop) -> None:
    (miss,) = shop.misses(f"{VIP}\nexpect: [{{sent: {{event: order.accepted}}}}, {{sent: {{event: order.accepted}}}}]")
    assert "there is none left" in miss


def test_expectations_share_messages_out_so_that_as_many_as_possible_are_met(shop: Shop) -> None:
    two = f"{SENT[:-1]}, {VIP.removeprefix('do: [')}"
    (outcome,) = shop.run(
        f"{two}\nexpect: [{{sent: {{event: order.placed}}}}, {{sent: {{event: order.placed}}, data: {{amount: 5.0}}}}]"
    )
    assert outcome.misses == ()


def test_an_event_that_comes_round_and_has_subscribers_is_one(shop: Shop) -> None:
    shop.write("round.yaml", "route: round\nmatch: {type: mail.in}\nto: {event: order.changed}\n---\nroute: changed\n"
               "match: {type: order.changed}\nto: {event: mail.out}\n")  # fmt: skip
    (outcome,) = shop.run(
        f"""
do: [{{send: {{type: mail.in, source: clerk, data: {ORDER}}}}}]
order: exact
expect: [{{sent: {{event: mail.in}}}}, {{sent: {{event: order.changed}}}}, {{sent: {{event: mail.out}}}}]
"""
    )
    assert [(each.expected, each.lines) for each in outcome.misses] == []


def test_the_wrong_time_is_a_difference(shop: Shop) -> None:
    (outcome,) = shop.run(f"{VIP}\nexpect: [{{sent: {{event: order.accepted}}, at: 10ms}}]")
    (miss,) = outcome.misses
    assert [f"{each.mark} {each.text}" for each in miss.lines] == ["- at: 10ms", "+ at: 0s"]


def test_what_must_never_happen_and_numbers_of_calls(shop: Shop) -> None:
    never, calls = shop.misses(f"{VIP}\nexpect: [{{never: {{event: order.accepted}}}}, {{calls: {{check: 1}}}}]")
    assert never.startswith("never sent event:order.accepted | sent event:order.accepted at 0s: {")
    assert calls == "calls: check 1 | check was asked never | "


def test_exact_order_is_told_as_two_lists(shop: Shop) -> None:
    (outcome,) = shop.run(f"{VIP}\norder: exact\nexpect: [{{sent: {{event: order.accepted}}}}]")
    (miss,) = outcome.misses
    assert [f"{each.mark} {each.text}" for each in miss.lines] == [
        "- 1. event:order.accepted",
        "+ 1. event:order.placed",
        "+ 2. event:order.accepted",
    ]


def test_a_loop_of_routes_ends(shop: Shop) -> None:
    shop.write("loop.yaml", "route: loop\nmatch: {type: mail.in}\nto: [{event: mail.in}, {event: mail.in}]\n")
    looping = load([shop.root], {}, STEPS).findings
    assert not [each for each in looping if each.severity == "error"], looping
    (outcome,) = shop.run("do: [{send: {type: mail.in, source: clerk}}]\nexpect: [{reply: ok}]")
    assert any("does not come to rest" in each.got or "hops" in each.because for each in outcome.misses)


# --- coverage -----------------------------------------------------------------------------------------------------


def missed(shop: Shop) -> list[str]:
    return [f"{each.place.line} {each.what}" for each in shop.coverage.missed(["shop"])]


def test_what_no_test_reaches_is_listed_with_its_line(shop: Shop) -> None:
    shop.run(f"{VIP}\nexpect: [{{sent: {{event: order.accepted}}}}]")
    found = missed(shop)
    assert "10 choose#1 never ran" not in found
    assert [each for each in found if "filter#1" in each or "`filter`" in each] == [
        "14 filter#1 never ran", "14 `filter` is never true", "14 `filter` is never false",
        "15 filter#1 `when` is never true", "15 filter#1 `when` is never false",
    ]  # fmt: skip
    assert "13 tap never ran" in found
    assert "2 `when` is never false" in found


def test_a_choice_that_nothing_fits_is_a_branch(shop: Shop) -> None:
    route = (
        "route: fall\nmatch: {type: mail.in}\nsteps:\n- choose: {cases: [{when: data.n > 1, to: {event: mail.out}}]}\n"
    )
    shop.write("fall.yaml", route)
    one: dict[str, Any] = {"n": 2}
    test = "do: [{{send: {{type: mail.in, source: clerk, data: {data}}}}}]\nexpect: [{{never: {{channel: dead}}}}]"
    shop.run(test.format(data=one))
    assert "4 choose#1 never falls through, with no case that fits" in missed(shop)
    shop.run(test.format(data={"n": 0}))
    assert [each for each in missed(shop) if each.startswith("4 ")] == []


def test_without_a_coverage_the_catalog_is_as_compiled(shop: Shop) -> None:
    loaded = load([shop.root], {}, STEPS)
    assert loaded.catalog is not None
    (route,) = loaded.catalog.routes
    assert [each.kind for each in route.flow.steps] == ["set", "render", "choose", "filter", "recipient_list"]
