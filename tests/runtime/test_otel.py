"""What an OpenTelemetry collector gets: numbers and spans, by its own messages over HTTP."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kourou import errors
from kourou.cli.status.export import export_metrics
from kourou.courier.core.trace import Recording, Span
from kourou.courier.serving.methods import MethodMetrics
from kourou.runtime.metrics import rows, writing
from kourou.runtime.metrics.otel import MetricSender
from kourou.runtime.metrics.reading import read_metrics
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.model.status import RunState, RunStatus
from kourou.runtime.monitoring.numbers import families
from kourou.runtime.monitoring.otel_spans import linked, send_spans
from kourou.runtime.monitoring.sampling import NodeSample, RunSample
from kourou.runtime.monitoring.trace import Traced
from optional import optional

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

metrics_pb2 = optional("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
traces_pb2 = optional("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
NOW = 1_790_000_000.0


class Collector(http.server.HTTPServer):
    """Keeps what it is sent; answers with ``code``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.code = 200
        self.metrics: dict[str, Any] = {}
        self.spans: dict[str, list[Any]] = {}

    def take(self, path: str, data: bytes) -> None:
        if path == "/v1/metrics":
            for of_resource in metrics_pb2.ExportMetricsServiceRequest.FromString(data).resource_metrics:
                assert plain(of_resource.resource.attributes)["service.name"] == "program"
                for scope in of_resource.scope_metrics:
                    self.metrics.update({metric.name: metric for metric in scope.metrics})
        else:
            for of_resource in traces_pb2.ExportTraceServiceRequest.FromString(data).resource_spans:
                node = plain(of_resource.resource.attributes)["node"]
                self.spans.setdefault(node, []).extend(span for one in of_resource.scope_spans for span in one.spans)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.code == 200:
            self.server.take(self.path, data)
        self.send_response(self.server.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def test_a_run_is_sent_under_opentelemetrys_names(collector: Collector) -> None:
    node = NodeRecord(name="learner/0", state=NodeState.READY, attempt=2)
    status = RunStatus(
        run_id="r", program="program", launch_type="local_mp", state=RunState.RUNNING, started_at=NOW, nodes=(node,)
    )
    figures = NodeSample(memory_bytes=1 << 20, metrics={"step": 1, "loss": 0.5})
    sample = RunSample(status=status, taken_at=NOW + 9, nodes={"learner/0": figures}, launcher=NodeSample())
    counts = [0] * 40
    counts[10], counts[30] = 3, 1
    sizes = {"bytes_in": 0, "bytes_out": 0}
    calls = MethodMetrics(calls=4, errors=1, in_flight=0, seconds=2.5, latency_us_log2=tuple(counts), **sizes)
    sender = MetricSender("r", "program", since=NOW, collector=collector.url)
    sender.send(families(sample, {"learner/0": {"add": calls}}))
    sender.close()
    assert {name: one.unit for name, one in collector.metrics.items()} == {
        "kourou.node.up": "",
        "kourou.node.attempts": "",
        "process.memory.usage": "By",
        "rpc.server.call.duration": "s",
        "rpc.server.call.errors": "",
        "kourou.logged": "",
    }
    (took,) = collector.metrics["rpc.server.call.duration"].histogram.data_points
    assert plain(took.attributes) == {
        "node": "learner/0", "label": "learner", "rpc.method": "add", "rpc.system": "kourou"
    }  # fmt: skip
    assert (took.count, took.sum, list(took.bucket_counts)) == (4, 2.5, [0] * 6 + [3] + [0] * 16 + [1])
    assert len(took.explicit_bounds) == 23
    assert (took.start_time_unix_nano, took.time_unix_nano) == (NOW * 1e9, (NOW + 9) * 1e9)
    errors_sum = collector.metrics["rpc.server.call.errors"].sum
    assert (errors_sum.is_monotonic, errors_sum.data_points[0].as_double) == (True, 1)
    (loss,) = collector.metrics["kourou.logged"].gauge.data_points
    assert (plain(loss.attributes)["metric"], loss.as_double) == ("loss", 0.5)


def test_what_nodes_log_is_sent_with_its_time(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    folder = tmp_path / "program" / "run"
    folder.mkdir(parents=True)
    for step in range(3):
        writing.append_once(str(folder), rows.encode_row(step, {"loss": step / 2}, {"node": "a/0"}))
    export_metrics(str(folder), None, ["otel"], follow=False)
    points = collector.metrics["kourou.logged"].gauge.data_points
    assert [point.as_double for point in points] == [0, 0.5, 1]
    assert [point.time_unix_nano for point in points] == [int(row["time"] * 1e9) for row in read_metrics(folder)]
    assert plain(points[0].attributes) == {"node": "a/0", "label": "a", "metric": "loss"}


def test_who_takes_nothing_is_told_of(collector: Collector) -> None:
    collector.code = 400
    sender = MetricSender("r", "program", collector=collector.url)
    with pytest.raises(errors.ServerUnavailable, match="took no metrics"):
        sender.send([])
    sender.close()


def test_a_call_is_the_parent_of_its_handler_and_of_what_that_calls(collector: Collector) -> None:
    spans = [
        Span("call", "b/0.outer", "a/0", 1, 100, 900, 7),
        Span("handler", "outer", "b/0", 5, 200, 500, 7),
        Span("future", "c/0.inner", "b/0", 5, 300, 600, 8),  # lasts longer than who began it
        Span("handler", "inner", "c/0", 9, 400, 100, 8),
        Span("call", "c/0.other", "b/0", 5, 800, 10, 9),
    ]
    found = {one.span.name: one for one in linked(spans)}
    parents = {name: one.parent for name, one in found.items()}
    assert parents == {
        "b/0.outer": None,
        "outer": found["b/0.outer"].number,
        "c/0.inner": found["outer"].number,
        "inner": found["c/0.inner"].number,
        "c/0.other": None,
    }
    assert len({one.trace for one in found.values()}) == 2
    assert send_spans(Traced([(Recording(spans, {}, 0), 0)], []), "r", "program", collector.url) == 5
    assert {node: [span.name for span in sent] for node, sent in collector.spans.items()} == {
        "a/0": ["b/0.outer"], "b/0": ["outer", "c/0.inner", "c/0.other"], "c/0": ["inner"]
    }  # fmt: skip
    (inner,) = collector.spans["c/0"]
    assert (inner.start_time_unix_nano, inner.end_time_unix_nano) == (400, 500)
    assert inner.parent_span_id == collector.spans["b/0"][1].span_id
    assert inner.trace_id == collector.spans["a/0"][0].trace_id
