"""Recorded conversations: what they say as a script, decided anew by the same and by other routes, and as a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from bus.audit.record import Record, decode, encode
from bus.config import load
from bus.core.actions import Output
from bus.core.message import Json
from bus.core.registry import STEPS
from bus.core.route import Schedule
from bus.core.table import RouteTable
from bus.rehearsal.recording import Entry, recording
from bus.rehearsal.replay import Replayed, replay
from bus.rehearsal.script import Advance, Do, Send, Stub
from bus.rehearsal.stage import Stage
from bus.rehearsal.stand_ins import StandIns
from bus.rehearsal.verdict import rehearse
from bus.rehearsal.writing import as_yaml
from tests.core.run_world import catalog
from tests.core.world import FACTS

PLAIN = """\
route: plain
match: {type: asked}
steps:
- wire_tap: {event: seen}
to: {capability: grade, data: {text: "{{ data.text }}"}}
---
route: notes
match: {type: grade.replied}
to: {event: item}
---
route: items
match: {type: item}
steps: [{filter: data.text != "quiet"}, {wire_tap: {event: seen}}]
to: {capability: other}
"""
GATHER = """\
route: gather
match: {type: asked}
serial_by: data.text
steps:
- scatter_gather:
    branches: {grade: {capability: grade}, other: {capability: other, timeout: 2s}}
    join: {policy: best_effort, deadline: 8s}
    into: vars.found
- call: {agent: third, timeout: 1s}
  on_error: [{class: refusal, then: continue}]
to: {reply: ok, data: {text: "{{ data.text }}", found: "{{ vars.found.missing }}"}}
"""
STUBS = {
    "grade": (Stub("reply", {"text": "fine"}, after_s=0.2), Stub("reply", {"text": "quiet"}, after_s=0.1)),
    "other": (Stub("reply", {"n": 1}, after_s=3.0), Stub("reply", {"n": 2}, after_s=1.0)),
    "third": (Stub("fail", failure="refusal"),),
}
SCRIPTS: list[tuple[Do, ...]] = [
    (Send("asked", {"text": "hi"}),),
    (Send("asked", {"text": "hi"}, conversation="c"), Advance(0.05), Send("asked", {"text": "yo"}, "desk", "c")),
    (Send("asked", {"text": "hi"}, "desk", "c", wait=False), Advance(20), Send("asked", {"text": "$any"}, "desk", "c")),
    (Send("asked", {"text": 7}),),
]


def record(table: RouteTable, script: tuple[Do, ...], stubs: Mapping[str, tuple[Stub, ...]] = STUBS) -> list[Entry]:
    """The log of a bus with these routes on which this happened."""
    stage = Stage(table, FACTS, StandIns(table.catalog.agents, stubs), 1_800_000_000.0)
    stage.play(script)
    return logged(stage)


def logged(stage: Stage) -> list[Entry]:
    """The log of a bus on which this happened."""
    entries: list[Entry] = []
    for seq, hop in enumerate(stage.hops, 1):
        at_s = stage.start_s + hop.at_s
        times: Any = {"received_s": at_s, "decided_s": at_s + 0.0004, "config": "abc"}
        line = encode(hop.decision, hop.delivery, seq=seq, partition=0, **times)
        entries.append(Entry(decode(line), hop.delivery.body, hop.decision.outputs))
    return entries


def anew(entries: list[Entry], table: RouteTable) -> Replayed:
    (found,) = replay([recording(entries)], table.catalog, FACTS)
    return found


@pytest.mark.parametrize("routes", [PLAIN, GATHER], ids=["plain", "memory"])
@pytest.mark.parametrize("script", SCRIPTS, ids=["one", "two", "nobody waits", "refused"])
def test_the_same_routes_decide_the_same(tmp_path: Path, routes: str, script: tuple[Do, ...]) -> None:
    table = catalog(tmp_path, routes)
    entries = record(table, script)
    found = anew(entries, table)
    assert [(each.what.key, each.lines) for each in found.differences] == []
    assert found.decisions == len([each for each in entries if each.record.end != "superseded"])


@pytest.mark.parametrize("routes", [PLAIN, GATHER], ids=["plain", "memory"])
@pytest.mark.parametrize("script", SCRIPTS, ids=["one", "two", "nobody waits", "refused"])
def test_a_recording_is_a_test_that_passes(tmp_path: Path, routes: str, script: tuple[Do, ...]) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "ear.yaml").write_text("agents: {ear: {adapter: external, subscribes: [item, seen]}}\n")
    table = catalog(tmp_path, routes)
    (tmp_path / "t" / "own.test.yaml").write_text(as_yaml(recording(record(table, script))))
    loaded = load([tmp_path / "t"], {}, STEPS, tests=True)
    assert [str(each) for each in loaded.findings] == []
    assert loaded.catalog is not None
    (test,) = loaded.tests
    assert len(test.expect) > 1
    assert [(each.expected, each.got, each.lines) for each in rehearse(test, loaded.catalog, FACTS).misses] == []


def test_conversations_that_wait_for_each_other_are_replayed_together(tmp_path: Path) -> None:
    table = catalog(tmp_path, GATHER)
    script: tuple[Do, ...] = (Send("asked", {"text": "hi"}), Advance(0.05), Send("asked", {"text": "hi"}))
    entries = record(table, script)
    apart: dict[str, list[Entry]] = {}
    for each in entries:
        apart.setdefault(each.record.conversation, []).append(each)
    assert len(apart) == 2
    recordings = [recording(each) for each in apart.values()]
    assert [each.same for each in replay(recordings, table.catalog, FACTS)] == [True, True]
    assert [each.same for one in recordings for each in replay([one], table.catalog, FACTS)] == [True, False]


def lines(found: Replayed) -> list[str]:
    return [f"{each.mark} {'  ' * each.depth}{each.text}" for one in found.differences for each in one.lines]


def test_a_changed_payload_is_told_field_by_field(tmp_path: Path) -> None:
    entries = record(catalog(tmp_path, PLAIN), SCRIPTS[0])
    changed = catalog(tmp_path / "new", PLAIN.replace('"{{ data.text }}"', '"{{ data.text }}!", n: 1'))
    (difference,) = anew(entries, changed).differences
    assert difference.what.key == ("asked", "cli", 1)
    assert lines(anew(entries, changed)) == [
        "  -> capability:grade  grade.requested",
        '-   text: "hi"',
        '+   text: "hi!"',
        "+   n: 1",
    ]


def test_other_ends_new_and_vanished_decisions(tmp_path: Path) -> None:
    entries = record(catalog(tmp_path, PLAIN), SCRIPTS[0])
    refusing = "route: plain\nmatch: {type: asked}\nsteps: [{fail: {class: refusal, reason: closed today}}]\n"
    found = anew(entries, catalog(tmp_path / "new", refusing))
    first, vanished = found.differences
    assert [each.text for each in first.lines][:2] == [
        "routed by t/plain",
        "dead_letter by t/plain (refusal, refusal: closed today)",
    ]
    assert (vanished.what.type, vanished.after) == ("grade.replied", None)


def test_an_agent_that_was_not_asked_has_no_answer_to_give(tmp_path: Path) -> None:
    entries = record(catalog(tmp_path, PLAIN), SCRIPTS[0])
    found = anew(entries, catalog(tmp_path / "new", PLAIN.replace("to: {capability: grade", "to: {capability: third")))
    assert found.unanswered == ("third",)
    assert not found.same


def test_a_longer_patience_gets_the_answer_that_came_too_late(tmp_path: Path) -> None:
    entries = record(catalog(tmp_path, GATHER), SCRIPTS[0])
    patient = catalog(tmp_path / "new", GATHER.replace("timeout: 2s", "timeout: 5s"))
    before, after = [each for each in lines(anew(entries, patient)) if "found" in each]
    assert before.endswith('"found": ["other"]}')
    assert after.endswith('"found": []}')


def test_answers_of_one_batch_come_in_the_order_of_the_log(tmp_path: Path) -> None:
    routes = GATHER.replace("serial_by: data.text\n", "")
    table = catalog(tmp_path, routes)
    entries = record(table, SCRIPTS[0], {**STUBS, "grade": (Stub("reply", {"text": "x"}, after_s=0.2),), "other": (
        Stub("reply", {"n": 1}, after_s=0.1),)})  # fmt: skip
    assert [each.record.type for each in entries[1:3]] == ["other.replied", "grade.replied"]
    batch_s = entries[2].record.received_s
    at_once = [replace(each, record=replace(each.record, received_s=batch_s)) for each in entries[1:3]]
    assert anew([entries[0], *at_once, *entries[3:]], table).same


def test_repeats_hops_and_questions_are_left_out(tmp_path: Path) -> None:
    table = catalog(tmp_path, PLAIN)
    entries = record(table, SCRIPTS[0])
    first = entries[0].record

    def like(end: str = "routed", why: str = "", type_: str = "asked") -> Record:
        return replace(first, end=end, why=why, type=type_, outputs=())

    noise = [like("duplicate"), like("superseded"), like(why="re-keyed"), like(type_="bus.task.claim"), like("woken")]
    noisy = [*(Entry(each, entries[0].body, ()) for each in noise), *entries]
    assert len(recording(noisy).arrived) == 1
    assert anew(noisy, table).same


def test_what_only_the_bus_may_set_is_not_sent_again(tmp_path: Path) -> None:
    first, *_ = record(catalog(tmp_path, PLAIN), SCRIPTS[0])
    event = orjson.loads(first.body)
    event |= {
        "replyto": "agent:x!q!!seal",
        "correlationid": "t",
        "causationid": "t",
        "fence": 1,
        "attempt": 2,
        "homekey": "h",
    }
    (arrived,) = recording([Entry(first.record, orjson.dumps(event), first.outputs)]).arrived
    assert arrived.message.attributes.keys() == {"specversion", "id", "source", "type", "conversationid"}


def test_when_runs_were_told_something_makes_no_difference(tmp_path: Path) -> None:
    table = catalog(tmp_path, GATHER)
    entries = record(table, SCRIPTS[0])

    def later(output: Output) -> Output:
        return output._replace(body=output.body.replace(b'"at":18', b'"at":19'))

    told = [replace(each, outputs=tuple(map(later, each.outputs))) for each in entries]
    assert told != entries
    assert anew(told, table).same


def test_what_a_schedule_sent_is_replayed_from_where_it_came_round(tmp_path: Path) -> None:
    table = catalog(tmp_path, PLAIN)
    stage = Stage(table, FACTS, StandIns(table.catalog.agents, STUBS), 1_800_000_000.0)
    stage.schedules = (Schedule("t/hourly", "0 * * * *", "UTC", "asked", {"text": "hi"}),)
    stage.advance(3600)
    stage.rest()
    entries = logged(stage)
    assert entries[0].record.why.startswith("schedule t/hourly")
    (arrived,) = recording(entries).arrived
    assert (arrived.message.source, arrived.message.data) == ("bus", {"text": "hi"})
    found = anew(entries, table)
    assert (found.same, found.decisions) == (True, len(entries) - 1)


def test_data_that_looks_like_a_matcher_is_written_as_data(tmp_path: Path) -> None:
    entries = record(catalog(tmp_path, PLAIN), (Send("asked", {"text": "$any", "$has": 1}),))
    assert '{"$exactly": "$any"}' in as_yaml(recording(entries))


def test_a_binary_event_has_its_attributes_from_the_record(tmp_path: Path) -> None:
    table = catalog(tmp_path, PLAIN)
    first, *rest = record(table, SCRIPTS[0])
    data: Json = orjson.loads(first.body)["data"]
    binary = Entry(first.record, orjson.dumps(data), first.outputs)
    (arrived,) = recording([binary, *rest]).arrived
    assert (arrived.message.type, arrived.message.data) == ("asked", {"text": "hi"})
    assert anew([binary, *rest], table).same
