"""`bus replay` and `bus test --record` over a log on disk: a greeting that was asked for, and one that was refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import bootstrap
from bus.audit.record import encode
from bus.cli.replay import again
from bus.core.actions import Delivery
from bus.core.message import Message
from bus.core.pipeline import decide
from bus.ports import Commit, Entry
from bus.rehearsal.recording import Arrived, Recording
from bus.rehearsal.script import Send, Stub
from bus.rehearsal.stage import Hop, Stage
from bus.rehearsal.stand_ins import StandIns
from bus.shell.sqlite_store import SqliteStore
from tests.cli.conftest import Bus

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


@pytest.fixture
def home(hello: Path, tmp_path: Path) -> Path:
    """A home with the log of a bus that ran the integration: `first-one` at noon, two more a day later."""
    table = bootstrap.table(bootstrap.load([hello]))
    stand_ins = StandIns(table.catalog.agents, {"greeting": (Stub("reply", {"text": "Hello Ada"}, after_s=2.0),)})
    stage = Stage(table, bootstrap.facts(), stand_ins, NOON)
    stage.send(Send("hello.asked", {"name": "Ada"}, conversation="first-one"))
    stage.advance(86_400.0)
    stage.send(Send("hello.asked", {}, conversation="second-one"))
    stage.send(Send("hello.asked", {}, conversation="third-one"))
    for key in ("", "garbled-one"):
        garbled = Delivery(b"{nope", None, {}, None, None, None, key, "ns.ingress.00")
        stage.hops.append(Hop(len(stage.hops), stage.hops[-1].at_s, garbled, decide(garbled, table, stage.facts)))
    store = SqliteStore(tmp_path / "bus.db")
    (claim,) = store.claim(1)
    entries = []
    for seq, hop in enumerate(stage.hops, 1):
        at_s = NOON + hop.at_s
        record = encode(hop.decision, hop.delivery, seq=seq, partition=0, received_s=at_s, decided_s=at_s, config="abc")
        entries.append(Entry(seq, None, record, hop.delivery.body, hop.decision.outputs))
    store.commit(Commit({claim.partition: entries}))
    store.close()
    return tmp_path


def test_the_same_routes_make_no_difference(bus: Bus, home: Path, hello: Path) -> None:
    ran = bus("replay", "first", "--against", hello, "--home", home, "--output", "text")
    assert ran.code == 0
    assert ran.out.startswith("no difference in 1 conversation, 2 decisions, by ")


def test_what_would_go_otherwise_is_1(bus: Bus, home: Path, hello: Path) -> None:
    route = hello / "hello.yaml"
    route.write_text(route.read_text().replace('"{{ data.name }}"', '"{{ data.name }}!"'))
    ran = bus("replay", "first", "--against", hello, "--home", home, "--output", "text")
    assert ran.code == 1
    assert ran.out.splitlines()[:5] == [
        "conversation first-one",
        "  hello.asked from cli",
        "      -> capability:greeting  greeting.requested",
        '    -   name: "Ada"',
        '    +   name: "Ada!"',
    ]
    difference, summary = bus("replay", "first", "--against", hello, "--home", home).rows
    (found,) = difference["differences"]
    assert found["before"]["outputs"][0]["data"] == {"name": "Ada"}
    assert found["after"]["outputs"][0]["data"] == {"name": "Ada!"}
    assert (summary["conversations"], summary["differ"]) == (1, 1)


def test_what_differs_in_the_same_way_is_shown_once(bus: Bus, home: Path, hello: Path) -> None:
    (hello / "hello.yaml").write_text("route: hello\nmatch: {type: goodbye.asked}\nto: {capability: greeting}\n")
    (hello / "integration.yaml").write_text("integration: hello\ntypes:\n  goodbye.asked: {contract: any}\n")
    since = ("replay", "--since", "2026-01-01T00:00:00Z", "--against", hello, "--home", home)
    ran = bus(*since, "--output", "text")
    headings = [line for line in ran.out.splitlines() if line.startswith("conversation ")]
    assert headings == ["conversation first-one", "conversation second-one and 1 other in the same way"]
    assert "+ dead_letter (unavailable, no_route: no route owns `hello.asked`" in ran.out
    assert len(bus(*since).rows) == 4


def test_all_conversations_since(bus: Bus, home: Path, hello: Path) -> None:
    since = ("--against", hello, "--home", home)
    assert bus("replay", "--since", "2026-01-01T00:00:00Z", *since).rows[-1]["conversations"] == 4
    assert bus("replay", "--since", "2026-01-02T00:00:00Z", *since).rows[-1]["conversations"] == 3
    assert bus("replay", "--since", "1s", *since).rows[-1]["conversations"] == 0
    limited = bus("replay", "--since", "2026-01-01T00:00:00Z", "--limit", "1", *since, "--output", "text")
    assert "the newest 1 of 4 conversations; write --limit 4 for all" in limited.err


def test_usage(bus: Bus, home: Path, hello: Path) -> None:
    for words in ([], ["first", "--since", "1h"], ["--since", "yesterday"]):
        ran = bus("replay", *words, "--against", hello, "--home", home)
        assert ran.code == 2
        assert "write" in ran.err
    assert bus("replay", "nobody", "--against", hello, "--home", home).code == 2
    assert bus("replay", "first", "--against", hello, "--home", home / "elsewhere").code == 3


def test_of_what_could_not_be_understood_no_test_is_made(bus: Bus, home: Path) -> None:
    ran = bus("test", "--record", "garbled", "--home", home)
    assert (ran.code, ran.out) == (2, "")
    assert "nothing of garbled-one could be understood" in ran.err


def test_replaying_writes_nothing_into_the_log(bus: Bus, home: Path, hello: Path) -> None:
    before = (home / "bus.db").read_bytes()
    bus("replay", "--since", "2026-01-01T00:00:00Z", "--against", hello, "--home", home)
    assert (home / "bus.db").read_bytes() == before


def test_a_recorded_conversation_becomes_a_test_that_passes(bus: Bus, home: Path, hello: Path) -> None:
    for name in ("first", "second"):
        written = bus("test", "--record", name, "--home", home)
        assert written.code == 0
        (hello / f"{name}.test.yaml").write_text(written.out)
    ran = bus("test", hello, "--output", "text")
    assert (ran.code, ran.out[:8]) == (0, "2 passed")
    text = (hello / "first.test.yaml").read_text()
    assert '    greeting: {reply: {"text": "Hello Ada"}, after: 2s}' in text
    assert '  - {reply: ok, data: {"text": "Hello Ada"}}' in text


def test_live_sends_what_came_in_once_more_as_new_messages(
    bus: Bus, home: Path, hello: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []

    class Link:
        async def open(self) -> None: ...

        async def open_client(self, hear: object) -> str:
            return "client:x"

        async def send(self, message: Message) -> None:
            sent.append(message)

        async def close(self) -> None: ...

    monkeypatch.setattr(bootstrap, "running", lambda settings: settings)
    monkeypatch.setattr(bootstrap, "agent_link", lambda settings, name: Link())
    ran = bus("replay", "first", "--against", hello, "--home", home, "--live")
    (message,) = sent
    assert (message.source, message.type, message.data) == ("cli", "hello.asked", {"name": "Ada"})
    assert ran.rows[-1] == {"conversation": "first-one", "live": message.conversation, "messages": 1}
    assert message.conversation != "first-one"
    bus("replay", "first", "--against", hello, "--home", home)
    assert len(sent) == 1


def test_acts_of_operators_are_neither_compared_nor_sent() -> None:
    purge = Message({"id": "1", "source": "cli", "type": "bus.control.purge", "specversion": "1.0"}, {})
    asked = Message({"id": "2", "source": "cli", "type": "hello.asked", "specversion": "1.0"}, {})
    made = again(Recording("c", 0.0, (Arrived(purge, 0.0), Arrived(asked, 1.0)), {}, ()))
    assert [each.type for each in made] == ["hello.asked"]
