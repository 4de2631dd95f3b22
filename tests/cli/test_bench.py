"""`bus bench` on a real broker, small: figures that can be, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.shell.broker_ctl import rabbitmqctl
from tests.cli.conftest import Bus
from tests.conftest import TestBroker
from tests.postgres_server import shared_server


@pytest.fixture(scope="module")
def home(broker: TestBroker) -> Iterator[Path]:
    """Folder of the private node; only there can shovels be set. No benchmark may have left anything behind there."""
    if broker.home is None:
        pytest.skip("AGENTBUS_TEST_BROKER is no private node")
    yield broker.home
    assert left_behind(broker.home) == []


def left_behind(home: Path) -> list[str]:
    """Queues, exchanges and shovels of benchmarks that are still there."""
    words = [
        *rabbitmqctl(home, "list_queues", "name").split(),
        *rabbitmqctl(home, "list_exchanges", "name").split(),
        *rabbitmqctl(home, "list_parameters").split(),
    ]
    return [each for each in words if each.startswith("bench-")]


def test_relay_beside_the_shovel(bus: Bus, home: Path) -> None:
    ran = bus("bench", "relay", "--home", home, "--messages", "300", "--repeat", "1", "--output", "json")
    assert ran.code == 0, ran.err
    (row,) = ran.rows
    assert row["messages"] == 300
    assert "shovel" in row["baseline"]
    for key in ("bus_msgs_per_s", "baseline_msgs_per_s", "bare_relay_msgs_per_s"):
        assert 50 < row[key] < 1_000_000, key
    assert 0.01 < row["ratio"] < 100
    assert row["decide_us_per_msg"] > 0 < row["cpu_us_per_msg"]
    assert 1 <= row["inputs_per_commit"] <= 300
    assert (row["syscalls_per_msg"] is None) == row["syscalls_method"].startswith("install")
    assert [each["ratio"] > 0 for each in row["runs"]] == [True]
    for side, rate in (("bus", "bus"), ("shovel", "baseline"), ("bare_relay", "bare_relay")):
        parts = row["cores_us_per_msg"][side]
        whole = parts.pop("all")
        assert sum(parts.values()) == pytest.approx(whole, abs=0.5), side
        # Ticks of 10 ms, and so short a run: a few of them on each core, more or less.
        ticks_us = 4 * 0.01 / 300 * 1e6 * (os.cpu_count() or 1)
        assert whole == pytest.approx((os.cpu_count() or 1) / row[f"{rate}_msgs_per_s"] * 1e6, abs=ticks_us), side


def test_relay_on_a_broker_of_ones_own_says_what_is_missing(bus: Bus, broker: TestBroker) -> None:
    ran = bus("bench", "relay", "--amqp-url", broker.bus_url, "--messages", "100", "--repeat", "1", "--output", "json")
    assert ran.code == 0, ran.err
    (row,) = ran.rows
    assert row["baseline_msgs_per_s"] is row["ratio"] is row["runs"][0]["ratio"] is None
    assert row["bare_relay_msgs_per_s"] > 0
    assert set(row["cores_us_per_msg"].values()) == {None}
    (said,) = ran.err.splitlines()
    assert said.startswith("bus: no baseline: RabbitMQ's shovel")
    assert "leave out --amqp-url" in said


def test_latency_of_both_ways(bus: Bus, home: Path) -> None:
    ran = bus("bench", "latency", "--home", home, "--rate", "100", "--seconds", "1", "--output", "json")
    assert ran.code == 0, ran.err
    (row,) = ran.rows
    assert row["samples"] == 50
    for way in ("direct", "mediated"):
        assert 0 < row[f"{way}_p50_ms"] <= row[f"{way}_p99_ms"] <= row[f"{way}_p999_ms"] < 60_000
    assert row["ratio_p50"] == pytest.approx(row["mediated_p50_ms"] / row["direct_p50_ms"], rel=0.05)


def test_scatter_beside_the_relay(bus: Bus, home: Path) -> None:
    ran = bus("bench", "scatter", "--home", home, "--conversations", "100", "--repeat", "1", "--output", "json")
    assert ran.code == 0, ran.err
    (row,) = ran.rows
    assert 10 < row["conversations_per_s"] < row["messages_per_s"] < 1_000_000
    assert row["relay_msgs_per_s"] > 50
    assert row["ratio"] == pytest.approx(row["messages_per_s"] / row["relay_msgs_per_s"], abs=0.02)
    assert row["cpu_us_per_message"] > 0 < row["relay_cpu_us_per_message"]


def test_backlog_tells_of_memory(bus: Bus, home: Path) -> None:
    ran = bus("bench", "backlog", "--home", home, "--messages", "1000", "--output", "json")
    assert ran.code == 0, ran.err
    (row,) = ran.rows
    assert row["bus_msgs_per_s"] > 50 < row["baseline_msgs_per_s"]
    assert 20 < row["idle_rss_mb"] < row["max_rss_mb"] < 1000
    assert row["rss"][-1]["done"] <= 1000


def test_routes_beside_the_first_number_of_routes(bus: Bus, home: Path) -> None:
    few = ["--routes", "1,20", "--messages", "100", "--repeat", "1"]
    ran = bus("bench", "routes", "--home", home, *few, "--output", "json")
    assert ran.code == 0, ran.err
    assert [row["routes"] for row in ran.rows] == [1, 20]
    assert ran.rows[0]["ratio"] == ran.rows[0]["spread_ratio"] == 1
    assert ran.rows[1]["ratio"] > 0 < ran.rows[1]["spread_ratio"]


def test_scale_needs_a_store_that_workers_can_share(bus: Bus) -> None:
    ran = bus("bench", "scale")
    assert ran.code == 2
    assert "write --store postgresql://" in ran.err


def test_scale_beside_one_worker(bus: Bus, home: Path) -> None:
    server = shared_server()
    url = server.url
    flags = ("--home", home, "--store", url, "--messages", "200", "--repeat", "1", "--workers", "1,2")
    ran = bus("bench", "scale", *flags, "--output", "json")
    assert ran.code == 0, ran.err
    assert [(row["workers"], row["ratio"] > 0, row["ratio_to_shovel"] > 0) for row in ran.rows] == [
        (1, True, True),
        (2, True, True),
    ]
    assert ran.rows[0]["ratio"] == 1
    assert server.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'bench-%%'") == [(0,)]


def test_numbers_of_routes_that_cannot_be(bus: Bus) -> None:
    for text in ("10,many", "0", "5,5"):
        ran = bus("bench", "routes", "--routes", text)
        assert ran.code == 2
        assert "10,100,1000" in ran.err


@pytest.mark.parametrize("command", ["relay", "latency", "routes", "backlog"])
def test_without_a_broker(bus: Bus, command: str) -> None:
    more = ["--routes", "1"] if command == "routes" else []
    ran = bus("bench", command, *more, "--amqp-url", "amqp://bus:x@127.0.0.1:1/", "--output", "json")
    assert ran.code == 3
    assert ran.err.splitlines()[-1].startswith("bus: ")
