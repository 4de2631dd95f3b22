"""What an operator sees: a real Prometheus scrapes a bus by the shipped files, and no panel is empty.

The bus passes messages of every sort: routed ones, one invalid, one dead letter, one that is retried. The dashboard's
expressions are taken from its file, with its variables filled in as Grafana does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pika
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from adapters import Agent
from bus.core.naming import events_exchange
from bus.shell.telemetry.metrics import PrometheusMeter
from tests.acceptance.live import HELLO, LiveBus, event, greeter, playing
from tests.conftest import TestBroker
from tests.prometheus_server import PrometheusServer, eventually, executable, prometheus
from tests.telemetry_samples import catalog

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
VARIABLES = {
    "$__rate_interval": "5s", "$__range": "30s", "$job": ".*", "$instance": ".*", "$route": ".*",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Panel:
    """One expression of a dashboard."""

    title: str
    expression: str

    def __str__(self) -> str:
        return self.title


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all panels, those inside collapsed rows too."""
    return [each for panel in dashboard["panels"] for each in (panel, *panel.get("panels", ()))]


def expressions() -> list[Panel]:
    found = []
    for path in DASHBOARDS:
        for panel in panels(json.loads(path.read_text())):
            for target in panel.get("targets", ()):
                text = target["expr"]
                for name, value in VARIABLES.items():
                    text = text.replace(name, value)
                found.append(Panel(f"{panel['title']} {target['refId']}", text))
    return found


@pytest.fixture(scope="module")
def live_bus(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBus]:
    home = tmp_path_factory.mktemp("watched") / "home"
    bus = LiveBus(HELLO, home, f"t{secrets.token_hex(5)}", broker.bus_url, broker.agent_url)
    with collector() as endpoint:
        bus.start(BUS_OTLP_ENDPOINT=endpoint)
        yield bus
        bus.stop()


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """Something that takes spans over OTLP/HTTP."""

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Takes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        server.shutdown()


def traffic(bus: LiveBus) -> None:
    """Pass messages of every sort: answered ones, an invalid one, a dead letter, one that a full queue refuses."""
    desk = Agent("desk", concurrency=16)

    async def act(agents: dict[str, Agent]) -> None:
        for number in range(40):
            answer = await desk.ask("hello.asked", {"name": str(number)})
            assert answer.data == {"text": f"Hello {number}"}

    asyncio.run(playing(bus, {"desk": desk, "greeter": greeter()}, act))
    bus.publish(event("hello.asked", {"name": 1}, "broken"), key="broken")
    bus.publish(event("hello.lost", {}, "lost"), key="lost")
    with full_queue(bus):
        for number in range(3):
            bus.publish(event("hello.noted", {}, f"noted-{number}"), key=f"noted-{number}")
        eventually("a refused message is tried again", lambda: bus.metric("agentbus_retries_total") >= 1)
    eventually("the span exporter's round", lambda: bus.metric("agentbus_spans_total") >= 40)


@contextlib.contextmanager
def full_queue(bus: LiveBus) -> Iterator[None]:
    """A subscriber of one's own whose queue takes a single message and refuses the rest."""
    connection = pika.BlockingConnection(pika.URLParameters(bus.bus_url))
    channel = connection.channel()
    name = f"{bus.namespace}.full"
    limits = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare(name, durable=True, arguments=limits)
    channel.queue_bind(name, events_exchange(bus.namespace), "hello.noted")
    try:
        yield
    finally:
        channel.queue_delete(name)
        connection.close()


def shipped_configuration(port: int) -> str:
    """Return deploy/prometheus/prometheus.yml for this port and folder, scraping and evaluating each second."""
    loaded = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    loaded["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    loaded["rule_files"] = [str(DEPLOY / "prometheus" / each) for each in loaded["rule_files"]]
    loaded["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    return yaml.safe_dump(loaded)


def finished_now(bus: LiveBus) -> float:
    """Return how many messages the bus itself says it has finished."""
    with urllib.request.urlopen(f"http://127.0.0.1:{bus.metrics_port}/metrics", timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    return sum(s.value for f in families for s in f.samples if s.name == "agentbus_end_to_end_seconds_count")


@dataclass(frozen=True, slots=True)
class Watched:
    """A Prometheus that has seen the bus before and after its traffic."""

    server: PrometheusServer
    start_s: float
    end_s: float


@pytest.fixture(scope="module")
def watched(live_bus: LiveBus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(shipped_configuration(live_bus.metrics_port), folder) as server:
        start = time.time()
        seen = "count_over_time(agentbus_build_info[1m])"
        eventually("two scrapes before the traffic", lambda: (server.value(seen) or 0) >= 2)
        traffic(live_bus)
        finished = finished_now(live_bus)
        assert finished > 0
        count = "sum(agentbus_end_to_end_seconds_count)"
        eventually("a scrape after the traffic", lambda: (server.value(count) or 0) >= finished)
        scraped = server.value(seen) or 0
        eventually("one more, so that rates have their two points", lambda: (server.value(seen) or 0) > scraped)
        yield Watched(server, start, time.time())


@pytest.mark.parametrize("panel", expressions(), ids=str)
def test_no_panel_is_empty(watched: Watched, panel: Panel) -> None:
    found = watched.server.series(panel.expression, watched.start_s, watched.end_s)
    assert any(math.isfinite(value) for values in found for value in values), f"no data: {panel.expression}"


@pytest.mark.parametrize(
    "total",
    [
        "agentbus_messages_total{end='routed'}",
        "agentbus_messages_total{end='invalid'}",
        "agentbus_messages_total{end='dead_letter'}",
        "agentbus_outputs_total",
        "agentbus_invalid_total{code!='other'}",
        "agentbus_contract_violations_total",
        "agentbus_dead_letters_total{code!='other'}",
        "agentbus_retries_total{target!='other'}",
        "agentbus_store_commits_total",
        "agentbus_outputs_confirmed_total",
    ],
)
def test_each_sort_of_traffic_is_counted(watched: Watched, total: str) -> None:
    assert (watched.server.value(f"sum({total})") or 0) >= 1


def test_every_route_end_and_code_is_known_from_the_start(watched: Watched) -> None:
    first = watched.server.api("query_range", query="agentbus_messages_total", start=f"{watched.start_s:.3f}",
                               end=f"{watched.end_s:.3f}", step="1")["result"]  # fmt: skip
    assert all(each["values"][0][0] <= first[0]["values"][0][0] + 1 for each in first)


def test_the_shipped_rules_evaluate(watched: Watched) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in watched.server.api("rules")["groups"] for rule in group["rules"]]

    assert rules()
    eventually("every rule was evaluated", lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert [rule["name"] for rule in rules() if rule["health"] != "ok"] == []


# --- The files themselves -----------------------------------------------------------------------------------------


def promtool(*arguments: str) -> str:
    command = [executable("promtool"), *arguments]
    done = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_configuration_and_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "8 rules found" in promtool("check", "rules", "rules/agentbus.yml")


def test_the_rules_alert_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "tests/agentbus.test.yml")


def test_every_alert_has_a_test_and_says_what_to_do() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "agentbus.yml").read_text())["groups"]
    tested = (DEPLOY / "prometheus" / "tests" / "agentbus.test.yml").read_text()
    for rule in (rule for group in groups for rule in group["rules"]):
        assert f"alertname: {rule['alert']}\n" in tested
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "description"} <= rule["annotations"].keys()


def test_the_metrics_that_the_rules_name_exist() -> None:
    names = {s.name for family in PrometheusMeter(catalog(), "1").registry.collect() for s in family.samples} | {"up"}
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "agentbus.yml").read_text())["groups"]
    for expression in (rule["expr"] for group in groups for rule in group["rules"]):
        words = expression.replace("(", " ").replace("[", " ").replace("{", " ").split()
        named = {word for word in words if word.startswith(("agentbus_", "up"))}
        assert named
        assert named <= names


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_is_one_that_grafana_loads(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    shown = panels(dashboard)
    identities = [panel["id"] for panel in shown]
    assert len(identities) == len(set(identities))
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["uid"]
    assert dashboard["title"]
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert names == {"datasource", *(name[1:] for name in VARIABLES if not name.startswith("$__"))}
    for panel in (panel for panel in shown if panel["type"] != "row"):
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))
    assert not overlapping([panel["gridPos"] for panel in shown])


def overlapping(places: list[dict[str, int]]) -> bool:
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    return len(cells) != len(set(cells)) or any(x >= 24 for x, _ in cells)


def test_grafana_provisioning_agrees_with_the_dashboard() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "agentbus.yaml").read_text())["datasources"]
    providers = yaml.safe_load((folder / "dashboards" / "agentbus.yaml").read_text())["providers"]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "agentbus.json").read_text())
    current = next(v["current"]["value"] for v in dashboard["templating"]["list"] if v["name"] == "datasource")
    assert [source["uid"] for source in sources] == [current]
    assert [provider["type"] for provider in providers] == ["file"]
