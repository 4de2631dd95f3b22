"""Claim checks through the whole worker: what is left behind is kept before anything refers to it, and is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from bus.core.blobs import name_of
from bus.core.errors import BlobsDown
from bus.shell.blobs.folder import FolderBlobs
from tests.core.run_world import catalog
from tests.shell.test_worker import World

ROUTES = """\
route: leave
match: {type: asked}
steps:
- claim_check: {store: data.text, over: 10B}
to: {event: item, data: {text: "{{ data.text }}"}}
---
route: take
match: {type: item}
steps:
- claim_check: {fetch: data.text}
to: {event: seen, data: {text: "{{ data.text }}"}}
---
route: long
match: {type: asked, when: has(data.long)}
on_error: [{class: unavailable, retry: {attempts: 3, initial: 1m, jitter: 0}, then: dead_letter}]
steps:
- claim_check: {store: data, over: 10B}
- delay: {for: 1m}
to: {event: seen}
---
agents:
  watcher: {adapter: external, subscribes: [seen]}
"""
TEXT = "twenty characters or so"
BODY = orjson.dumps(TEXT)


class Flaky(FolderBlobs):
    """A blob store that can be down, and tells what is asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.down = False
        self.puts: list[str] = []

    def put(self, name: str, body: bytes) -> None:
        if self.down:
            raise BlobsDown("it is down")
        self.puts.append(name)
        super().put(name, body)

    def get(self, name: str) -> bytes | None:
        if self.down:
            raise BlobsDown("it is down")
        return super().get(name)


class Checked(World):
    def __init__(self, folder: Path) -> None:
        super().__init__(made=catalog(folder, ROUTES).catalog)
        self.flaky = Flaky(folder / "blobs")
        self.blobs = self.flaky
        self.crash()

    def calm(self, seconds: float = 0.0) -> None:
        self.broker.advance(seconds)
        while self.transport.step():
            pass

    def seen(self) -> list[Any]:
        return [each["data"] for each in self.queue("agent.watcher")]

    def dead(self) -> list[str]:
        return [str(each.delivery.headers["bus-class"]) for each in self.broker.take("ns.dead", 10)]


@pytest.fixture
def world(tmp_path: Path) -> Checked:
    return Checked(tmp_path)


def test_what_is_large_travels_as_a_reference_and_arrives(world: Checked) -> None:
    world.send("m1", data={"text": TEXT})
    world.send("m2", data={"text": "short"})
    world.calm()
    assert [each["text"] for each in world.seen()] == [TEXT, "short"]
    assert world.flaky.puts == [name_of(BODY)]
    # In between there was only the reference, and what the log keeps is no larger.
    (item,) = [each for each in (world.store.entry(p, s) for p, s in entries(world)) if b'"$blob"' in each.input]
    assert TEXT.encode() not in item.input


def entries(world: Checked) -> list[tuple[int, int]]:
    claims = world.store.reopen().claim(2)
    return [(claim.partition, seq) for claim in claims for seq in range(1, claim.next_seq)]


def test_what_is_gone_or_cannot_be_had_is_unavailable_and_stops_nobody_else(world: Checked) -> None:
    gone = {"$blob": name_of(b"never stored"), "size": 12}
    world.send("m1", type_="item", data={"text": gone})
    world.calm()
    assert world.dead() == ["unavailable"]
    world.flaky.down = True
    world.send("m2", data={"text": TEXT})
    world.send("m3", data={"text": "short"})
    world.calm()
    assert world.dead() == ["unavailable"]
    assert [each["text"] for each in world.seen()] == ["short"]


def test_a_failed_claim_check_is_tried_again_and_one_that_was_given_is_not_taken_back(world: Checked) -> None:
    long = {"text": TEXT, "long": True}
    world.flaky.down = True
    world.send("m1", data=long)
    world.calm(1)
    assert (world.dead(), world.flaky.puts) == ([], [])
    world.flaky.down = False
    world.calm(70)
    whole = orjson.dumps(long)
    assert world.flaky.puts == [name_of(whole)]
    world.flaky.down = True
    world.crash()
    world.calm(70)
    assert world.seen() == [{"$blob": name_of(whole), "size": len(whole)}]
    assert world.dead() == []
