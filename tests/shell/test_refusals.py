"""A target that goes on refusing: RabbitMQ's fault with a lifted limit, and how seldom the bus reacts to it."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pika
import pytest

from bus import bootstrap
from bus.core import naming
from bus.core.table import RouteTable
from bus.settings import Settings
from bus.shell.broker_ctl import rabbitmqctl
from bus.shell.refusals import Refusals
from bus.shell.sqlite_store import SqliteStore
from bus.shell.telemetry.metrics import NullMeter
from bus.shell.worker import Plan, Worker
from tests.conftest import TestBroker
from tests.core.world import FACTS, catalog, flow, route, structured, to_capability

TABLE = RouteTable(catalog(route("grade", "asked", flow(to=(to_capability("grade"),)))))
FULL = {"max-length": 1, "overflow": "reject-publish", "dead-letter-strategy": "at-least-once", "delivery-limit": 20}
PATIENCE_S = 60.0


@contextlib.contextmanager
def working(url: str, namespace: str, folder: Path, refusals: Refusals) -> Iterator[None]:
    """A worker on the real broker, in a thread."""
    store = SqliteStore(folder / "bus.db")
    running = threading.Event()
    settings = Settings(amqp_url=url, namespace=namespace, partitions=1)
    worker = Worker(
        bootstrap.transport(settings, TABLE),
        store,
        NullMeter(),
        TABLE,
        replace(FACTS, seal=store.secret, bus_user="bus"),
        Plan(namespace, 1),
        on_state=lambda state: running.set() if state == "running" else None,
        refusals=refusals,
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert running.wait(PATIENCE_S)
        yield
    finally:
        worker.drain()
        thread.join(PATIENCE_S)
        store.close()


def test_a_target_that_refuses_for_ever_is_tried_on_a_new_connection(
    broker: TestBroker, namespace: str, tmp_path: Path
) -> None:
    if broker.home is None:
        pytest.skip("needs rabbitmqctl on a node of our own")
    home, queue = broker.home, naming.capability_queue(namespace, "grade")
    connection = pika.BlockingConnection(pika.URLParameters(broker.bus_url))
    channel = connection.channel()
    with working(broker.bus_url, namespace, tmp_path, Refusals(2.0, (2.0, 2.0))):
        rabbitmqctl(
            home, "set_policy", "--priority", "9", "--apply-to", "queues", f"full-{namespace}",
            f"^{re.escape(queue)}$", json.dumps(FULL),
        )  # fmt: skip
        asked = [f"m{number}" for number in range(8)]
        for number, identity in enumerate(asked):
            body = structured("asked", {"n": number}, id_=identity, conversationid="c").body
            made = pika.BasicProperties(content_type="application/cloudevents+json", user_id="bus")
            channel.basic_publish(naming.ingress_exchange(namespace), "c", body, made)
        time.sleep(1.0)  # the queue is full, and the bus has been told so
        rabbitmqctl(home, "clear_policy", f"full-{namespace}")
        got: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(dict.fromkeys(got)) < len(asked) and time.monotonic() < deadline:
            method, _, taken = channel.basic_get(queue, auto_ack=True)
            if method is None:
                time.sleep(0.05)
            else:
                got.append(orjson.loads(taken)["causationid"])
    connection.close()
    assert list(dict.fromkeys(got)) == asked


def test_a_target_that_is_really_full_costs_ever_fewer_reconnects() -> None:
    refusals = Refusals(30.0, (60.0, 3600.0))
    address = "", "ns.capability.grade"
    renewed = []
    for now in range(0, 86_400, 10):
        if refusals.refused(address, float(now)):
            renewed.append(now)
            refusals.connected()
    assert renewed[0] == 30
    assert len(renewed) < 32  # six in the first hour, then one an hour
    assert not refusals.refused(("", "other"), 86_400.0)


def test_a_target_that_takes_some_is_no_reason() -> None:
    refusals = Refusals(30.0, (60.0, 3600.0))
    address = "", "ns.capability.grade"
    for now in range(0, 600, 10):
        assert not refusals.refused(address, float(now))
        refusals.taken(address)
