"""What the gateway tells of itself, as Prometheus metrics; labels come from the configuration, as everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bus.core.route import Catalog

NONE = "none"  # no entry takes such a request
STATUSES = (200, 202, 400, 413, 415, 422, 503, 504)
"""What each entry may answer; a series stands for each from the start."""


class GatewayMeter(Collector):
    """Counts answers; the event loop writes, a scrape reads.

    Args:
        catalog: its entrances are the label values.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._answers = {(each.name, status): 0 for each in catalog.entrances for status in STATUSES}
        self.held: Callable[[], int] = lambda: 0

    def answered(self, entrance: str, status: int) -> None:
        """A request was answered; `entrance` is `integration/entry`, or NONE."""
        key = entrance, status
        self._answers[key] = self._answers.get(key, 0) + 1

    def collect(self) -> Iterable[Metric]:
        """Every metric as it stands now."""
        family = CounterMetricFamily("agentbus_gateway_requests", "HTTP requests answered.", labels=("entry", "status"))
        for (entrance, status), count in list(self._answers.items()):
            family.add_metric((entrance, str(status)), count)
        yield family
        yield GaugeMetricFamily("agentbus_gateway_held", "HTTP requests that wait for an answer.", self.held())

    def describe(self) -> Iterable[Metric]:
        return ()
