"""The meter and its endpoint: numbers are right, labels come from configuration only, the endpoint is hard to hurt."""

from __future__ import annotations

import ast
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bus.ports import Meter
from bus.shell.telemetry.endpoint import TelemetryEndpoint
from bus.shell.telemetry.metrics import CODES, OTHER, NullMeter, PrometheusMeter
from tests.telemetry_samples import catalog, failed, message, output, routed

BUS = Path(__file__).parents[2] / "bus"


@pytest.fixture
def meter() -> PrometheusMeter:
    return PrometheusMeter(catalog(), "1.2.3")


def value(meter: PrometheusMeter, name: str, **labels: str) -> float | None:
    return meter.registry.get_sample_value(name, labels)


def series(meter: PrometheusMeter) -> int:
    return sum(len(family.samples) for family in meter.registry.collect())


def test_both_meters_are_meters(meter: PrometheusMeter) -> None:
    meters: list[Meter] = [meter, NullMeter()]
    for each in meters:
        each.decided([routed()], 0.001)
        each.finished(routed(), 0.001)


def test_what_has_not_happened_yet_is_zero(meter: PrometheusMeter) -> None:
    assert value(meter, "agentbus_messages_total", route="shop/orders", end="dead_letter") == 0
    assert value(meter, "agentbus_messages_total", route="none", end="invalid") == 0
    assert value(meter, "agentbus_outputs_total", kind="capability", target="score") == 0
    assert value(meter, "agentbus_outputs_total", kind="dead", target="none") == 0
    assert value(meter, "agentbus_retries_total", kind="agent", target="shop") == 0
    assert value(meter, "agentbus_dead_letters_total", code="no_route") == 0
    assert value(meter, "agentbus_invalid_total", code="not-json") == 0
    assert value(meter, "agentbus_contract_violations_total", route="shop/orders", type="order.placed") == 0
    assert value(meter, "agentbus_end_to_end_seconds_bucket", le="+Inf") == 0
    assert value(meter, "agentbus_connected") == 0
    assert value(meter, "agentbus_blocked") == 0
    assert value(meter, "agentbus_config_info", version="0123456789ab") == 1
    assert value(meter, "agentbus_config_routes") == 1


def test_a_batch_is_counted_by_route_end_target_and_code(meter: PrometheusMeter) -> None:
    broken = failed("invalid", "contract", "contract", message(), finding=True)
    dead = failed("dead_letter", "unavailable", "no_route", message())
    meter.decided([routed(), routed(output(), output("event", "order.billed")), broken, dead], 0.003)
    assert value(meter, "agentbus_messages_total", route="shop/orders", end="routed") == 2
    assert value(meter, "agentbus_messages_total", route="none", end="invalid") == 1
    assert value(meter, "agentbus_outputs_total", kind="capability", target="score") == 2
    assert value(meter, "agentbus_outputs_total", kind="event", target="order.billed") == 1
    assert value(meter, "agentbus_outputs_total", kind="dead", target="none") == 1
    assert value(meter, "agentbus_invalid_total", code="contract") == 1
    assert value(meter, "agentbus_dead_letters_total", code="no_route") == 1
    assert value(meter, "agentbus_contract_violations_total", route="none", type="order.placed") == 1
    assert value(meter, "agentbus_decide_seconds_count") == 1


def test_only_an_expired_deadline_is_no_contract_violation(meter: PrometheusMeter) -> None:
    meter.decided([failed("expired", "expired", "expired", message())], 0.001)
    violations = [s for f in meter.registry.collect() if f.name == "agentbus_contract_violations" for s in f.samples]
    assert violations
    assert not any(sample.value for sample in violations)
    assert value(meter, "agentbus_dead_letters_total", code="expired") == 1


def test_nothing_an_agent_says_becomes_a_label(meter: PrometheusMeter) -> None:
    before = series(meter)
    for n in range(200):
        evil = message(f"evil.{n}", f"id-{n}")
        meter.decided(
            [
                routed(output("client", f"c{n}"), output("event", f"evil.{n}"), of=evil, route=f"r{n}"),
                failed("invalid", "contract", f"code-{n}", evil, finding=True),
                failed("dead_letter", "internal", f"code-{n}", evil),
            ],
            0.001,
        )
        meter.retried(f"agent:evil{n}")
        meter.retried(f"weird{n}:x")
        meter.excepted(f"how{n}", f"code-{n}", 1)
    assert series(meter) == before
    assert value(meter, "agentbus_messages_total", route=OTHER, end="routed") == 200
    assert value(meter, "agentbus_outputs_total", kind="client", target="none") == 200
    assert value(meter, "agentbus_outputs_total", kind="event", target=OTHER) == 200
    assert value(meter, "agentbus_invalid_total", code=OTHER) == 200
    assert value(meter, "agentbus_dead_letters_total", code=OTHER) == 400
    assert value(meter, "agentbus_retries_total", kind="agent", target=OTHER) == 200
    assert value(meter, "agentbus_contract_violations_total", route="none", type=OTHER) == 200


def test_buckets_include_their_bound_and_add_up(meter: PrometheusMeter) -> None:
    for seconds in (0.0001, 0.0005, 0.00051, 90.0):
        meter.finished(routed(), seconds)
    assert value(meter, "agentbus_end_to_end_seconds_bucket", le="0.0005") == 2
    assert value(meter, "agentbus_end_to_end_seconds_bucket", le="0.001") == 3
    assert value(meter, "agentbus_end_to_end_seconds_bucket", le="60.0") == 3
    assert value(meter, "agentbus_end_to_end_seconds_bucket", le="+Inf") == 4
    assert value(meter, "agentbus_end_to_end_seconds_count") == 4
    assert value(meter, "agentbus_end_to_end_seconds_sum") == pytest.approx(90.00111)


def test_gauges_and_losses_follow_the_worker(meter: PrometheusMeter) -> None:
    for up in (True, False, False, True):
        meter.connected(up)
    meter.blocked(True)
    meter.in_flight(7, 11)
    meter.committed(50, 0.004)
    meter.confirmed(40, 0.01)
    assert value(meter, "agentbus_connected") == 1
    assert value(meter, "agentbus_connection_losses_total") == 1
    assert value(meter, "agentbus_blocked") == 1
    assert value(meter, "agentbus_inputs_in_flight") == 7
    assert value(meter, "agentbus_outputs_in_flight") == 11
    assert value(meter, "agentbus_store_entries_total") == 50
    assert value(meter, "agentbus_outputs_confirmed_total") == 40


def test_a_new_configuration_adds_labels_and_keeps_counts(meter: PrometheusMeter) -> None:
    meter.decided([routed()], 0.001)
    meter.configured(catalog("ba9876543210", "shop/returns"))
    meter.decided([routed(route="shop/returns")], 0.001)
    assert value(meter, "agentbus_messages_total", route="shop/orders", end="routed") == 1
    assert value(meter, "agentbus_messages_total", route="shop/returns", end="routed") == 1
    assert value(meter, "agentbus_config_info", version="ba9876543210") == 1
    assert value(meter, "agentbus_config_info", version="0123456789ab") is None


def literal_codes(path: Path) -> Iterator[object]:
    """Yield the codes that a file says: the first argument of `Refused` and the second of `Failure`, if literal."""
    place = {"Refused": 0, "Failure": 1}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        code = node.args[place[node.func.id] :][:1] if node.func.id in place else []
        yield from (each.value for each in code if isinstance(each, ast.Constant))


def test_every_reason_code_that_the_bus_says_has_its_own_series() -> None:
    said = {code for path in (*BUS.glob("core/**/*.py"), *BUS.glob("shell/**/*.py")) for code in literal_codes(path)}
    assert {"contract", "no_route"} <= said, "the bus says its codes elsewhere now: teach this test"
    missing = sorted(str(code) for code in said - CODES)
    assert not missing, f"add {missing} to the codes in bus/shell/telemetry/metrics.py"


# --- The endpoint -------------------------------------------------------------------------------------------------


@pytest.fixture
def wrong() -> list[str]:
    """What keeps the bus from being ready; empty when it is."""
    return []


@pytest.fixture
def endpoint(meter: PrometheusMeter, wrong: list[str]) -> Iterator[TelemetryEndpoint]:
    served = TelemetryEndpoint(meter.registry, ready=lambda: "; ".join(wrong))
    yield served
    served.close()


def ask(endpoint: TelemetryEndpoint, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=5)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    try:
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_metrics_are_served_in_both_formats(endpoint: TelemetryEndpoint) -> None:
    status, text = ask(endpoint, "/metrics?x=1")
    assert status == 200
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"agentbus_messages", "agentbus_end_to_end_seconds", "process_cpu_seconds"} <= names
    status, text = ask(endpoint, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert text.endswith("# EOF\n")


def test_ready_only_while_nothing_is_wrong(endpoint: TelemetryEndpoint, wrong: list[str]) -> None:
    assert ask(endpoint, "/readyz") == (200, "ok\n")
    wrong.append("not connected")
    assert ask(endpoint, "/readyz") == (503, "not connected\n")
    assert ask(endpoint, "/healthz") == (200, "ok\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_only_get_is_answered(endpoint: TelemetryEndpoint, method: str) -> None:
    assert ask(endpoint, "/metrics", method)[0] == 405


def test_other_paths_are_not_found(endpoint: TelemetryEndpoint) -> None:
    assert ask(endpoint, "/../../etc/passwd")[0] == 404


def test_clients_that_say_nothing_cannot_keep_a_scrape_out(endpoint: TelemetryEndpoint) -> None:
    silent = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(60)]
    try:
        assert ask(endpoint, "/metrics")[0] == 200
        silent[0].settimeout(2)  # less than the endpoint's own patience with those who say nothing
        assert silent[0].recv(1) == b""  # the oldest was cut off
    finally:
        for connection in silent:
            connection.close()


def test_closing_frees_the_port(meter: PrometheusMeter) -> None:
    first = TelemetryEndpoint(meter.registry, ready=lambda: "")
    first.close()
    second = TelemetryEndpoint(meter.registry, ready=lambda: "", port=first.port)
    second.close()
