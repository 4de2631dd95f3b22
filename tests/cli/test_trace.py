"""`bus trace` and `bus tap` over a log on disk: a question, the request it became, and the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.audit.record import encode
from bus.core.actions import Decision, Delivery, Failure, Output
from bus.core.errors import Finding
from bus.core.message import Attribute, Message
from bus.ports import Commit, Entry, Store
from bus.shell.postgres_store import PostgresStore
from bus.shell.sqlite_store import SqliteStore
from tests.cli.conftest import Bus
from tests.postgres_server import fresh_namespace, shared_server

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def message(identity: str, type_: str, source: str, **attributes: Attribute) -> Message:
    known: dict[str, Attribute] = {"id": identity, "type": type_, "source": source, "conversationid": "conversation-1"}
    return Message({**known, **attributes}, {})


def output(kind: str, name: str, identity: str, type_: str) -> Output:
    return Output(kind, name, identity, type_, "conversation-1", b"{}", "application/json", {})  # type: ignore[arg-type]


def entry(seq: int, decision: Decision, received_s: float) -> Entry:
    delivery = Delivery(b"{}", None, {}, None, None, None, "conversation-1", "ns.ingress.00")
    record = encode(
        decision, delivery, seq=seq, partition=0, received_s=received_s, decided_s=received_s + 0.0004, config="abc"
    )
    return Entry(seq, None, record, b"{}", decision.outputs)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store that a bus with the settings of this test has."""
    namespace = fresh_namespace()
    if request.param == "sqlite":
        yield SqliteStore(tmp_path / "bus.db")
        return
    monkeypatch.setenv("BUS_STORE", shared_server().url)
    monkeypatch.setenv("BUS_NAMESPACE", namespace)
    yield PostgresStore(shared_server().url, namespace)
    shared_server().execute(f'DROP SCHEMA "{namespace}" CASCADE')


@pytest.fixture
def home(store: Store, tmp_path: Path) -> Path:
    """A home whose log has two conversations, the second one refused."""
    asked = Decision(
        "routed",
        message("q", "hello.asked", "cli"),
        "hello/hello",
        "hello.yaml:1",
        "exact type",
        steps=("set#1",),
        outputs=(output("capability", "greeting", "r", "greeting.requested"),),
    )
    answered = Decision(
        "routed",
        message("a", "greeting.replied", "greeter", correlationid="r", causationid="r"),
        why="reply to cli",
        outputs=(output("client", "x", "p", "greeting.replied"),),
    )
    refused = Decision(
        "invalid",
        message("bad", "hello.asked", "cli", conversationid="conversation-2"),
        reason="hello.v1 is broken",
        failure=Failure(
            "contract", "contract", "hello.v1 is broken", findings=(Finding("/name", "string", "nothing"),)
        ),
    )
    store.claim(1)
    entries = [entry(1, asked, NOON), entry(2, answered, NOON + 0.003), entry(3, refused, NOON + 1)]
    store.commit(Commit(entries={0: entries}))
    store.commit(Commit(done={0: 3}))
    store.close()
    return tmp_path


def test_a_conversation_is_a_tree_with_routes_times_and_fates(bus: Bus, home: Path) -> None:
    ran = bus("trace", "conversation-1", "--home", home, "--output", "text")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "conversation conversation-1, 12:00:00.000",
        "hello.asked  cli -> route hello/hello (hello.yaml:1, exact type)  0.4 ms",
        "    set#1",
        "  greeting.requested -> capability:greeting  delivered",
        "    greeting.replied  greeter -> reply to cli  0.4 ms, after 2.6 ms",
        "      greeting.replied -> client:x  delivered",
    ]


def test_as_json_the_tree_is_nested(bus: Bus, home: Path) -> None:
    (root,) = bus("trace", "conversation-1", "--home", home).rows
    (sent,) = root["outputs"]
    assert (sent["target"], sent["fate"]["how"]) == ("capability:greeting", "delivered")
    (reply,) = sent["answers"]
    assert (reply["source"], reply["agent_ms"]) == ("greeter", pytest.approx(2.6, abs=0.01))


def test_a_refusal_shows_each_field(bus: Bus, home: Path) -> None:
    ran = bus("trace", "conversation-2", "--home", home, "--output", "text")
    assert "invalid: hello.v1 is broken" in ran.out
    assert "    invalid: /name expected string, got nothing" in ran.out


def test_an_unknown_conversation_says_where_to_look(bus: Bus, home: Path) -> None:
    ran = bus("trace", "nobody", "--home", home)
    assert ran.code == 2
    assert "see `bus tap` for recent ones" in ran.err


def test_tap_shows_the_newest_and_filters(bus: Bus, home: Path) -> None:
    rows = bus("tap", "--no-follow", "--home", home).rows
    assert [row["id"] for row in rows] == ["q", "a", "bad"]
    assert [row["id"] for row in bus("tap", "--no-follow", "--last", "1", "--home", home).rows] == ["bad"]
    asked = bus("tap", "--no-follow", "--type", "hello.*", "--conversation", "conversation-1", "--home", home).rows
    assert [row["id"] for row in asked] == ["q"]
    text = bus("tap", "--no-follow", "--home", home, "--output", "text").out.splitlines()
    assert text[0].endswith("cli hello.asked [hello/hello] routed -> capability:greeting")
    assert text[2].endswith("cli hello.asked invalid -> -  hello.v1 is broken")


def test_doctor_looks_into_the_store(bus: Bus, home: Path) -> None:
    rows = {row["what"]: row for row in bus("doctor", "--home", home).rows}
    assert rows["store"]["state"] == "ok"
    assert rows["store"]["found"].endswith("of the newest 1000: 1 invalid, 2 routed")


def test_doctor_says_that_there_is_no_store_yet(bus: Bus, tmp_path: Path) -> None:
    for store in (tmp_path / "none.db", shared_server().url):
        rows = bus("doctor", "--home", tmp_path, "--store", store, "--namespace", fresh_namespace()).rows
        (found,) = [row for row in rows if row["what"] == "store"]
        assert found["state"] == "warn"
        assert found["found"].startswith("there is no store at ")


def test_a_database_out_of_reach_is_exit_code_3_and_no_password(bus: Bus, tmp_path: Path) -> None:
    ran = bus("trace", "some", "--home", tmp_path, "--store", "postgresql://bus:hunter2hunter2@127.0.0.1:1/x")
    assert ran.code == 3
    assert "postgresql://127.0.0.1:1/x is down" in ran.err
    assert "hunter2" not in ran.err
    ran = bus("tap", "--no-follow", "--store", "mysql://bus:hunter2hunter2@127.0.0.1/x")
    assert ran.code == 2
    assert "write a file's path, or postgresql://" in ran.err
    assert "hunter2" not in ran.err
