"""An operator and a running bus, by way of the command and a real broker."""

from __future__ import annotations

import contextlib
import json
import signal

import pika

from bus.core.naming import ingress_exchange
from bus.shell.history import History
from bus.shell.sqlite_log import SqliteLog
from tests.acceptance.crew import wait_for
from tests.acceptance.live import LiveBus, event


def said(live: LiveBus, *words: str) -> list[dict[str, object]]:
    ran = live.command("control", *words, "--output", "json")
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_an_operator_pauses_looks_purges_and_ends_it(live: LiveBus) -> None:
    answers = said(live, "ping")
    assert [str(each["queue"]).rpartition(".")[2] for each in answers] == ["00", "01", "02", "03"]
    assert all(0 < float(str(each["ms"])) < 10_000 for each in answers)

    said(live, "pause", "--route", "hello/hello")
    said(live, "pause", "--capability", "essay")
    for number in range(3):
        live.publish(event("hello.asked", {"name": str(number)}, f"a{number}", conversationid="c"), key="c")
        live.publish(event("hello.long", {"name": str(number)}, f"b{number}", conversationid="c"), key="c")
    wait_for(lambda: live.metric("agentbus_messages_total") >= 6)
    assert live.queue("capability.greeting") == live.queue("capability.essay") == []
    assert said(live, "ping")[0]["paused"] == ["capability:essay", "route:hello/hello"]
    said(live, "resume", "--route", "hello/hello")
    got: list[str] = []

    def all_came() -> bool:
        got.extend(_names(live, "greeting"))
        return len(got) == 3

    wait_for(all_came)
    assert got == ["0", "1", "2"]
    said(live, "resume", "--capability", "essay")
    wait_for(lambda: said(live, "purge", "capability.essay", "--dry-run")[0]["messages"] == 3)

    would = said(live, "purge", "capability.essay", "--dry-run")
    assert (would[0]["messages"], would[0]["purged"]) == (3, False)
    assert said(live, "purge", "capability.essay")[0]["messages"] == 3
    assert said(live, "reload")[0]["event"] == "bus.config.unchanged"

    # An agent of the private node may say that it is the client `cli`, and is refused all the same.
    connection = pika.BlockingConnection(pika.URLParameters(live.agent_url))
    properties = pika.BasicProperties(content_type="application/cloudevents+json", user_id="agents")
    body = event("bus.control.drain", {}, "x1").replace(b'"desk"', b'"cli"')
    connection.channel().basic_publish(ingress_exchange(live.namespace), "x1", body, properties)
    wait_for(lambda: len(live.queue("invalid")) == 1)
    connection.close()

    with contextlib.closing(History(SqliteLog(live.home / "bus.db"))) as history:
        kinds = [each.type.removeprefix("bus.control.") for each in history.conversation("bus.control")]
    assert [each for each in kinds if not each.startswith("bus.")] == [
        "pause", "pause", "resume", "resume", "purge", "purged", "reload",
    ]  # fmt: skip

    wrong = live.command("control", "pause", "--route", "hello/nothing")
    assert (wrong.returncode, "there is no route `hello/nothing`" in wrong.stderr) == (2, True)
    said(live, "drain")
    assert live.stop(signal.SIGCONT) == 0  # it has ended, or does so, by itself


def _names(live: LiveBus, capability: str) -> list[str]:
    return [json.loads(body)["data"]["name"] for _, body in live.queue(f"capability.{capability}")]
