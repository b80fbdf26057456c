"""Numbers by OTLP to a collector: OpenTelemetry's exporter, given points with times of their own.

Its SDK's instruments are not used: they would keep the latest of several values, and send from a thread of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kourou import errors
from kourou.extras import load_extra
from kourou.runtime.metrics.families import Buckets, Family, Point

_HTTP = "opentelemetry.exporter.otlp.proto.http"
_NS = 1_000_000_000


def resource(run: str, program: str, **more: str) -> Any:
    """Whose numbers or spans they are: OpenTelemetry's attributes of a process's environment count as well."""
    attributes = {"service.name": program, "service.instance.id": run, **more}
    return load_extra("opentelemetry.sdk.resources").Resource.create(attributes)


def signal_url(collector: str, signal: str) -> str | None:
    """Where a collector takes metrics or traces; None: where OpenTelemetry's environment variables say."""
    return f"{collector.rstrip('/')}/v1/{signal}" if collector else None


class MetricSender:
    """Sends the numbers of one run. Its owner closes it.

    Args:
        run: its name.
        program: its program's.
        since: Unix time from which counters and histograms count.
        collector: the base of an OTLP/HTTP collector's address; empty: as OpenTelemetry's environment variables say.

    Raises:
        MissingExtra: OpenTelemetry's exporter is not installed.
    """

    def __init__(self, run: str, program: str, *, since: float = 0.0, collector: str = "") -> None:
        exporter = load_extra(f"{_HTTP}.metric_exporter").OTLPMetricExporter
        self._sdk: Any = load_extra("opentelemetry.sdk.metrics.export")
        self._exporter = exporter(endpoint=signal_url(collector, "metrics"))
        self._resource = resource(run, program)
        scope = load_extra("opentelemetry.sdk.util.instrumentation").InstrumentationScope
        self._scope = scope("kourou")
        self._since_ns = int(since * _NS)

    def send(self, families: Iterable[Family]) -> None:
        """Send them all.

        Raises:
            ServerUnavailable: the collector did not take them.
        """
        metrics = [
            self._sdk.Metric(family.name, family.text, family.unit, self._data(family, family.points))
            for family in families
        ]
        scoped = self._sdk.ScopeMetrics(self._scope, metrics, "")
        data = self._sdk.MetricsData([self._sdk.ResourceMetrics(self._resource, [scoped], "")])
        if self._exporter.export(data) is not self._sdk.MetricExportResult.SUCCESS:
            raise errors.ServerUnavailable("the OpenTelemetry collector took no metrics; its exporter has logged why")

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()

    def _data(self, family: Family, points: Sequence[Point]) -> Any:
        made = [self._point(point) for point in points]
        total = self._sdk.AggregationTemporality.CUMULATIVE
        if family.kind == "histogram":
            return self._sdk.Histogram(made, total)
        return self._sdk.Gauge(made) if family.kind == "gauge" else self._sdk.Sum(made, total, is_monotonic=True)

    def _point(self, point: Point) -> Any:
        at_ns, value = int(point.at * _NS), point.value
        if not isinstance(value, Buckets):
            return self._sdk.NumberDataPoint(dict(point.attributes), self._since_ns, at_ns, value)
        count, least, most = sum(value.counts), None, None  # the smallest and the largest are not known
        return self._sdk.HistogramDataPoint(
            dict(point.attributes), self._since_ns, at_ns, count, value.total, value.counts, value.bounds, least, most
        )
