"""What only RabbitMQ can show of a transport: stops, names, faults, refusals; on the links of the contract."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pika import URLParameters, frame, spec

from bus.core import naming
from bus.core.errors import BusError, Unreachable
from bus.ports import Outgoing
from bus.shell.amqp.transport import PikaTransport
from bus.shell.topology import Queue, apply
from tests.contract.transport_links import (
    PATIENCE_S,
    Recorder,
    make_topology,
    message,
    outgoing,
    pika_link,
)


@pytest.mark.broker
def test_acks_are_not_lost_by_a_stop(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as first:
        first.start()
        first.publish(outgoing(first.inbox(), range(2000)))
        first.settle(2000)
        first.events.on_each = lambda batch: first.transport.ack(batch[-1].tag)
        first.consume(first.inbox(), prefetch=50)
        first.receive(1000)
        first.stop()
        seen = int(first.events.received[-1].delivery.body)
    with pika_link(namespace, broker.bus_url) as second:
        second.start()
        second.consume(second.inbox())
        next_one = second.receive(1)[0].delivery
        assert seen < int(next_one.body) <= seen + 51, "acked ones came again, or unseen ones are gone"
        second.stop()


@pytest.mark.broker
def test_names_that_amqp_cannot_carry_are_returned(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.publish([Outgoing(1, "", "k" * 256, message()), Outgoing(2, "", link.inbox(), message())])
        outcomes = link.settle(2)
        assert outcomes[1].how == "returned"
        assert "255" in outcomes[1].reason
        assert outcomes[2].how == "confirmed"
        link.stop()


@pytest.mark.broker
def test_publishing_to_a_missing_exchange_loses_the_link_and_it_comes_back(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.publish([Outgoing(1, f"{namespace}.nowhere", "k", message())])
        link.events.wait(lambda: link.events.connected == 2)
        assert "no exchange" in link.events.lost[0]
        link.publish(outgoing(link.inbox(), range(2, 3)))
        assert link.settle(1)[2].how == "confirmed"
        link.stop()


@pytest.mark.broker
def test_a_blocked_connection_is_told_and_so_is_its_end(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.inject(frame.Method(0, spec.Connection.Blocked("low on memory")).marshal())
        link.inject(frame.Method(0, spec.Connection.Unblocked()).marshal())
        link.events.wait(lambda: len(link.events.blocked) == 2)
        assert link.events.blocked == [(True, "low on memory"), (False, "")]
        link.stop()


@pytest.mark.broker
def test_bytes_that_are_not_amqp_drop_the_link_and_it_comes_back(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.inject(b"HTTP/1.1 400 Bad Request\r\n")
        link.events.wait(lambda: link.events.connected == 2)
        assert "no AMQP frame" in link.events.lost[0]
        link.publish(outgoing(link.inbox(), range(1)))
        assert link.settle(1)[0].how == "confirmed"
        link.stop()


@pytest.mark.broker
def test_a_topology_that_differs_is_refused_at_the_first_connection(broker: Any, namespace: str) -> None:
    with pika_link(namespace, broker.bus_url) as link:
        link.start()
        link.stop()
    made = make_topology(namespace)
    other = replace(made, queues=(Queue(naming.agent_queue(namespace, "a"), {"x-queue-type": "classic"}),))
    transport = PikaTransport(
        broker.bus_url, partial(apply, topology=other), connect_timeout_s=PATIENCE_S, logger=logging.getLogger(__name__)
    )
    with pytest.raises(Unreachable, match="does not take the topology"):
        transport.run(Recorder())


def test_a_broker_that_is_not_there_is_unreachable_within_the_given_time() -> None:
    transport = PikaTransport(
        "amqp://a:b@127.0.0.1:1/%2F", lambda _channel: None, connect_timeout_s=0.5, logger=logging.getLogger(__name__)
    )
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 cannot be reached"):
        transport.run(Recorder())


@pytest.mark.broker
def test_a_wrong_password_is_said_at_once(broker: Any) -> None:
    parameters = URLParameters(broker.bus_url)
    url = f"amqp://bus:wrong@{parameters.host}:{parameters.port}/%2F"
    transport = PikaTransport(
        url, lambda _channel: None, connect_timeout_s=PATIENCE_S, logger=logging.getLogger(__name__)
    )
    with pytest.raises(Unreachable, match="ACCESS_REFUSED"):
        transport.run(Recorder())


def test_publishing_before_the_connection_is_refused() -> None:
    transport = PikaTransport("amqp://a:b@127.0.0.1:1/%2F", lambda _channel: None, logger=logging.getLogger(__name__))
    with pytest.raises(BusError, match="not connected"):
        transport.publish([])
    transport.stop()
    transport.run(Recorder())
