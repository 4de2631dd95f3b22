"""The topology: what is planned, what RabbitMQ makes of it, and that it is made once."""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import ChannelClosedByBroker

from bus.core import naming
from bus.core.errors import BusError, Unreachable
from bus.core.expression import Contract
from bus.core.ingress import Ingress
from bus.core.route import Agent, Capability, Catalog
from bus.core.table import fits
from bus.shell.management import put_policies
from bus.shell.memory_broker import topic_fits
from bus.shell.policies import policies
from bus.shell.topology import Topology, apply, difference, export, plan, routing_pattern


def make_catalog(*billing: str, mood: tuple[str, ...] = ()) -> Catalog:
    agents = {
        "billing": Agent("billing", "external", subscribes=billing),
        "mood": Agent("mood", "external", capabilities=("sentiment",), subscribes=mood),
    }
    anything: Any = Contract
    return Catalog("test", agents, {"sentiment": Capability("sentiment", anything, anything)}, {}, ())


def make(namespace: str, partitions: int = 2) -> Topology:
    return plan(namespace, Ingress((partitions,)), make_catalog("order.*", "invoice.**"))


@pytest.fixture
def connection(broker: Any) -> Iterator[Any]:
    made = pika.BlockingConnection(pika.URLParameters(broker.bus_url))
    yield made
    made.close()


def test_a_plan_names_everything_once_and_binds_what_it_has() -> None:
    made = make("ns")
    names = [queue.name for queue in made.queues]
    assert len(names) == len(set(names))
    assert {"ns.ingress.00", "ns.ingress.01", "ns.agent.mood", "ns.capability.sentiment", "ns.dead"} <= set(names)
    names += [exchange.name for exchange in made.exchanges]
    assert {binding.queue for binding in made.bindings} <= set(names)
    assert {binding.exchange for binding in made.bindings} <= {exchange.name for exchange in made.exchanges}


def test_an_inbox_is_bound_to_nothing_that_agents_may_write() -> None:
    made = make("ns")
    inboxes = ("ns.agent.", "ns.capability.")
    (exchange,) = {each.exchange for each in made.bindings if each.queue.startswith(inboxes)}
    assert exchange.startswith("ns.events.")


def test_every_queue_that_may_bounce_leads_to_the_bus() -> None:
    limited = re.compile("|".join(str(each["pattern"]) for each in policies() if "delivery-limit" in str(each)))
    for queue in make("ns").queues:
        if limited.search(queue.name):
            assert queue.arguments["x-dead-letter-exchange"] == "ns.bounced"


def test_every_policy_finds_its_queues_and_no_queue_has_two() -> None:
    patterns = [re.compile(str(each["pattern"])) for each in policies()]
    names = [queue.name for queue in make("my-ns_1").queues]
    for pattern in patterns:
        assert any(pattern.search(name) for name in names), pattern
    for name in names:
        assert sum(1 for pattern in patterns if pattern.search(name)) <= 1, name


@pytest.mark.parametrize(("namespace", "partitions"), [("", 1), ("a.b", 1), ("a", 0), ("a", 101), ("x" * 65, 1)])
def test_what_cannot_be_a_namespace_is_refused(namespace: str, partitions: int) -> None:
    with pytest.raises(BusError, match="write"):
        make(namespace, partitions)


segments = st.sampled_from(["a", "b", "order"])


@given(
    st.lists(st.one_of(segments, st.just("*")), max_size=3), st.booleans(), st.lists(segments, min_size=1, max_size=4)
)
def test_the_brokers_idea_of_a_pattern_is_ours(head: list[str], rest: bool, name: list[str]) -> None:
    pattern = ".".join([*head, *(["**"] if rest or not head else [])])
    assert topic_fits(routing_pattern(pattern).split("."), name) == fits(pattern, ".".join(name))


@pytest.mark.broker
def test_applying_twice_changes_nothing_and_the_difference_tells(connection: Any, namespace: str) -> None:
    small, large = make(namespace, 1), make(namespace, 3)
    assert difference(connection, small).present == ()
    for _ in range(2):
        apply(connection.channel(), small)
    assert difference(connection, small).missing == ()
    assert difference(connection, large).missing == (f"queue {namespace}.ingress.01", f"queue {namespace}.ingress.02")
    apply(connection.channel(), large)
    assert difference(connection, large).missing == ()


@pytest.mark.broker
def test_who_no_longer_subscribes_gets_nothing_and_who_watches_gets_everything(connection: Any, namespace: str) -> None:
    channel = connection.channel()
    catalogs = make_catalog("order.*", mood=("order.*", "news.**")), make_catalog("order.*", mood=("news.*",))
    for catalog in catalogs:
        apply(channel, plan(namespace, Ingress((1,)), catalog))
    watched = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(watched, naming.events_exchange(namespace), "#")
    for number, catalog in enumerate((*catalogs, catalogs[0])):
        exchange = naming.subscriptions_exchange(namespace, catalog.subscriptions)
        channel.basic_publish(exchange, "order.placed", b"%d" % number)
    every = [b"0", b"1", b"2"]
    assert [body for _, _, body in _drain(channel, watched, 3)] == every
    assert [body for _, _, body in _drain(channel, naming.agent_queue(namespace, "billing"), 3)] == every
    assert [body for _, _, body in _drain(channel, naming.agent_queue(namespace, "mood"), 2)] == [b"0", b"2"]


@pytest.mark.broker
def test_the_policies_hold_on_a_private_node(connection: Any, namespace: str) -> None:
    """A message that comes back too often ends in `bounced`; a wake-up token returns after its second."""
    apply(connection.channel(), make(namespace))
    channel = connection.channel()
    inbox, ingress = naming.agent_queue(namespace, "mood"), naming.ingress_queue(namespace, 1)
    channel.basic_publish("", inbox, b"poison")
    channel.basic_publish(naming.retry_queue(namespace, 1), ingress, b"token")
    for method, _, _ in channel.consume(inbox, inactivity_timeout=3):
        if method is None:
            break
        channel.basic_nack(method.delivery_tag, requeue=True)
    channel.cancel()
    assert [body for _, _, body in _drain(channel, naming.bounced(namespace), 1)] == [b"poison"]
    assert [body for _, _, body in _drain(channel, ingress, 1)] == [b"token"]


@pytest.mark.broker
def test_agents_may_ask_and_read_and_no_more(broker: Any, connection: Any, namespace: str) -> None:
    apply(connection.channel(), make(namespace))
    agent = pika.BlockingConnection(pika.URLParameters(broker.agent_url))
    try:
        channel = agent.channel()
        channel.confirm_delivery()
        props = pika.BasicProperties(user_id="agents")
        channel.basic_publish(naming.ingress_exchange(namespace), "c", b"{}", props, mandatory=True)
        client = naming.client_queue(namespace, "me")
        channel.queue_declare(client, exclusive=True, auto_delete=True)
        channel.basic_consume(client, lambda *_: None)
        channel.basic_consume(naming.agent_queue(namespace, "mood"), lambda *_: None)
        channel.basic_consume(naming.capability_queue(namespace, "sentiment"), lambda *_: None)
        refusals: list[Callable[[Any], object]] = [
            lambda c: c.basic_publish(naming.events_exchange(namespace), "order.placed", b"{}"),
            lambda c: c.basic_publish("", naming.agent_queue(namespace, "mood"), b"{}"),
            lambda c: c.basic_get(naming.dead_queue(namespace)),
            lambda c: c.basic_get(naming.ingress_queue(namespace, 0)),
            lambda c: c.queue_declare(naming.agent_queue(namespace, "new")),
            lambda c: c.queue_bind(client, naming.ingress_exchange(namespace), "1"),
        ]
        for refused in refusals:
            one = agent.channel()
            one.confirm_delivery()
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                refused(one)
    finally:
        agent.close()


def test_an_export_holds_everything_for_this_namespace_alone() -> None:
    made = export(make("ns"))
    assert {key: len(made[key]) for key in ("exchanges", "queues", "bindings")} == {  # type: ignore[arg-type]
        "exchanges": len(make("ns").exchanges),
        "queues": len(make("ns").queues),
        "bindings": len(make("ns").bindings) + 1,  # and where the ingress leads
    }
    patterns: Any = made["policies"]
    assert not any(re.search(each["pattern"], "other.ingress.00") for each in patterns)
    assert any(re.search(each["pattern"], "ns.ingress.00") for each in patterns)
    advice: Any = made["permissions_advice"]
    mood = next(each for each in advice if each["user"] == "mood")
    assert re.search(mood["read"], "ns.capability.sentiment")
    assert re.search(mood["read"], "ns.agent.mood")
    assert not re.search(mood["read"], "ns.agent.billing")
    assert not re.search(mood["read"], "ns.agent.mood2")


class _Api(BaseHTTPRequestHandler):
    """A management API that keeps what is put and refuses a wrong password."""

    kept: ClassVar[dict[str, Any]] = {}

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.headers["Authorization"] == "Basic " + b64encode(b"admin:p@ss").decode()
        if good:
            self.kept[unquote(self.path)] = json.loads(body)
        self.send_response(204 if good else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_policies_are_put_through_the_management_api() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        where = f"127.0.0.1:{server.server_port}"
        put = put_policies(f"http://admin:p%40ss@{where}", "my-ns", "/")
        assert set(_Api.kept) == {f"/api/policies///{name}" for name in put}
        one = _Api.kept["/api/policies///my-ns-agentbus-ingress"]
        assert re.search(one["pattern"], "my-ns.ingress.00")
        assert not re.search(one["pattern"], "other.ingress.00")
        with pytest.raises(Unreachable, match="refused a policy: 401"):
            put_policies(f"http://admin:wrong@{where}", "my-ns")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(Unreachable, match="does not answer"):
        put_policies(f"http://admin:p%40ss@{where}", "my-ns")
    with pytest.raises(Unreachable, match="write"):
        put_policies("amqp://nonsense", "my-ns")


def _drain(channel: Any, queue: str, count: int) -> list[Any]:
    found = []
    for method, props, body in channel.consume(queue, inactivity_timeout=10):
        assert method is not None, f"{queue} stays empty"
        channel.basic_ack(method.delivery_tag)
        found.append((method, props, body))
        if len(found) == count:
            break
    channel.cancel()
    return found
