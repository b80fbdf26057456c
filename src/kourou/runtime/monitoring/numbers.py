"""What a live run is measured by: its nodes' states and memory, their calls, what they log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from kourou.courier.serving.methods import MethodMetrics
from kourou.runtime.metrics.families import LOGGED, Buckets, Family, Point, of_node
from kourou.runtime.metrics.rows import numbers_of
from kourou.runtime.monitoring.sampling import RunSample

NodeCalls = Mapping[str, Mapping[str, MethodMetrics]]
"""Node → method → what happened to it."""

_LEAST_BUCKET, _MOST_BUCKET = 4, 26  # powers of two, in microseconds: from 16 us to 67 s


def families(sample: RunSample, calls: NodeCalls) -> list[Family]:
    """All numbers of a run; families without a point are left out."""
    found = (*_of_nodes(sample), *_of_calls(sample, calls), *_of_weights(sample), _logged(sample))
    return [family for family in found if family.points]


def _of_nodes(sample: RunSample) -> list[Family]:
    at, nodes = sample.taken_at, sample.status.nodes
    ready = [Point(of_node(n.name, state=str(n.state)), float(str(n.state) == "READY"), at) for n in nodes]
    attempts = [Point(of_node(node.name), float(node.attempt), at) for node in nodes]
    memory = [
        Point(of_node(name), float(figures.memory_bytes), at)
        for name, figures in sample.nodes.items()
        if figures.memory_bytes is not None
    ]
    resident = "Resident memory of the node and all that it started, without what is shared."
    return [
        Family("kourou.node.up", "gauge", "", "Whether the node is ready.", ready),
        Family("kourou.node.attempts", "gauge", "", "How often the node was started.", attempts),
        Family("process.memory.usage", "gauge", "By", resident, memory),
    ]


def _of_calls(sample: RunSample, calls: NodeCalls) -> list[Family]:
    methods = [
        (of_node(node, **{"rpc.method": method, "rpc.system": "kourou"}), one)
        for node, table in calls.items()
        for method, one in table.items()
        if one.calls
    ]
    took = "Seconds that handlers took, answers that are errors included."
    durations = [Point(attributes, _buckets(one), sample.taken_at) for attributes, one in methods]
    failed = [Point(attributes, float(one.errors), sample.taken_at) for attributes, one in methods]
    return [
        Family("rpc.server.call.duration", "histogram", "s", took, durations),
        Family("rpc.server.call.errors", "counter", "", "Calls that were answered with an error.", failed),
    ]


def _buckets(one: MethodMetrics) -> Buckets:
    """The same bounds for all, so that they can be added."""
    powers = range(_LEAST_BUCKET, _MOST_BUCKET + 1)
    until = [sum(one.latency_us_log2[: power + 1]) for power in powers]
    counts = [upper - lower for lower, upper in zip([0, *until], [*until, one.calls], strict=True)]
    return Buckets([2**power / 1e6 for power in powers], counts, one.seconds)


def _of_weights(sample: RunSample) -> list[Family]:
    known = [
        (of_node(node, weights=report.name), report) for node, one in sample.nodes.items() for report in one.weights
    ]
    readers = [
        ({**attributes, "reader": one.reader, "reader.host": one.host, "reader.pid": str(one.pid)}, one)
        for attributes, report in known
        for one in report.readers
    ]
    at = sample.taken_at

    def family(name: str, unit: Literal["", "s"], text: str, values: Iterable[tuple[Any, float | None]]) -> Family:
        points = [Point(attributes, float(value), at) for attributes, value in values if value is not None]
        return Family(f"kourou.weights.{name}", "gauge", unit, text, points)

    return [
        family("version", "", "The latest version of weights.", ((a, one.version) for a, one in known)),
        family("age", "s", "Since it was published.", ((a, one.age_s) for a, one in known)),
        family("reader.version", "", "What a subscriber took last.", ((a, one.version) for a, one in readers)),
        family("reader.lag", "", "Newer versions than that.", ((a, one.lag) for a, one in readers)),
        family("reader.age", "s", "Since that was published.", ((a, one.age_s) for a, one in readers)),
    ]


def _logged(sample: RunSample) -> Family:
    logged = [
        Point(of_node(name, metric=metric), float(value), sample.taken_at)
        for name, figures in sample.nodes.items()
        for metric, value in numbers_of(figures.metrics).items()
    ]
    return Family(LOGGED, "gauge", "", "The latest value of what the node logs with lp.log.", logged)
