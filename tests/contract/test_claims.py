"""A claim is decided from what the store says of its task's answer, before and after a restart, in every store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.core.actions import Delivery
from bus.core.message import TASK_CLAIM
from bus.core.table import RouteTable
from bus.ports import Commit, Received, Store, Tag
from bus.shell.judge import Judge
from tests.contract.stores import KINDS, Bench, make
from tests.core.world import FACTS, catalog, flow, opened, route, structured, to_capability

CATALOG = catalog(route("grade", "asked", flow(to=(to_capability("grade"),))))


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = make(request.param, tmp_path)
    yield made
    made.close()


class Desk:
    """A judge with one partition, whose batches are committed when asked."""

    def __init__(self, store: Store) -> None:
        facts = replace(FACTS, seal=store.secret)
        self._store = store
        self._judge = Judge(store, RouteTable(CATALOG), facts, "ns", 1000, lambda: FACTS.now_s)
        self._judge.claimed(store.claim(1), store.keys(1000))

    def decide(self, *deliveries: Delivery) -> list[list[dict[str, Any]]]:
        """Decide and commit a batch; returns what each has caused."""
        judged = self._judge.judge([Received(Tag(1, number), each) for number, each in enumerate(deliveries, 1)])
        self._store.commit(Commit(judged.entries))
        self._judge.committed(judged.keys)
        return [[opened(output) for output in decision.outputs] for decision in judged.decisions]

    def verdict(self, task: dict[str, Any], id_: str, **more: Any) -> str:
        ((said,),) = self.decide(claim(task, id_, **more))
        return str(said["data"]["verdict"])


def claim(task: dict[str, Any], id_: str, **more: Any) -> Delivery:
    return structured(TASK_CLAIM, {"capability": "grade"}, source="grader", id_=id_, **{**named(task), **more})


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
