"""An inbox at its limit: what it does not take waits in the store, in order, and nobody else waits for it."""

from __future__ import annotations

import json
import re
import time

import pytest

from bus.shell.broker_ctl import rabbitmqctl
from tests.acceptance.live import LiveBus, arrivals, ask_by_turns, event
from tests.conftest import TestBroker

LIMIT = 3


def test_what_a_full_inbox_refuses_waits_in_order_and_stops_nobody_else(broker: TestBroker, live: LiveBus) -> None:
    if broker.home is None:
        pytest.skip("needs rabbitmqctl on a node of our own")
    queue = f"{live.namespace}.capability.greeting"
    rules = {"max-length": LIMIT, "overflow": "reject-publish", "dead-letter-strategy": "at-least-once"}
    words = ("set_policy", "--priority", "9", "--apply-to", "queues", queue, f"^{re.escape(queue)}$", json.dumps(rules))
    rabbitmqctl(broker.home, *words)
    try:
        asked = ask_by_turns(live, 30)
        live.publish(event("hello.noted", {}, "other", conversationid="c0"), key="c0")
        deadline = time.monotonic() + 30
        while not (noted := live.queue("agent.desk")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [properties.type for properties, _ in noted] == ["hello.noted"]  # the last of c0, to another target
        while live.metric("agentbus_inputs_in_flight") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert live.metric("agentbus_inputs_in_flight") == 0  # rows hold them, not deliveries
        assert arrivals(live, 30) == asked
    finally:
        rabbitmqctl(broker.home, "clear_policy", queue)
