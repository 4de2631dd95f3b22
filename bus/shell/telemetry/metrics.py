"""The meter: what the worker tells of itself, as Prometheus metrics.

Theory of operation. The worker calls the meter on its loop thread, some calls per batch and one per finished
message, so these calls must cost next to nothing. They only add to plain integers in dictionaries. prometheus-client
enters when somebody scrapes: `_Collector.collect` turns the numbers into metric families then. One thread writes a
number and another reads it; a scrape may see a batch half counted, which the next scrape completes.

Labels come from the configuration, never from an agent: every configured label exists from the start with the
value 0, so that panels show 0 and `increase()` sees the first event, and everything else counts as `other`.
Therefore the number of series is bounded by the configuration.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bus.core.actions import ROWS, Decision, End
from bus.core.errors import FAILURE_CLASSES
from bus.core.message import FAILED
from bus.core.route import Catalog
from bus.shell.reload import RESULTS

OTHER = "other"  # a label value that the configuration does not know
NONE = "none"  # no route owned the message, or the target's kind has no names in the configuration

ENDS: tuple[End, ...] = End.__args__  # type: ignore[attr-defined]
NAMED_KINDS = ("agent", "capability", "event", "ingress")
UNNAMED_KINDS = ("client", "dead", "invalid", *ROWS)
EXCEPTIONS = ("returned", "dead_letter", "expired", "parked")

INVALID_CODES: tuple[str, ...] = (
    "contract", "not-json", "not-utf8", "not-an-object", "lone-surrogate", "duplicate-key", "number-too-big", "too-big",
    "too-deep", "bad-attribute", "missing-attribute", "too-many-attributes", "property-mismatch",
    "unsupported-content-type", "unknown-agent", "not-you", "not-published", "reserved-attribute",
    "bad-return-address", "unsolicited-reply",
    "unknown-capability", "id-reused", "label", "upcast", "not-an-operator", "bad-control",
)  # fmt: skip
DEAD_CODES: tuple[str, ...] = (
    "no_route", "hops", "expression", "returned", "bounced", "delivery_limit", "rejected", "queue_full", "parked",
    "poison", "bus-fault", "lease", "label", "join", "configuration", *FAILURE_CLASSES,
)  # fmt: skip
"""Reason codes of each channel that have a series from the start; a test keeps them in step with the core."""
TOLD_CODES: tuple[str, ...] = ("superseded",)
"""Reason codes that an agent is told and that end no message."""
CODES = frozenset((*INVALID_CODES, *DEAD_CODES, *TOLD_CODES))
"""Codes that are counted under their own name in either channel; any other is `other`."""

END_TO_END_S = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds, seconds: half a millisecond is the floor of one fsync, a minute is a held message."""
STAGE_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

Labels: TypeAlias = tuple[str, ...]
Counts: TypeAlias = "dict[Labels, int]"


class NullMeter:
    """A meter that measures nothing."""

    def decided(self, decisions: Sequence[Decision], seconds: float) -> None: ...
    def committed(self, entries: int, seconds: float) -> None: ...
    def confirmed(self, outputs: int, oldest_seconds: float) -> None: ...
    def finished(self, decision: Decision, seconds: float) -> None: ...
    def retried(self, target: str) -> None: ...
    def in_flight(self, inputs: int, outputs: int) -> None: ...
    def connected(self, up: bool) -> None: ...
    def blocked(self, blocked: bool) -> None: ...
    def store_up(self, up: bool) -> None: ...
    def owns(self, partitions: int) -> None: ...
    def excepted(self, how: str, code: str, outputs: int) -> None: ...
    def configured(self, catalog: Catalog) -> None: ...


class PrometheusMeter:
    """A meter for one process, on a registry of its own.

    Args:
        catalog: the configuration; the only source of label values.
        version: version of the bus, for `agentbus_build_info`.
    """

    def __init__(self, catalog: Catalog, version: str) -> None:
        self.registry = CollectorRegistry()
        self._version = version
        self._messages: Counts = {}
        self._outputs: Counts = {}
        self._retries: Counts = {}
        self._violations: Counts = {}
        self._invalid: Counts = {(code,): 0 for code in (*INVALID_CODES, OTHER)}
        self._dead: Counts = {(code,): 0 for code in (*DEAD_CODES, OTHER)}
        self._exceptions: Counts = {(how,): 0 for how in (*EXCEPTIONS, OTHER)}
        self._spans: Counts = {("exported",): 0, ("dropped",): 0}
        self._reloads: Counts = {(result,): 0 for result in RESULTS}
        self._end_to_end = _Histogram(END_TO_END_S)
        self._stages = {stage: _Histogram(STAGE_S) for stage in ("decide", "commit", "confirm")}
        self._entries = self._commits = self._confirmed = self._reconnects = 0
        self._in_flight = (0, 0)
        self._connected = self._blocked = self._store_up = False
        self._owned = 0
        self.configured(catalog)
        self.registry.register(_Collector(self))
        ProcessCollector(registry=self.registry)

    def configured(self, catalog: Catalog) -> None:
        """Take the labels of a new configuration; what was counted under the old one stays."""
        self._catalog = catalog
        self._types = _types(catalog)
        _start(self._messages, ((route, end) for route in (*self._routes(), NONE, OTHER) for end in ENDS))
        for counts in (self._outputs, self._retries):
            _start(counts, (("agent", name) for name in catalog.agents))
            _start(counts, (("capability", name) for name in catalog.capabilities))
            _start(counts, ((kind, name) for kind in ("event", "ingress") for name in self._types))
            _start(counts, ((kind, OTHER) for kind in NAMED_KINDS))
            _start(counts, ((kind, NONE) for kind in UNNAMED_KINDS))
        _start(self._violations, ((NONE, kind) for kind in (*self._types, OTHER)))
        _start(self._violations, ((r.name, kind) for r in catalog.routes for kind in r.match.types if "*" not in kind))

    # --- called by the worker -------------------------------------------------------------------------------------

    def decided(self, decisions: Sequence[Decision], seconds: float) -> None:
        """Count a batch by route and end, its outputs by target, and its failures.

        Args:
            decisions: the batch.
            seconds: how long deciding the whole batch took.
        """
        self._stages["decide"].observe(seconds)
        messages, outputs = self._messages, self._outputs
        for decision in decisions:
            end = decision.end
            key = (decision.route or NONE, end)
            if key not in messages:
                key = (OTHER, end)
            messages[key] += 1
            for output in decision.outputs:
                target: Labels = (output.kind, output.name)
                if target not in outputs:
                    target = self._unknown(*target)
                outputs[target] += 1
            if end != "routed" or decision.failure is not None:
                self._failed(decision)

    def committed(self, entries: int, seconds: float) -> None:
        """Count one store commit of `entries` entries that took `seconds`."""
        self._commits += 1
        self._entries += entries
        self._stages["commit"].observe(seconds)

    def confirmed(self, outputs: int, oldest_seconds: float) -> None:
        """Count outputs that the broker confirmed; the oldest of them waited `oldest_seconds` since its publish."""
        self._confirmed += outputs
        self._stages["confirm"].observe(oldest_seconds)

    def finished(self, decision: Decision, seconds: float) -> None:
        """Observe one input whose outputs are all confirmed, `seconds` after it was received."""
        self._end_to_end.observe(seconds)

    def retried(self, target: str) -> None:
        """Count one more try of an output; `target` as in `Output.target`."""
        kind, _, name = target.partition(":")
        key = (kind, name)
        self._retries[key if key in self._retries else self._unknown(kind, name)] += 1

    def in_flight(self, inputs: int, outputs: int) -> None:
        """Set how many inputs are not acked and how many outputs are not confirmed."""
        self._in_flight = (inputs, outputs)

    def connected(self, up: bool) -> None:
        """Set whether both broker connections are up, and count each loss."""
        if self._connected and not up:
            self._reconnects += 1
        self._connected = up

    def store_up(self, up: bool) -> None:
        """Set whether the store takes commits."""
        self._store_up = up

    def owns(self, partitions: int) -> None:
        """Set how many partitions this worker owns."""
        self._owned = partitions

    def blocked(self, blocked: bool) -> None:
        """Set whether the broker blocks publishing by a memory or disk alarm."""
        self._blocked = blocked

    def excepted(self, how: str, code: str, outputs: int) -> None:
        """Count outputs that did not end as delivered after they were decided.

        Args:
            how: `Excepted.how`.
            code: reason code of the dead letter that each became.
            outputs: how many.
        """
        self._exceptions[(how,) if (how,) in self._exceptions else (OTHER,)] += outputs
        if how != "expired":
            _count_code(self._dead, code, outputs)

    def spans(self, exported: int, dropped: int) -> None:
        """Count messages whose spans were exported, and those that were dropped; called by the exporting thread."""
        self._spans[("exported",)] += exported
        self._spans[("dropped",)] += dropped

    def reloaded(self, result: str) -> None:
        """Count a change of the configuration that was asked for; called by the thread that makes it."""
        self._reloads[(result,)] += 1

    # --- labels ---------------------------------------------------------------------------------------------------

    def _unknown(self, kind: str, name: str) -> Labels:
        """Return the labels of a target that has no series of its own."""
        if kind in UNNAMED_KINDS:
            return (kind, NONE)
        return (kind, OTHER) if kind in NAMED_KINDS else ("event", OTHER)

    def _routes(self) -> Iterator[str]:
        return (route.name for route in self._catalog.routes)

    def _failed(self, decision: Decision) -> None:
        failure, kinds = decision.failure, [output.kind for output in decision.outputs]
        code = failure.code if failure is not None else OTHER
        if decision.end == "dead_letter" or "dead" in kinds:
            _count_code(self._dead, code, 1)
        if decision.end == "invalid" or "invalid" in kinds:
            _count_code(self._invalid, code, 1)
        if failure is not None and (failure.code == "contract" or failure.findings):
            self._violated(decision)

    def _violated(self, decision: Decision) -> None:
        kind = decision.message.type if decision.message is not None else OTHER
        route = decision.route or NONE
        key = (
            route if (route, decision.end) in self._messages else OTHER,
            kind if kind in self._types else OTHER,
        )
        self._violations[key] = self._violations.get(key, 0) + 1

    # --- read by the collector ------------------------------------------------------------------------------------

    def families(self) -> Iterator[Metric]:
        """Yield every metric family as it stands now."""
        yield _counter("agentbus_messages", "Messages decided.", ("route", "end"), self._messages)
        yield _counter("agentbus_outputs", "Outputs decided.", ("kind", "target"), self._outputs)
        yield _counter("agentbus_retries", "Outputs tried again.", ("kind", "target"), self._retries)
        yield _counter("agentbus_invalid", "Messages to the Invalid Message Channel.", ("code",), self._invalid)
        yield _counter("agentbus_dead_letters", "Messages to the Dead Letter Channel.", ("code",), self._dead)
        yield _counter("agentbus_exceptions", "Outputs not delivered, though decided.", ("how",), self._exceptions)
        yield _counter("agentbus_contract_violations", "Broken contracts.", ("route", "type"), self._violations)
        yield _counter("agentbus_spans", "Messages traced over OTLP.", ("result",), self._spans)
        reloads = "Times that the configuration was read again, by what came of it."
        yield _counter("agentbus_config_reloads", reloads, ("result",), self._reloads)
        yield _counter("agentbus_outputs_confirmed", "Outputs confirmed.", (), {(): self._confirmed})
        yield _counter("agentbus_store_commits", "Store commits.", (), {(): self._commits})
        yield _counter("agentbus_store_entries", "Entries committed.", (), {(): self._entries})
        yield _counter("agentbus_connection_losses", "Broker connections lost.", (), {(): self._reconnects})
        yield self._end_to_end.family("agentbus_end_to_end_seconds", "From received to every output confirmed.")
        for stage, histogram in self._stages.items():
            yield histogram.family(f"agentbus_{stage}_seconds", _STAGE_HELP[stage])
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        inputs, outputs = self._in_flight
        yield GaugeMetricFamily("agentbus_inputs_in_flight", "Messages received and not yet acked.", inputs)
        yield GaugeMetricFamily("agentbus_outputs_in_flight", "Outputs published, not yet confirmed.", outputs)
        yield GaugeMetricFamily("agentbus_connected", "1 while both broker connections are up.", self._connected)
        yield GaugeMetricFamily("agentbus_store_up", "1 while the store takes commits.", self._store_up)
        yield GaugeMetricFamily("agentbus_partitions_owned", "Partitions of this worker; 0: a standby.", self._owned)
        yield GaugeMetricFamily("agentbus_blocked", "1 while the broker blocks publishing.", self._blocked)
        catalog = self._catalog
        yield GaugeMetricFamily("agentbus_config_routes", "Routes configured.", len(catalog.routes))
        yield GaugeMetricFamily("agentbus_config_agents", "Agents configured.", len(catalog.agents))
        yield _info("agentbus_config_info", "The configuration in force.", {"version": catalog.version})
        build = {"version": self._version, "python": platform.python_version()}
        yield _info("agentbus_build_info", "The running bus.", build)


_STAGE_HELP = {
    "decide": "Deciding a batch of messages.",
    "commit": "Committing a batch to the store.",
    "confirm": "From publish to confirm, of the oldest output of each round of confirms.",
}


class _Collector(Collector):
    """What the registry asks at each scrape."""

    def __init__(self, meter: PrometheusMeter) -> None:
        self._meter = meter

    def collect(self) -> Iterable[Metric]:
        return self._meter.families()

    def describe(self) -> Iterable[Metric]:
        return ()  # names are known to be unique; without this, registering would collect once


class _Histogram:
    """Counts per bucket, not yet cumulative, so that an observation is one addition."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def family(self, name: str, text: str) -> Metric:
        buckets, below = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._total)


def _start(counts: Counts, keys: Iterable[Labels]) -> None:
    for key in keys:
        counts.setdefault(key, 0)


def _count_code(counts: Counts, code: str, more: int) -> None:
    key = (code if code in CODES else OTHER,)
    counts[key] = counts.get(key, 0) + more


def _types(catalog: Catalog) -> frozenset[str]:
    """Return every message type that the configuration names, globs left out."""
    named = {FAILED, *catalog.types}
    for capability in catalog.capabilities:
        named.update(f"{capability}.{what}" for what in ("requested", "replied", "failed"))
    for agent in catalog.agents.values():
        named.update(agent.publishes, agent.subscribes)
    for route in catalog.routes:
        named.update(route.match.types)
    return frozenset(name for name in named if "*" not in name)


def _counter(name: str, text: str, labels: Sequence[str], counts: Counts) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in list(counts.items()):
        family.add_metric(key, count)
    return family


def _info(name: str, text: str, labels: dict[str, str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family
