"""Spans as a collector receives them: decoded from OTLP, joined to the trace context on the wire, never in the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from bus.core.actions import Decision
from bus.core.errors import BusError
from bus.core.outputs import child_trace
from bus.shell.telemetry.spans import SpanRecorder, Traced, otlp_exporter, parse_traceparent
from tests.telemetry_samples import failed, message, output, routed

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Collector:
    """What an OTLP collector has received, and how it answers."""

    port: int = 0
    status: int = 200
    paths: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def take(self, path: str, body: bytes) -> None:
        self.paths.append(path)
        if self.status != 200:
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    received = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, template: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield received
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Counted:
    exported: int = 0
    dropped: int = 0

    def __call__(self, exported: int, dropped: int) -> None:
        self.exported += exported
        self.dropped += dropped


def traced(decision: Decision) -> Traced:
    return Traced(decision, "ns.ingress.00", received_s=100.0, decided_s=100.25, confirmed_s=100.5)


def export(collector: Collector, *decisions: Decision) -> tuple[Counted, list[Span]]:
    """Record, close, and return what was counted and received: closing flushes."""
    counted = Counted()
    exporter = otlp_exporter(f"http://127.0.0.1:{collector.port}", timeout_s=2.0)
    recorder = SpanRecorder(exporter, "ns", "1.2.3", counted, interval_s=60.0)
    for decision in decisions:
        recorder.record(traced(decision))
    recorder.close()
    return counted, collector.spans


def attributes(span: Span) -> dict[str, str | int]:
    return {
        a.key: a.value.int_value if a.value.HasField("int_value") else a.value.string_value for a in span.attributes
    }


def test_spans_join_the_trace_on_the_wire(collector: Collector) -> None:
    asked = message(conversationid="c-9", traceparent=f"00-{TRACE}-{PARENT}-01")
    sent = output(id_="1234567890abcdef" + "0" * 16)
    counted, spans = export(collector, routed(sent, output("event", "order.billed"), of=asked))
    process, publish, event = spans
    assert (counted.exported, counted.dropped) == (1, 0)
    assert collector.paths == ["/v1/traces"]
    assert collector.services == {"agentbus"}

    assert process.name == "process ns.ingress.00"
    assert process.kind == Span.SPAN_KIND_CONSUMER
    assert (process.trace_id.hex(), process.parent_span_id.hex()) == (TRACE, PARENT)
    assert (process.start_time_unix_nano, process.end_time_unix_nano) == (100 * 10**9, 100_500_000_000)
    assert attributes(process) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "ns.ingress.00",
        "messaging.message.id": "m-1",
        "messaging.message.conversation_id": "c-9",
        "agentbus.message.type": "order.placed",
        "agentbus.route": "shop/orders",
        "agentbus.end": "routed",
    }

    carried = parse_traceparent(child_trace(asked, sent.id))
    assert carried is not None
    assert publish.name == "publish ns.capability.score"
    assert publish.kind == Span.SPAN_KIND_PRODUCER
    assert (int(publish.trace_id.hex(), 16), int(publish.span_id.hex(), 16)) == (carried.trace, carried.span)
    assert publish.parent_span_id == process.span_id
    assert publish.start_time_unix_nano == 100_250_000_000
    assert attributes(publish)["messaging.operation.type"] == "send"
    assert event.name == "publish ns.events"
    assert attributes(event)["messaging.destination.name"] == "ns.events:order.billed"


def test_a_message_without_a_trace_starts_its_conversations_own(collector: Collector) -> None:
    first = message(conversationid="c-9")
    _, spans = export(collector, routed(of=first), routed(of=message(id_="m-2", conversationid="c-9")))
    carried = parse_traceparent(child_trace(first, "ab" * 16))
    assert carried is not None
    assert {int(span.trace_id.hex(), 16) for span in spans} == {carried.trace}
    assert {span.parent_span_id for span in spans if span.kind == Span.SPAN_KIND_CONSUMER} == {b""}


def test_a_failure_is_an_error_with_its_code(collector: Collector) -> None:
    _, (process, *_) = export(collector, failed("invalid", "contract", "not-json"))
    assert process.status.code == Status.STATUS_CODE_ERROR
    assert attributes(process)["error.type"] == "not-json"
    assert attributes(process)["agentbus.end"] == "invalid"


def test_a_sender_that_wants_no_sampling_is_obeyed(collector: Collector) -> None:
    _, spans = export(collector, routed(of=message(traceparent=f"00-{TRACE}-{PARENT}-00")))
    assert spans == []


@pytest.mark.parametrize(
    "evil",
    [
        "",
        "x" * 55,
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        "\n" * 55,
    ],
)
def test_a_traceparent_that_is_none_does_no_harm(collector: Collector, evil: str) -> None:
    assert parse_traceparent(evil) is None
    passed_on = output("ingress", "order.placed", id_="not hex at all")
    counted, spans = export(collector, routed(passed_on, of=message(id_="not hex at all", traceparent=evil)))
    assert (counted.exported, len(spans)) == (1, 2)
    assert all(any(span.trace_id) and any(span.span_id) for span in spans)


def test_a_message_passed_on_under_its_own_id_does_not_take_its_makers_span(collector: Collector) -> None:
    own = PARENT + "0" * 16
    asked = message(id_=own, traceparent=f"00-{TRACE}-{PARENT}-01")
    _, (_, publish) = export(collector, routed(output("ingress", "order.placed", id_=own), of=asked))
    assert publish.span_id.hex() != PARENT


def test_a_collector_that_refuses_is_counted(collector: Collector) -> None:
    collector.status = 400
    counted, spans = export(collector, routed(), routed())
    assert (counted.exported, counted.dropped) == (0, 2)
    assert spans == []


class Stalled(SpanExporter):
    """A collector that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.reached, self.let_go = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.reached.set()
        self.let_go.wait(10)
        return SpanExportResult.SUCCESS


def test_a_stalled_collector_neither_blocks_nor_fills_memory() -> None:
    counted, stalled = Counted(), Stalled()
    recorder = SpanRecorder(stalled, "ns", "1.2.3", counted, queue=10, interval_s=0.01)
    recorder.record(traced(routed()))
    assert stalled.reached.wait(10)
    for _ in range(25):
        recorder.record(traced(routed()))  # returns at once, though nobody takes them
    stalled.let_go.set()
    recorder.close()
    assert (counted.exported, counted.dropped) == (11, 15)


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://x", "http://"])
def test_a_wrong_endpoint_says_what_to_write(endpoint: str) -> None:
    with pytest.raises(BusError, match="write e"):
        otlp_exporter(endpoint)


def test_an_endpoint_with_a_path_is_taken_as_it_is(collector: Collector) -> None:
    recorder = SpanRecorder(otlp_exporter(f"http://127.0.0.1:{collector.port}/ingest"), "ns", "1", Counted())
    recorder.record(traced(routed()))
    recorder.close()
    assert collector.paths == ["/ingest"]
