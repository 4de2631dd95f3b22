"""Routes with memory on the stage: the clock jumps from one due time to the next, and no test waits for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.config import load
from bus.core.registry import STEPS
from bus.rehearsal.coverage import Coverage
from bus.rehearsal.verdict import Outcome, rehearse
from tests.core.run_world import catalog
from tests.core.world import FACTS

GATHER = """\
route: gather
match: {type: asked}
steps:
- scatter_gather:
    branches:
      grade: {capability: grade, data: {text: "{{ data.text }}"}}
      other: {capability: other}
    join: {policy: best_effort, require: [grade], deadline: 8s}
    into: vars.found
to: {reply: ok, data: {found: "{{ vars.found }}"}}
"""
CALL = """\
route: ask
match: {type: asked}
steps:
- call: {capability: grade, timeout: 10s, into: vars.grade}
  on_error:
  - {class: rate_limit, retry: {attempts: 3, initial: 4s, jitter: 0}, then: dead_letter}
  - {class: timeout, then: {steps: [{call: {capability: other, into: vars.grade}}]}}
to: {reply: ok, data: "{{ vars.grade }}"}
"""
SEND = "do: [{send: {type: asked, data: {text: hi}}}]"


class Desk:
    """One integration with three capabilities, and tests of one's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coverage = Coverage()

    def run(self, routes: str, *tests: str) -> list[Outcome]:
        catalog(self.folder, routes)
        return self.rerun(*tests)

    def rerun(self, *tests: str) -> list[Outcome]:
        """Run with the folder as it is."""
        blocks = ["\n  ".join([f"- test: number {n}", *each.strip().splitlines()]) for n, each in enumerate(tests)]
        (self.folder / "t" / "own.test.yaml").write_text("tests:\n" + "\n".join(blocks) + "\n")
        loaded = load([self.folder / "t"], {}, STEPS, tests=True, coverage=self.coverage)
        assert [str(each) for each in loaded.findings] == []
        assert loaded.catalog is not None
        return [rehearse(each, loaded.catalog, FACTS, self.coverage.where) for each in loaded.tests]

    def check(self, routes: str, *tests: str) -> None:
        for each in self.run(routes, *tests):
            assert [(miss.expected, miss.got, miss.because, miss.lines) for miss in each.misses] == []

    def missed(self) -> list[str]:
        return [each.what for each in self.coverage.missed(["t"])]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_slow_specialist_is_left_out_at_the_deadline(desk: Desk) -> None:
    desk.check(
        GATHER,
        f"""
agents: {{grade: {{reply: {{text: fine}}, after: 1s}}, other: {{never: true}}}}
{SEND}
expect:
- {{sent: {{capability: grade}}, at: 0s, data: {{text: hi}}}}
- reply: ok
  at: 8s
  data: {{found: {{missing: [other], completeness: {{$near: [0.5, 0.01]}}, results: {{grade: {{text: fine}}}}}}}}
- {{calls: {{grade: 1, other: 1}}}}
""",
    )
    assert desk.missed() == ["scatter_gather#1 never joins all of them", "scatter_gather#1 never fails to join"]


def test_the_outcomes_of_a_join_are_branches(desk: Desk) -> None:
    desk.check(
        GATHER,
        f"agents: {{grade: {{reply: {{text: a}}}}, other: {{reply: {{}}}}}}\n{SEND}\nexpect: [{{reply: ok, at: 0s}}]",
        f"agents: {{grade: {{never: true}}, other: {{reply: {{}}}}}}\n{SEND}\nexpect: [{{reply: error, at: 8s}}]",
        f"agents: {{grade: {{reply: {{text: a}}}}, other: {{fail: refusal}}}}\n{SEND}\nexpect: [{{reply: ok}}]",
    )
    assert desk.missed() == []


def test_attempts_and_pauses_take_no_time(desk: Desk) -> None:
    desk.check(
        CALL,
        f"""
agents: {{grade: [{{fail: rate_limit, after: 1s}}, {{fail: rate_limit}}, {{reply: {{text: third}}}}]}}
{SEND}
expect:
- {{sent: {{capability: grade}}, at: 0s}}
- {{sent: {{capability: grade}}, at: 5s}}
- {{sent: {{capability: grade}}, at: 13s}}
- {{reply: ok, at: 13s, data: {{text: third}}}}
""",
    )


def test_a_late_answer_is_recorded_and_changes_nothing(desk: Desk) -> None:
    desk.check(
        CALL,
        f"""
agents: {{grade: {{reply: {{text: late}}, after: 11s}}, other: {{reply: {{text: instead}}}}}}
{SEND}
order: exact
expect:
- {{sent: {{capability: grade}}}}
- {{sent: {{capability: other}}, at: 10s}}
- {{reply: ok, at: 10s, data: {{text: instead}}}}
- {{channel: dead, at: 11s}}
""",
    )


def test_messages_of_one_key_go_one_after_the_other_and_those_of_another_pass(desk: Desk) -> None:
    serial = CALL.replace("match: {type: asked}", "match: {type: asked}\nserial_by: data.account")
    send = "{{send: {{type: asked, data: {{account: {}, text: {}}}}}}}"
    desk.check(
        serial,
        f"""
agents: {{grade: {{reply: {{text: x}}, after: 3s}}}}
do: [{send.format("a", 1)}, {send.format("a", 2)}, {send.format("b", 3)}]
order: exact
expect:
- {{sent: {{capability: grade}}, at: 0s, data: {{text: 1}}}}
- {{sent: {{capability: grade}}, at: 0s, data: {{text: 3}}}}
- {{reply: ok, at: 3s}}
- {{reply: ok, at: 3s}}
- {{sent: {{capability: grade}}, at: 3s, data: {{text: 2}}}}
- {{reply: ok, at: 6s}}
""",
    )


def test_controls_agents_and_labels(desk: Desk) -> None:
    routes = """\
route: ask
match: {type: asked, labels: [personal]}
steps:
- detour: {control: careful, steps: [{call: {agent: other}}]}
to: {agent: grader}
"""
    send = "do: [{send: {type: asked, labels: [personal], data: {}}}]"
    both = "agents: {other: {reply: {}}, grader: {reply: {text: x}}}"
    desk.check(
        routes,
        f"""
{both}
controls: {{careful: true}}
{send}
expect: [{{sent: {{agent: grader}}}}, {{sent: {{capability: other}}}}, {{calls: {{other: 1, grade: 1, grader: 1}}}}]
""",
        f"{both}\n{send}\nexpect: [{{sent: {{capability: grade}}}}, {{never: {{capability: other}}}}]",
    )


def test_configuration_of_one_test_reaches_fragments_and_no_other_test(desk: Desk) -> None:
    catalog(desk.folder, "route: ask\nmatch: {type: asked}\nto: {reply: ok}\n")
    with (desk.folder / "t" / "integration.yaml").open("a") as file:
        file.write("config: {limit: {type: integer, default: 5}}\n")
    (desk.folder / "t" / "routes.yaml").write_text("""\
fragment: sized
steps:
- filter: data.n > config.limit
---
route: ask
match: {type: asked}
steps: [{use: {fragment: sized}}]
to: {reply: ok, data: {limit: "{{ config.limit }}"}}
""")
    send = "do: [{send: {type: asked, data: {n: 3}}}]"
    outcomes = desk.rerun(
        f"config: {{limit: 2}}\n{send}\nexpect: [{{reply: ok, data: {{limit: 2}}}}]",
        f"{send}\nexpect: [{{channel: filtered}}, {{never: {{reply: ok}}}}]",
    )
    assert [(each.expected, each.got, each.lines) for one in outcomes for each in one.misses] == []


def test_a_step_whose_id_a_fragment_has_too_is_told_by_its_route(desk: Desk) -> None:
    routes = """\
fragment: checked
steps: [{filter: data.n > 1}]
---
route: ask
match: {type: asked}
steps:
- use: {fragment: checked}
- filter: data.missing > 1
to: {reply: ok}
"""
    (outcome,) = desk.run(routes, "do: [{send: {type: asked, data: {n: 3}}}]\nexpect: [{reply: ok}]")
    (miss,) = outcome.misses
    assert f"step filter#1 ({desk.folder}/t/routes.yaml:4) failed" in miss.because


def test_schedules_that_are_named_send_while_time_passes(desk: Desk) -> None:
    catalog(desk.folder, "route: daily\nmatch: {type: asked}\nto: {capability: grade}\n")
    nightly = '{cron: "0 6 * * MON-FRI", zone: Europe/Berlin, type: asked, data: {text: night}}'
    with (desk.folder / "t" / "integration.yaml").open("a") as file:
        file.write(f"schedules: {{nightly: {nightly}, hourly: {{cron: '0 * * * *', type: item}}}}\n")
    outcomes = desk.rerun(
        """
schedules: [nightly]
start_time: 2026-03-27T03:00:00Z        # a Friday; Berlin's clock goes forward on Sunday
agents: {grade: {never: true}}
do: [{advance: 4d}]
order: exact
expect:
- {sent: {event: asked}, at: 2h, data: {text: night}}
- {sent: {capability: grade}, at: 2h}
- {sent: {event: asked}, at: 73h}
- {sent: {capability: grade}, at: 73h}
""",
        "do: [{advance: 4d}]\nexpect: [{never: {event: asked}}]",
    )
    assert [(each.expected, each.got, each.lines) for one in outcomes for each in one.misses] == []


def test_messages_are_collected_while_time_passes_and_at_the_deadline(desk: Desk) -> None:
    routes = """\
route: batch
match: {type: asked}
serial_by: data.order
steps:
- aggregate: {by: data.order, complete: {count: "2"}, join: {deadline: 10s, on_deadline: partial}, into: vars.all}
to: {event: seen, data: {ids: "{{ vars.all.results.map(each, each.id) }}"}}
"""
    send = "{{send: {{type: asked, conversation: {order}, data: {{order: {order}, id: {id}}}}}}}"
    one, two, three = (send.format(order="o", id=name) for name in "abc")
    desk.check(
        routes,
        f"""
do: [{one}, {{advance: 4s}}, {two}, {{advance: 2s}}, {three}]
order: exact
expect:
- {{channel: consumed, at: 4s, data: {{id: b}}}}
- {{sent: {{event: seen}}, at: 4s, data: {{ids: [a, b]}}}}
- {{sent: {{event: seen}}, at: 16s, data: {{ids: [c]}}}}
""",
    )
    assert desk.missed() == []


def test_what_a_run_still_waits_for_is_why_nothing_came(desk: Desk) -> None:
    forever = CALL.replace(", timeout: 10s", "")
    (outcome,) = desk.run(forever, f"agents: {{grade: {{never: true}}}}\n{SEND}\nexpect: [{{reply: ok}}]")
    (miss,) = outcome.misses
    assert miss.because == "route t/ask still waits for call#1 (`grade`)"


def test_what_a_claim_check_leaves_behind_is_there_to_be_fetched(desk: Desk) -> None:
    routes = """\
route: keep
match: {type: asked}
steps:
- claim_check: {store: data.text, over: 10B}
to: {event: item}
---
route: take
match: {type: item}
steps:
- claim_check: {fetch: data.text}
to: {capability: grade}
"""
    desk.check(
        routes,
        """
agents: {grade: {never: true}}
do: [{send: {type: asked, data: {text: a long text that stays behind}}}]
expect:
- {sent: {event: item}, data: {text: {$type: object, $cel: 'value["$blob"].startsWith("sha256:")'}}}
- {sent: {capability: grade}, data: {text: a long text that stays behind}}
""",
    )


def test_the_way_to_the_partition_of_a_key_is_no_reason(desk: Desk) -> None:
    routes = "route: r\nmatch: {type: asked}\nserial_by: data.a\nsteps: [{filter: data.n > 1}]\nto: {reply: ok}\n"
    (outcome,) = desk.run(routes, "do: [{send: {type: asked, data: {a: 1, n: 0}}}]\nexpect: [{reply: ok}]")
    (miss,) = outcome.misses
    assert miss.because == "filter: data.n > 1 is false"


def test_conditions_and_handlers_of_routes_with_memory_are_branches(desk: Desk) -> None:
    desk.check(CALL, f"agents: {{grade: {{reply: {{text: x}}}}}}\n{SEND}\nexpect: [{{reply: ok}}]")
    assert desk.missed() == ["never handles an error", "never taken", "call#2 never ran"]
