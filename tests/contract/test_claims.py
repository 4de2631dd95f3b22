"""A claim is decided from what the store says of its task's answer, before and after a restart, in every store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.core.actions import Delivery
from bus.core.message import TASK_CLAIM, Json
from bus.core.route import Agent, Capability, Catalog, MessageType
from bus.core.table import RouteTable
from bus.core.work import Target
from bus.ports import Commit, Received, Store, Tag
from bus.shell.judge import Judge
from bus.shell.judged import Judged
from tests.contract.stores import KINDS, Bench, make
from tests.core.world import ANYTHING, FACTS, TEXT, catalog, flow, opened, route, structured, to_capability

CATALOG = catalog(route("grade", "asked", flow(to=(to_capability("grade"),))))


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = make(request.param, tmp_path)
    yield made
    made.close()


class Desk:
    """A judge with one partition, whose batches are committed when asked."""

    def __init__(self, store: Store, made: Catalog = CATALOG) -> None:
        facts = replace(FACTS, seal=store.secret)
        self.now_s = FACTS.now_s
        self.ends: list[str] = []
        self._store = store
        self._judge = Judge(store, RouteTable(made), facts, "ns", 1000, lambda: self.now_s)
        claims = store.claim(1)
        self._judge.claimed(claims, store.keys(1000))
        for row in claims[0].held:
            self._judge.leases.load(row, store.entry(0, row.seq).outputs[row.index])

    def decide(self, *deliveries: Delivery) -> list[list[dict[str, Any]]]:
        """Decide and commit a batch; returns what each has caused."""
        return self._commit(
            self._judge.judge([Received(Tag(1, number), each) for number, each in enumerate(deliveries, 1)])
        )

    def lapse(self) -> list[list[dict[str, Any]]]:
        """Record what has run out; returns what each has caused."""
        judged = Judged()
        self._judge.lapse(judged)
        return self._commit(judged)

    def _commit(self, judged: Judged) -> list[list[dict[str, Any]]]:
        hold, release = self._judge.leases.changes()
        self._store.commit(Commit(judged.entries, hold=list(hold), release=list(release)))
        self._judge.committed(judged.keys)
        self.ends = [decision.end for decision in judged.decisions]
        return [[opened(output) for output in decision.outputs] for decision in judged.decisions]

    def verdict(self, task: dict[str, Any], id_: str, **more: Any) -> str:
        ((said,),) = self.decide(claim(task, id_, **more))
        return str(said["data"]["verdict"])


def claim(task: dict[str, Any], id_: str, lease: bool = False, **more: Any) -> Delivery:
    data: dict[str, Json] = {"capability": "grade", "lease": lease}
    return structured(TASK_CLAIM, data, source="grader", id_=id_, **{**named(task), **more})


def named(task: dict[str, Any]) -> dict[str, Any]:
    return {"correlationid": task["id"], "replyto": task["replyto"], "conversationid": task["conversationid"]}


def test_a_task_is_to_be_done_until_its_answer_is_recorded(bench: Bench) -> None:
    desk = Desk(bench.store)
    asked = [structured("asked", {}, replyto="agent:desk", conversationid="c", id_=id_) for id_ in ("m1", "m2", "m3")]
    ((first,), (second,), (third,)) = desk.decide(*asked)
    assert desk.verdict(first, "k1") == "go"
    answer = structured("grade.replied", {"text": "a"}, source="grader", id_="r1", **named(first))
    refused = structured("grade.replied", {"text": "a"}, source="other", id_="r2", **named(second))
    failed = structured("grade.failed", {"class": "timeout"}, source="grader", id_="r3", **named(third))
    *_, (same_batch,) = desk.decide(answer, refused, failed, claim(first, "k2"))
    assert same_batch["data"] == {"task": first["id"], "verdict": "answered"}
    for round_ in range(2):
        assert [desk.verdict(task, f"k{round_}{task['id']}") for task in (first, second, third)] == [
            "answered", "go", "answered",
        ]  # fmt: skip
        desk = Desk(bench.restart())
    assert desk.decide(claim(first, "k1")) == [[]]  # the same question twice is a duplicate, as of any message


GROUP = replace(
    CATALOG,
    agents={
        **CATALOG.agents,
        **{name: Agent(name, "sdk", ("grade",), publishes=("noted",)) for name in ("grader", "grader2")},
    },
    types={"noted": MessageType("noted", None, unrouted=True)},
)


def test_what_a_handler_publishes_is_taken_once_whoever_publishes_it_and_not_after_the_answer(bench: Bench) -> None:
    desk = Desk(bench.store, GROUP)
    ((task,),) = desk.decide(structured("asked", {}, replyto="agent:desk", conversationid="c"))

    def noted(source: str, id_: str, **more: Any) -> Delivery:
        return structured("noted", {"by": source}, source=source, id_=id_, **{**named(task), **more})

    desk.decide(noted("grader", "s1", replyto="agent:desk!m1!!00"), noted("other", "s1"))
    assert desk.ends == ["invalid", "invalid"]  # and have not taken its place
    desk.decide(noted("grader", "s1"), noted("grader2", "s1"), noted("grader", "s1"), noted("grader", "s2"))
    assert desk.ends == ["filtered", "superseded", "duplicate", "filtered"]
    desk.decide(structured("grade.replied", {"text": "a"}, source="grader2", id_="r1", **named(task)))
    desk = Desk(bench.restart(), GROUP)
    desk.decide(noted("grader", "s3"), noted("grader", "s2"), noted("grader", "s2", redrive=1))
    assert desk.ends == ["superseded", "duplicate", "invalid"]  # only the bus redrives
    redriven = noted("grader", "s4", redrive=1)._replace(user_id=FACTS.bus_user)
    desk.decide(redriven, redriven)
    assert desk.ends == ["filtered", "duplicate"]


LONG = replace(
    catalog(route("grade", "asked", flow(to=(Target("capability", "grade", "grade.requested", lease_s=60),)))),
    capabilities={"grade": Capability("grade", ANYTHING, TEXT, lease_s=60)},
)


def test_a_lease_lives_in_the_store_from_its_request_to_the_answer(bench: Bench) -> None:
    desk = Desk(bench.store, LONG)
    ((first, _), (second, _)) = desk.decide(
        structured("asked", {}, replyto="agent:desk", conversationid="c", id_="m1"),
        structured("asked", {}, replyto="agent:desk", conversationid="c", id_="m2"),
    )
    desk.decide(claim(first, "k1", lease=True), claim(second, "k2", lease=True))
    desk = Desk(bench.restart(), LONG)
    desk.decide(structured("grade.replied", {"text": "a"}, source="grader", id_="r1", **named(first)))
    desk.now_s += 30
    assert desk.lapse() == []
    desk.now_s += 31
    (lapsed,) = desk.lapse()
    again, lease = lapsed
    assert (again["id"], again["fence"], lease["fence"]) == (second["id"], 1, 1)
    assert desk.verdict(second, "k3") == "answered"  # its try is over
    desk = Desk(bench.restart(), LONG)
    assert desk.verdict(again, "k4", fence=1) == "go"
    desk.decide(structured("grade.replied", {"text": "b"}, source="grader", id_="r2", fence=1, **named(again)))
    assert [claim.held for claim in bench.restart().claim(1)] == [[]]
