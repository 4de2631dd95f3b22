"""A running bus takes up another configuration: whole or not at all, between two messages, with nothing lost."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from tests.acceptance.crew import Load, Sink, traffic, wait_for
from tests.acceptance.live import HELLO, LiveBus, event
from tests.conftest import TestBroker


@pytest.fixture
def live(broker: TestBroker, namespace: str, tmp_path: Path) -> Iterator[LiveBus]:
    """A bus over a copy of `hello` that may be edited; not started."""
    folder = tmp_path / "hello"
    shutil.copytree(HELLO, folder)
    bus = LiveBus(folder, tmp_path / "home", namespace, broker.bus_url, broker.agent_url)
    yield bus
    bus.stop()


def hang_up(live: LiveBus) -> dict[str, Any]:
    """SIGHUP, and what comes of it."""
    live.send_signal(signal.SIGHUP)
    return live.hear("reload")


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_edits_are_taken_up_by_themselves_and_broken_ones_change_nothing(live: LiveBus) -> None:
    live.options = ["--watch"]
    first = live.start()["config"]
    route = live.folder / "hello.yaml"

    edit(route, "name: x", "nmae: x")
    said = live.hear("reload")
    assert (said["result"], said["config"], said["why"]) == ("refused", first, "files")
    assert any("hello.yaml:14:" in each and "nmae" in each for each in said["findings"])

    edit(route, "nmae: x", "name: x")
    assert live.hear("reload")["result"] == "unchanged"
    (live.folder / "hello.test.yaml").write_text(
        "tests:\n- test: greets nobody\n  agents: {greeting: {never: true}}\n"
        "  do: [{send: {type: hello.asked, data: {name: x}}}]\n  expect:\n  - {never: {capability: greeting}}\n"
    )
    said = live.hear("reload")
    assert (said["result"], said["config"]) == ("refused", first)
    assert any("hello.test.yaml:6:1: error[test]: greets nobody" in each for each in said["findings"])
    (live.folder / "hello.test.yaml").unlink()
    assert live.hear("reload")["result"] == "unchanged"

    # New agent, capability, schema and route, in new files: its queue is there before anything is decided by it.
    (live.folder / "schemas" / "bye.v1.json").write_text('{"type": "object"}')
    (live.folder / "bye.yaml").write_text(
        "route: bye\nmatch: {type: hello.lost}\nto: {capability: farewell}\n---\n"
        "agents: {leaver: {adapter: external, capabilities: [farewell]}}\n---\n"
        "capabilities: {farewell: {request: schemas/bye.v1.json, reply: schemas/bye.v1.json}}\n"
    )
    while (said := live.hear("reload"))["result"] != "applied":  # the file may have been seen before the others
        assert said["config"] == first
    second = said["config"]
    live.publish(event("hello.lost", {"bye": 1}, "m1"), key="m1")
    wait_for(lambda: len(live.queue("capability.farewell")) == 1)

    (live.folder / "bye.yaml").rename(live.folder / "parting.yaml")
    third = live.hear("reload")["config"]
    assert third not in (first, second)
    (live.folder / "schemas" / "bye.v1.json").write_text('{"type": "object", "required": ["bye"]}')
    fourth = live.hear("reload")["config"]
    (live.folder / "parting.yaml").unlink()
    (live.folder / "schemas" / "bye.v1.json").unlink()
    while (last := live.hear("reload"))["result"] != "applied":
        assert last["config"] == fourth
    assert last["config"] == first  # the same files are the same configuration

    assert live.metric("agentbus_config_reloads_total") >= 5
    log = (live.home / "bus.log").read_text()
    assert f"still running {first}" in log
    assert "nmae" in log
    traced = json.loads(live.command("trace", "bus.control", "--output", "json").stdout.splitlines()[0])
    assert "bus.config.refused" in json.dumps(traced)
    with contextlib.closing(History(SqliteLog(live.home / "bus.db"))) as history:
        kinds = [each.type for each in history.conversation("bus.control")]
    assert kinds.count("bus.config.applied") == 4
    assert kinds.count("bus.config.refused") >= 1


BROKEN: list[Callable[[Path], object]] = [
    lambda hello: edit(hello / "hello.yaml", "{ data.name }", "{ data.nmae }"),
    lambda hello: (hello / "more.yaml").write_text("route: [unclosed"),
    lambda hello: (hello / "schemas" / "hello.v1.json").write_text('{"type": '),
    lambda hello: (hello / "schemas" / "greeting.request.v1.json").unlink(),
    lambda hello: edit(hello / "hello.yaml", "capability: greeting", "capability: greting"),
    lambda hello: (hello / "more.yaml").write_text("route: twin\nmatch: {type: hello.asked}\nto: {event: hello.noted}"),
]


def good(hello: Path, number: int) -> None:
    """The configuration number so-and-so: its route says so, and files come, go and change their names."""
    shutil.rmtree(hello)
    shutil.copytree(HELLO, hello)
    edit(hello / "hello.yaml", '"{{ data.name }}"}', f'"{{{{ data.name }}}}", by: {number}}}')
    request = hello / "schemas" / "greeting.request.v1.json"
    properties = {"name": {"type": "string"}, "by": {"const": number}}  # a file that the documents only refer to
    request.write_text(json.dumps({"type": "object", "required": ["name"], "properties": properties}))
    if number % 2:
        (hello / "hello.yaml").rename(hello / f"hello{number}.yaml")
    if number % 4 == 1:
        agent = f"agents: {{extra{number % 8}: {{adapter: external, subscribes: [hello.noted]}}}}\n"
        (hello / "extra.yaml").write_text(agent)


def change_under_load(live: LiveBus, changes: int) -> dict[str, int]:
    """Change the configuration so often, each third time to a broken one; returns what came of it."""
    good(live.folder, 0)
    in_force, version = 0, live.start()["config"]
    results: dict[str, int] = {}
    with traffic(live) as (load, sink):
        for number in range(1, changes + 1):
            good(live.folder, number)
            if broken := number % 3 == 0:
                for file in live.folder.glob("hello*.yaml"):
                    file.rename(live.folder / "hello.yaml")
                BROKEN[number // 3 % len(BROKEN)](live.folder)
            said = hang_up(live)
            results[said["result"]] = results.get(said["result"], 0) + 1
            assert said["result"] == ("refused" if broken else "applied"), said
            assert (said["config"] == version) is broken
            in_force, version = in_force if broken else number, said["config"]
            settled(load, sink, in_force)
    by = [sink.said[number]["by"] for number in sorted(sink.said)]
    conversations = [[sink.said[n]["by"] for n in sent] for sent in load.sent.values()]
    assert all(each == sorted(each) for each in conversations)  # never back to an earlier one
    assert set(by) <= {number for number in range(changes + 1) if number % 3 or not number}
    results["messages"] = len(by)
    return results


def settled(load: Load, sink: Sink, in_force: int) -> None:
    """Ten messages that were sent after the change are decided by what is in force."""
    after = max(map(max, [each for each in load.sent.values() if each]), default=0) + 2
    wait_for(lambda: all(number in sink.said for number in range(after, after + 10)))
    assert {sink.said[number]["by"] for number in range(after, after + 10)} == {in_force}


def test_changes_under_load_lose_nothing_and_broken_ones_leave_the_one_before(live: LiveBus) -> None:
    results = change_under_load(live, 15)
    assert (results["applied"], results["refused"]) == (10, 5)


@pytest.mark.long
def test_two_hundred_changes_under_load(live: LiveBus, record_property: Callable[[str, object], None]) -> None:
    results = change_under_load(live, 200)
    assert (results["applied"], results["refused"]) == (134, 66)
    for name, number in results.items():
        record_property(name, number)
