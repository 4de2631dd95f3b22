"""Spans of the bus, exported over OTLP/HTTP when an endpoint is configured.

Theory of operation. The trace context travels on the wire whether or not anybody exports it: an output's
`traceparent` names the message's trace and, as its span, the first 16 hex digits of the output's id. So the spans
need no context of their own at run time. They are derived here, afterwards, from the decision:

    agent's own span                          the message's traceparent
      `process NS.ingress.00`   CONSUMER      received -> confirmed; a random span id
        `publish NS.agent.x`    PRODUCER      decided -> confirmed; its id is in the output's traceparent
          the next agent's own span

The loop thread only appends a tuple to a bounded queue; when that is full the message goes untraced and is counted.
A thread takes what has gathered once in `interval_s`, builds the spans with the SDK and sends them. Both bounds
together limit what tracing may cost the bus. A sender that asked for no sampling is obeyed.

The names are those of OpenTelemetry's semantic conventions for messaging; the SDK's incubating constants move
between releases, so they are spelled here, in one place.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bus.core import naming
from bus.core.actions import Decision, Output
from bus.core.errors import BusError
from bus.core.message import TRACEPARENT, Message
from bus.core.outputs import child_trace
from bus.shell.ledger import Open

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext, SpanKind

_log = logging.getLogger(__name__)

SYSTEM = "messaging.system"
OPERATION_TYPE, OPERATION_NAME = "messaging.operation.type", "messaging.operation.name"
DESTINATION, ROUTING_KEY = "messaging.destination.name", "messaging.rabbitmq.destination.routing_key"
MESSAGE_ID, CONVERSATION_ID = "messaging.message.id", "messaging.message.conversation_id"
BODY_SIZE = "messaging.message.body.size"
ERROR_TYPE = "error.type"
ROUTE, END, TYPE = "agentbus.route", "agentbus.end", "agentbus.message.type"

QUEUE = 512  # messages that may wait: at some 0.3 ms each to build and encode, a sixth of one core at worst
INTERVAL_S = 1.0
_BATCH = 256  # messages a request; with their outputs about the SDK's own default of 512 spans
_SEND_S = 5.0  # longest a request may take, with its retries
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")
_TEXT_CHARS = 256  # longest attribute value taken from a message


@dataclass(frozen=True, slots=True)
class Traced:
    """One finished message. Times are epoch seconds.

    Args:
        queue: the queue it came from.
        received_s, decided_s, confirmed_s: when it came, was decided, and had its last output confirmed.
    """

    decision: Decision
    queue: str
    received_s: float
    decided_s: float
    confirmed_s: float


@dataclass(frozen=True, slots=True)
class TraceContext:
    """What a W3C traceparent says."""

    trace: int
    span: int
    sampled: bool


def parse_traceparent(text: object) -> TraceContext | None:
    """Read a version 00 traceparent; None when it is none."""
    match = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    return TraceContext(int(match[1], 16), int(match[2], 16), bool(int(match[3], 16) & 1))


class SpanRecorder:
    """Takes finished messages and exports their spans from a thread of its own.

    Args:
        exporter: where the spans go; `otlp_exporter` makes the usual one.
        namespace: of the bus.
        version: of the bus, for the resource.
        count: called after each round with how many messages were exported and how many dropped.
        queue: messages that may wait.
        interval_s: seconds between rounds.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        namespace: str,
        version: str,
        count: Callable[[int, int], None],
        queue: int = QUEUE,
        interval_s: float = INTERVAL_S,
    ) -> None:
        from opentelemetry.sdk.resources import Resource

        self._exporter, self._namespace, self._count = exporter, namespace, count
        self._resource = Resource.create(
            {"service.name": "agentbus", "service.namespace": namespace, "service.version": version}
        )
        self._queue: deque[Traced] = deque()
        self._bound, self._interval_s, self._dropped = queue, interval_s, 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def finished(self, opened: Open, now_s: float) -> None:
        """Take what the worker has finished; what it read back after a restart has no decision."""
        if opened.decision is not None:
            self.record(Traced(opened.decision, opened.queue, opened.received_s, opened.decided_s, now_s))

    def record(self, traced: Traced) -> None:
        """Take one finished message. Called on the loop thread; never waits."""
        if len(self._queue) < self._bound and not self._closing.is_set():
            self._queue.append(traced)
        else:
            self._dropped += 1

    def close(self, seconds: float = 2 * _SEND_S) -> None:
        """Export what is waiting and stop; give up after `seconds`."""
        self._closing.set()
        self._thread.join(seconds)
        self._exporter.shutdown()

    def _run(self) -> None:
        told, closing = 0, False
        while not closing:
            closing = self._closing.wait(self._interval_s)
            waiting = [self._queue.popleft() for _ in range(len(self._queue))]
            lost = self._send(waiting)
            refused = self._dropped - told
            told += refused
            if waiting or refused:
                self._count(len(waiting) - lost, refused + lost)

    def _send(self, waiting: list[Traced]) -> int:
        """Export; returns how many messages were lost."""
        batches = [waiting[start : start + _BATCH] for start in range(0, len(waiting), _BATCH)]
        return sum(len(batch) for batch in batches if not self._exported(batch))

    def _exported(self, batch: list[Traced]) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            spans = [span for traced in batch for span in spans_of(traced, self._namespace, self._resource)]
            return not spans or self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001 - whatever is wrong with spans or their collector, it must not touch the bus
            _log.exception("spans could not be exported")
            return False


def recorder_for(
    endpoint: str | None, namespace: str, version: str, count: Callable[[int, int], None]
) -> SpanRecorder | None:
    """Record spans for a collector, if there is one; see `SpanRecorder` and `otlp_exporter`."""
    return SpanRecorder(otlp_exporter(endpoint), namespace, version, count) if endpoint else None


def otlp_exporter(endpoint: str, timeout_s: float = _SEND_S) -> SpanExporter:
    """Make an OTLP/HTTP exporter.

    Args:
        endpoint: the collector, e.g. `http://localhost:4318`; `/v1/traces` is added unless it has a path.
        timeout_s: longest a request may take, with its retries.

    Raises:
        BusError: not a URL, or the extra is not installed.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BusError(f"OTLP endpoint `{endpoint}` is no URL; write e.g. http://localhost:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise BusError("exporting spans needs an extra; install `agentbus[otlp]`, or unset the endpoint") from error
    url = endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"
    return OTLPSpanExporter(endpoint=url, timeout=timeout_s)


def spans_of(traced: Traced, namespace: str, resource: Resource) -> Iterator[ReadableSpan]:
    """Yield the process span of a message and the publish span of each output; none when it is not sampled."""
    from opentelemetry.trace import SpanKind

    decision, message = traced.decision, traced.decision.message
    context, parent = _contexts(message)
    if not context.trace_flags.sampled:
        return
    start, decided, end = (int(at * 1e9) for at in (traced.received_s, traced.decided_s, traced.confirmed_s))
    build = _Builder(resource)
    attributes = _process_attributes(traced)
    failed = decision.failure.code if decision.failure is not None else None
    yield build.span(f"process {traced.queue}", SpanKind.CONSUMER, context, parent, attributes, (start, end), failed)
    for output in decision.outputs:
        own = _span_context(context.trace_id, _span_id(output, message), sampled=True)
        name, attributes = _publish(output, namespace)
        yield build.span(f"publish {name}", SpanKind.PRODUCER, own, context, attributes, (decided, end))


def _span_id(output: Output, message: Message | None) -> int:
    """Return the span id that the output carries. A message that is only passed on, under its own id, carries the
    span of whoever made it, so its hop gets an id of its own."""
    passed_on = message is not None and output.id == message.id
    if passed_on or not _SPAN_ID.match(output.id):
        return int(secrets.token_hex(8), 16) or 1
    return int(output.id[:16], 16)


class _Builder:
    """Makes finished spans with given ids: the SDK's own way to start one would make its id up."""

    def __init__(self, resource: Resource) -> None:
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = resource
        self._scope = InstrumentationScope("agentbus")

    def span(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, str | int],
        times_ns: tuple[int, int],
        failed: str | None = None,
    ) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Status, StatusCode

        if failed is not None:
            attributes[ERROR_TYPE] = failed
        return ReadableSpan(
            name=name,
            kind=kind,
            context=context,
            parent=parent,
            resource=self._resource,
            instrumentation_scope=self._scope,
            attributes=attributes,
            status=Status(StatusCode.ERROR if failed is not None else StatusCode.UNSET),
            start_time=times_ns[0],
            end_time=times_ns[1],
        )


def _contexts(message: Message | None) -> tuple[SpanContext, SpanContext | None]:
    """Return the process span's own context and its parent's, as the outputs of this message carry them."""
    own = secrets.token_hex(8)
    if message is None:
        return _span_context(secrets.randbits(128) or 1, int(own, 16) or 1, sampled=True), None
    parent = parse_traceparent(message.attributes.get(TRACEPARENT))
    carried = parse_traceparent(child_trace(message, own))
    if carried is None:  # the message carries a trace that is none; its outputs do too
        return _span_context(secrets.randbits(128) or 1, int(own, 16) or 1, sampled=True), None
    context = _span_context(carried.trace, carried.span, sampled=carried.sampled)
    if parent is None:
        return context, None
    return context, _span_context(parent.trace, parent.span, sampled=parent.sampled, remote=True)


def _span_context(trace: int, span: int, *, sampled: bool, remote: bool = False) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace, span, remote, TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT))


def _process_attributes(traced: Traced) -> dict[str, str | int]:
    decision, message = traced.decision, traced.decision.message
    attributes: dict[str, str | int] = {
        SYSTEM: "rabbitmq",
        OPERATION_TYPE: "process",
        OPERATION_NAME: "process",
        DESTINATION: traced.queue,
        END: decision.end,
    }
    if decision.route is not None:
        attributes[ROUTE] = decision.route
    if message is not None:
        attributes[MESSAGE_ID] = message.id[:_TEXT_CHARS]
        attributes[CONVERSATION_ID] = message.conversation[:_TEXT_CHARS]
        attributes[TYPE] = message.type[:_TEXT_CHARS]
    return attributes


def _publish(output: Output, namespace: str) -> tuple[str, dict[str, str | int]]:
    """Return where an output goes, as a span names it, and its attributes."""
    exchange, key = _destination(output, namespace)
    attributes: dict[str, str | int] = {
        SYSTEM: "rabbitmq",
        OPERATION_TYPE: "send",
        OPERATION_NAME: "publish",
        DESTINATION: f"{exchange}:{key}" if exchange and key else exchange or key,
        ROUTING_KEY: key or output.conversation[:_TEXT_CHARS],
        MESSAGE_ID: output.id,
        CONVERSATION_ID: output.conversation[:_TEXT_CHARS],
        BODY_SIZE: len(output.body),
        TYPE: output.type[:_TEXT_CHARS],
    }
    return exchange or key, attributes


def _destination(output: Output, namespace: str) -> tuple[str, str]:
    """Return the exchange and the key that names a place; "" where the key is the conversation."""
    if output.kind == "event":
        return naming.events_exchange(namespace), output.name
    if output.kind == "ingress":
        return naming.ingress_exchange(namespace), ""
    queues = {
        "agent": naming.agent_queue,
        "capability": naming.capability_queue,
        "client": naming.client_queue,
    }
    if output.kind in queues:
        return "", queues[output.kind](namespace, output.name)
    return "", naming.dead_queue(namespace) if output.kind == "dead" else naming.invalid_queue(namespace)
