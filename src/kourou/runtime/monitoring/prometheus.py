"""A run's numbers in Prometheus' text format, with OpenTelemetry's names for calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kourou.courier.serving.methods import MethodMetrics
from kourou.runtime.metrics.rows import numbers_of
from kourou.runtime.model.names import label_of
from kourou.runtime.monitoring.sampling import RunSample

__all__ = ["CONTENT_TYPE", "NodeCalls", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

NodeCalls = Mapping[str, Mapping[str, MethodMetrics]]
"""Node → method → what happened to it."""

_LEAST_BUCKET, _MOST_BUCKET = 4, 26  # powers of two, in microseconds: from 16 us to 67 s


class _Family(NamedTuple):
    name: str
    kind: str
    text: str
    samples: list[tuple[str, dict[str, str], float]]
    """Suffix of the name, labels, value."""


def exposition(sample: RunSample, calls: NodeCalls) -> str:
    """The text that a scrape gets."""
    families = [*_of_nodes(sample), *_of_calls(calls), *_of_weights(sample), _of_metrics(sample)]
    return "".join(line for family in families if family.samples for line in _lines(family))


def _of_nodes(sample: RunSample) -> Iterator[_Family]:
    nodes = sample.status.nodes
    yield _Family(
        "kourou_node_up",
        "gauge",
        "Whether the node is ready.",
        [("", _of(node.name, state=str(node.state)), float(str(node.state) == "READY")) for node in nodes],
    )
    yield _Family(
        "kourou_node_attempts",
        "gauge",
        "How often the node was started.",
        [("", _of(node.name), float(node.attempt)) for node in nodes],
    )
    figures = {name: one for name, one in sample.nodes.items() if one.memory_bytes is not None}
    yield _Family(
        "process_memory_usage_bytes",
        "gauge",
        "Resident memory of the node and all that it started, without what is shared.",
        [("", _of(name), float(one.memory_bytes or 0)) for name, one in figures.items()],
    )


def _of_calls(calls: NodeCalls) -> Iterator[_Family]:
    methods = [
        (_of(node, rpc_method=method, rpc_system="kourou"), one)
        for node, table in calls.items()
        for method, one in table.items()
        if one.calls
    ]
    durations = [line for labels, one in methods for line in _histogram(labels, one)]
    text = "Seconds that handlers took, answers that are errors included."
    yield _Family("rpc_server_call_duration_seconds", "histogram", text, durations)
    errors = [("", labels, float(one.errors)) for labels, one in methods]
    yield _Family("rpc_server_call_errors_total", "counter", "Calls that were answered with an error.", errors)


def _histogram(labels: dict[str, str], one: MethodMetrics) -> Iterator[tuple[str, dict[str, str], float]]:
    counts = one.latency_us_log2
    for power in range(_LEAST_BUCKET, _MOST_BUCKET + 1):  # the same for all, so that they can be added
        yield "_bucket", {**labels, "le": repr(2**power / 1e6)}, float(sum(counts[: power + 1]))
    yield "_bucket", {**labels, "le": "+Inf"}, float(one.calls)
    yield "_sum", labels, one.seconds
    yield "_count", labels, float(one.calls)


def _of_weights(sample: RunSample) -> Iterator[_Family]:
    known = [(_of(node, weights=report.name), report) for node, one in sample.nodes.items() for report in one.weights]
    readers = [
        ({**labels, "reader": one.reader, "reader_host": one.host, "reader_pid": str(one.pid)}, one)
        for labels, report in known
        for one in report.readers
    ]
    for name, text, samples in (
        ("version", "The latest version of weights.", [(labels, one.version) for labels, one in known]),
        ("age_seconds", "Since it was published.", [(labels, one.age_s) for labels, one in known]),
        ("reader_version", "What a subscriber took last.", [(labels, one.version) for labels, one in readers]),
        ("reader_lag", "Newer versions than that.", [(labels, one.lag) for labels, one in readers]),
        ("reader_age_seconds", "Since that was published.", [(labels, one.age_s) for labels, one in readers]),
    ):
        there = [("", labels, float(value)) for labels, value in samples if value is not None]
        yield _Family(f"kourou_weights_{name}", "gauge", text, there)


def _of_metrics(sample: RunSample) -> _Family:
    logged = [
        ("", _of(name, metric=metric), float(value))
        for name, figures in sample.nodes.items()
        for metric, value in numbers_of(figures.metrics).items()
    ]
    return _Family("kourou_logged", "gauge", "The latest value of what the node logs with lp.log.", logged)


def _of(node: str, **labels: str) -> dict[str, str]:
    return {"node": node, "label": label_of(node), **labels}


def _lines(family: _Family) -> Iterable[str]:
    yield f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n"
    for suffix, labels, value in family.samples:
        told = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        yield f"{family.name}{suffix}{{{told}}} {_number(value)}\n"


def _number(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))


def _escaped(text: Any) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
