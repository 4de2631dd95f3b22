"""`bus dlq` on a real broker: listing takes nothing out, redriving sends the original once more."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from bus.core.ingress import Ingress
from bus.core.naming import dead_queue, ingress_queue
from bus.core.route import Catalog
from bus.shell.dead_letters import DeadLetters, Redrive, sent_again
from bus.shell.probe import connection, queue_states
from bus.shell.topology import apply, plan
from tests.cli.conftest import Bus
from tests.conftest import TestBroker
from tests.prometheus_server import eventually

EVENT = {
    "specversion": "1.0",
    "id": "m1",
    "source": "cli",
    "type": "hello.asked",
    "conversationid": "c1",
    "data": {"name": "Ada"},
}


@pytest.fixture
def opened(broker: TestBroker, namespace: str) -> Iterator[Any]:
    """A connection to a broker that has the namespace's queues."""
    with connection(broker.bus_url) as link:
        apply(link.channel(), plan(namespace, Ingress((1,)), Catalog("", {}, {}, {}, ())))
        yield link


def put(opened: Any, queue: str, body: bytes, headers: dict[str, Any], content_type: str) -> None:
    channel = opened.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(content_type=content_type, headers=headers, delivery_mode=2)
    channel.basic_publish("", queue, body, properties, mandatory=True)


def letter(opened: Any, namespace: str, name: str, code: str, **attributes: Any) -> None:
    headers = {
        "bus-id": name,
        "bus-end": "dead_letter",
        "bus-class": "unavailable",
        "bus-code": code,
        "bus-reason": f"nobody wants it: {code}",
        "bus-at": f"2026-01-01T00:00:00.{int(name[1:]):03}Z",
        "bus-source": "cli",
        "bus-type": "hello.asked",
        "bus-conversation": "c1",
        "bus-route": "hello/hello",
    }
    body = json.dumps({**EVENT, "id": name, **attributes}).encode()
    put(opened, dead_queue(namespace), body, headers, "application/cloudevents+json")


def depth(opened: Any, queue: str) -> int:
    state = queue_states(opened, [queue])[queue]
    assert state is not None
    return state.depth


def take(opened: Any, queue: str) -> Any:
    """One delivery: (method, properties, body). Queues with a single active consumer know no basic.get."""
    return next(opened.channel().consume(queue, inactivity_timeout=10))


def flags(broker: TestBroker, namespace: str) -> list[str]:
    return ["--amqp-url", broker.bus_url, "--namespace", namespace]


def test_list_and_show_take_nothing_out(bus: Bus, broker: TestBroker, namespace: str, opened: Any) -> None:
    for number in range(3):
        letter(opened, namespace, f"m{number}", "no_route" if number else "hops")
    listed = bus("dlq", "list", *flags(broker, namespace))
    assert listed.code == 0
    assert [row["id"] for row in listed.rows] == ["m0", "m1", "m2"]
    assert {"code": "hops", "conversation": "c1", "route": "hello/hello"}.items() <= listed.rows[0].items()
    picked = bus("dlq", "list", "--reason", "no_route", "--max", "1", *flags(broker, namespace))
    assert [row["id"] for row in picked.rows] == ["m1"]
    (shown,) = bus("dlq", "show", "m2", *flags(broker, namespace)).rows
    assert json.loads(shown["body"])["data"] == {"name": "Ada"}
    assert bus("dlq", "show", "m9", *flags(broker, namespace)).code == 2
    eventually("what was read is back", lambda: depth(opened, dead_queue(namespace)) == 3)


def test_letters_are_listed_oldest_first_however_often(
    bus: Bus, broker: TestBroker, namespace: str, opened: Any
) -> None:
    names = [f"m{number}" for number in range(60)]
    for name in names:
        letter(opened, namespace, name, "no_route")
    for _ in range(3):
        assert [row["id"] for row in bus("dlq", "list", *flags(broker, namespace)).rows] == names
        eventually("what was read is back", lambda: depth(opened, dead_queue(namespace)) == 60)
    assert "2 of 60 in dead" in bus("dlq", "list", "--max", "2", "--output", "text", *flags(broker, namespace)).err


def test_redrive_sends_the_original_with_its_count(bus: Bus, broker: TestBroker, namespace: str, opened: Any) -> None:
    letter(opened, namespace, "m1", "no_route", redrive=1)
    letter(opened, namespace, "m2", "hops")
    tried = bus("dlq", "redrive", "--all", "--dry-run", *flags(broker, namespace))
    assert [row["redriven"] for row in tried.rows] == [False, False]
    assert depth(opened, ingress_queue(namespace, 0)) == 0
    missed = bus("dlq", "redrive", "m9", *flags(broker, namespace))
    assert (missed.code, "there is no letter `m9` in dead" in missed.err) == (2, True)
    done = bus("dlq", "redrive", "m1", *flags(broker, namespace))
    assert (done.code, [row["id"] for row in done.rows]) == (0, ["m1"])
    eventually("what was read and left is back", lambda: depth(opened, dead_queue(namespace)) == 1)
    method, properties, body = take(opened, ingress_queue(namespace, 0))
    assert method.routing_key == "c1"
    assert (properties.message_id, properties.type, properties.user_id) == ("m1", "hello.asked", "bus")
    assert json.loads(body) == {**EVENT, "id": "m1", "redrive": 2}


def test_what_cannot_be_sent_again_stays(bus: Bus, broker: TestBroker, namespace: str, opened: Any) -> None:
    put(opened, dead_queue(namespace), b"{", {"bus-id": "bad", "bus-code": "not-json"}, "application/cloudevents+json")
    for dry in ([], ["--dry-run"]):
        ran = bus("dlq", "redrive", "bad", *dry, *flags(broker, namespace))
        assert ran.code == 1
        assert "is not JSON" in ran.rows[0]["problem"]
    eventually("what was read and left is back", lambda: depth(opened, dead_queue(namespace)) == 1)


def test_at_most_so_many_are_redriven(bus: Bus, broker: TestBroker, namespace: str, opened: Any) -> None:
    for number in range(3):
        letter(opened, namespace, f"m{number}", "no_route")
    for dry in (["--dry-run"], []):
        ran = bus("dlq", "redrive", "--all", "--max", "2", *dry, *flags(broker, namespace))
        assert [row["id"] for row in ran.rows] == ["m0", "m1"]
    eventually("the third is back", lambda: depth(opened, dead_queue(namespace)) == 1)
    assert depth(opened, ingress_queue(namespace, 0)) == 2


def test_a_deadline_that_has_passed_is_taken_out(bus: Bus, broker: TestBroker, namespace: str, opened: Any) -> None:
    past, future = "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
    letter(opened, namespace, "m0", "expired", expirytime=past)
    assert bus("dlq", "redrive", "m0", "--keep-deadline", *flags(broker, namespace)).code == 0
    letter(opened, namespace, "m1", "expired", expirytime=past)
    letter(opened, namespace, "m2", "no_route", expirytime=future)
    headers = {"bus-id": "m3", "bus-type": "t", "ce-id": "m3", "ce-type": "t", "ce-expirytime": past, "bus-at": future}
    put(opened, dead_queue(namespace), b"{}", headers, "application/json")
    assert bus("dlq", "redrive", "--all", *flags(broker, namespace)).code == 0
    with contextlib.closing(opened.channel()) as channel:
        waiting = channel.consume(ingress_queue(namespace, 0), inactivity_timeout=10)
        found = [next(waiting) for _ in range(4)]
    assert [json.loads(body).get("expirytime") for _, _, body in found] == [past, None, future, None]
    assert found[3][1].headers == {"ce-id": "m3", "ce-type": "t", "ce-redrive": 1}


def test_a_letter_that_comes_back_again_and_again_stays(
    bus: Bus, broker: TestBroker, namespace: str, opened: Any
) -> None:
    letter(opened, namespace, "m1", "no_route", redrive=3)
    for dry in ([], ["--dry-run"]):
        ran = bus("dlq", "redrive", "--all", *dry, *flags(broker, namespace))
        assert (ran.code, ran.rows[0]["redriven"]) == (1, False)
        assert (
            "redriven 3 times and came back; mend what its reason says, then write --tries 4" in ran.rows[0]["problem"]
        )
    eventually("it is back", lambda: depth(opened, dead_queue(namespace)) == 1)
    assert bus("dlq", "redrive", "m1", "--tries", "4", *flags(broker, namespace)).code == 0
    assert json.loads(take(opened, ingress_queue(namespace, 0))[2])["redrive"] == 4


def test_a_letter_that_comes_back_at_once_is_sent_again_once(broker: TestBroker, namespace: str, opened: Any) -> None:
    for name in ("m0", "m1"):
        letter(opened, namespace, name, "no_route")
    letters = DeadLetters(opened, broker.bus_url, namespace, "dead")
    seen = []
    for each in letters.read():
        letters.redrive(each, sent_again(each, Redrive(0.0, 3)))
        letter(opened, namespace, each.id, "no_route", redrive=1)
        seen.append(each.id)
    assert seen == ["m0", "m1"]


def test_a_letter_that_the_broker_does_not_take_stays(
    bus: Bus, broker: TestBroker, namespace: str, opened: Any
) -> None:
    letter(opened, namespace, "m1", "no_route")
    opened.channel().queue_delete(ingress_queue(namespace, 0))
    ran = bus("dlq", "redrive", "m1", *flags(broker, namespace))
    assert (ran.code, ran.rows[0]["redriven"]) == (1, False)
    assert "did not take redrive 1 of m1" in ran.rows[0]["problem"]
    eventually("it is back", lambda: depth(opened, dead_queue(namespace)) == 1)


EXPIRED = {"bus-source": "bus", "bus-user": "mallory"}  # in an ingress queue, before anybody looked at who says so
BINARY = {"ce-id": "f1", "ce-type": "bus.task.move", "cloudEvents:source": "bus"}


@pytest.mark.parametrize(
    ("headers", "event", "content_type"),
    [
        ({"bus-code": "unknown-agent", "bus-source": "bus"}, {"source": "bus"}, "application/cloudevents+json"),
        ({"bus-code": "property-mismatch", "bus-source": "agents"}, {"source": "bus"}, "application/CloudEvents+JSON"),
        ({"bus-code": "property-mismatch", "bus-source": "agents", **BINARY}, {}, "application/json"),
        (
            {"bus-code": "property-mismatch", "bus-source": "mallory"},
            {"source": "desk"},
            "application/cloudevents+json",
        ),
    ],
)
def test_what_says_that_somebody_else_sent_it_stays(
    bus: Bus,
    broker: TestBroker,
    namespace: str,
    opened: Any,
    headers: dict[str, str],
    event: dict[str, str],
    content_type: str,
) -> None:
    body = json.dumps({**EVENT, **event}).encode()
    put(opened, dead_queue(namespace), body, {"bus-id": "f1", **headers}, content_type)
    for dry in ([], ["--dry-run"]):
        ran = bus("dlq", "redrive", "f1", *dry, *flags(broker, namespace))
        assert (ran.code, ran.rows[0]["redriven"]) == (1, False)
        assert "which has not sent it" in ran.rows[0]["problem"]
    assert depth(opened, ingress_queue(namespace, 0)) == 0


def test_a_binary_event_counts_in_its_header(bus: Bus, broker: TestBroker, namespace: str, opened: Any) -> None:
    headers = {
        "bus-id": "b1",
        "bus-type": "hello.asked",
        "bus-conversation": "c1",
        "ce-id": "b1",
        "ce-type": "hello.asked",
    }
    put(opened, dead_queue(namespace), b"{}", headers, "application/json")
    assert bus("dlq", "redrive", "b1", *flags(broker, namespace)).code == 0
    _, properties, body = take(opened, ingress_queue(namespace, 0))
    assert properties.headers == {"ce-id": "b1", "ce-type": "hello.asked", "ce-redrive": 1}
    assert (properties.content_type, body) == ("application/json", b"{}")


def test_a_namespace_that_no_bus_made_is_3(bus: Bus, broker: TestBroker) -> None:
    ran = bus("dlq", "list", *flags(broker, "nobody-was-here"))
    assert ran.code == 3
    assert "has `bus run` been started" in ran.err


def test_topology_plan_and_apply(bus: Bus, broker: TestBroker, namespace: str, hello: Path) -> None:
    wanted = ["topology", "plan", hello, *flags(broker, namespace)]
    before = bus(*wanted)
    assert before.code == 1
    assert {row["state"] for row in before.rows} == {"missing"}
    assert bus("topology", "apply", hello, *flags(broker, namespace)).code == 0
    after = bus(*wanted)
    assert after.code == 0
    assert {row["state"] for row in after.rows} == {"present"}
    assert f"queue {namespace}.capability.greeting" in [row["name"] for row in after.rows]


def test_doctor_finds_a_queue_that_nobody_listens_to(
    bus: Bus, broker: TestBroker, namespace: str, hello: Path, tmp_path: Path
) -> None:
    bus("topology", "apply", hello, *flags(broker, namespace))
    with connection(broker.bus_url) as link:
        put(link, f"{namespace}.capability.greeting", b"{}", {}, "application/json")
    ran = bus("doctor", hello, "--home", tmp_path / "home", *flags(broker, namespace))
    found = {(row["what"], row["state"]) for row in ran.rows}
    assert {("broker", "ok"), ("topology", "ok"), ("agents", "warn"), ("configuration", "ok")} <= found
    assert ran.code == 0


def test_doctor_finds_a_queue_made_with_other_arguments(
    bus: Bus, broker: TestBroker, namespace: str, hello: Path, tmp_path: Path
) -> None:
    with connection(broker.bus_url) as link:
        link.channel().queue_declare(f"{namespace}.agent.greeter", durable=True, arguments={"x-queue-type": "quorum"})
    ran = bus("doctor", hello, "--home", tmp_path / "home", *flags(broker, namespace))
    assert ran.code == 1
    assert any("dead-letter exchange" in row["found"] and row["state"] == "fail" for row in ran.rows)
