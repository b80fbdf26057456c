"""A run at one moment, as JSON: its nodes, who calls whom and how often, who waits for whom, tables, weights, hosts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from kourou.runtime.diagnosis import stuck
from kourou.runtime.diagnosis.finding import Finding, Severity
from kourou.runtime.diagnosis.snapshot import Snapshot
from kourou.runtime.diagnosis.waiting import Edge, WaitGraph
from kourou.runtime.graph.topology import Topology, Vertex
from kourou.runtime.model.names import label_of
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.monitoring.sampling import RunSample

_MOST_WAITS = 200


class Plan:
    """What does not change of a run.

    Args:
        plan: as :meth:`~kourou.runtime.monitoring.found_run.FoundRun.plan` gives it.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.nodes: dict[str, Mapping[str, Any]] = {node["name"]: node for node in plan["nodes"]}
        self.inputs = {name: tuple(node["inputs"]) for name, node in self.nodes.items()}
        self.topology = Topology.of(
            Vertex(name=name, kind=node["kind"], inputs=self.inputs[name], is_child=node["parent"] is not None)
            for name, node in self.nodes.items()
        )

    def asked(self, name: str) -> dict[str, Any]:
        """What a node was given of its host: ``cpus``, a list or how many; ``gpus``, likewise; ``memory_bytes``."""
        node = self.nodes.get(name, {})
        process, site = node.get("process") or {}, node.get("site") or {}
        visible = process.get("env", {}).get("CUDA_VISIBLE_DEVICES")
        return {
            "cpus": process.get("cpus") or site.get("cpus"),
            "gpus": visible.split(",") if visible else site.get("gpus"),
            "memory_bytes": process.get("memory_bytes"),
        }


def run_page(sample: RunSample, plan: Plan, before: RunSample | None = None) -> dict[str, Any]:
    """All that the page of a run shows and that changes from moment to moment.

    Args:
        sample: how it is.
        plan: of the run.
        before: how it was; None: there are no rates between nodes and no findings yet.
    """
    status = sample.status
    silent = frozenset(sample.silent) & frozenset(before.silent if before else ())  # of one look, it may have been busy
    nodes = [_node(node, sample, plan, silent) for node in status.nodes]
    return {
        **{field.name: getattr(status, field.name) for field in dataclasses.fields(status) if field.name != "nodes"},
        "state": str(status.state),
        "taken_at": sample.taken_at,
        "launcher": dataclasses.asdict(sample.launcher),
        "nodes": nodes,
        "graph": _graph(sample, plan, before),
        **_waits(sample, plan, before, silent),
        "tables": [
            {"node": name, **dataclasses.asdict(table)}
            for name, report in sample.reports.items()
            for table in report.tables
        ],
        "hosts": _hosts(nodes),
    }


def _node(node: NodeRecord, sample: RunSample, plan: Plan, silent: frozenset[str]) -> dict[str, Any]:
    report = sample.reports.get(node.name)
    row = node.to_dict()
    del row["endpoint"]
    return {
        **row,
        "exit": {"cause": node.exit.cause, "attempt": node.exit.attempt} if node.exit else None,
        "uptime_s": node.exit.uptime_s if node.state.ended and node.exit else None,
        "label": label_of(node.name),
        "kind": plan.nodes.get(node.name, {}).get("kind", ""),
        **dataclasses.asdict(sample.nodes[node.name]),
        "queued": report.server.queued + sum(one.waiting for one in report.server.batches) if report else None,
        "silent": node.name in silent,
        **{f"asked_{name}": value for name, value in plan.asked(node.name).items()},
    }


def _graph(sample: RunSample, plan: Plan, before: RunSample | None) -> dict[str, Any]:
    """Groups in columns, callers to the left; and the calls between them."""
    place = {group.label: at for at, column in enumerate(plan.topology.columns()) for group in column}
    calls, unanswered = _calls(sample), Counter[tuple[str, str]]()
    for name, report in sample.reports.items():
        for one in report.calls:
            unanswered[label_of(name), label_of(one.on)] += one.unanswered
    rates: dict[tuple[str, str], float] = {}
    if before is not None:
        elapsed_s, earlier = max(sample.taken_at - before.taken_at, 1e-3), _calls(before)
        for (who, on), count in calls.items():
            edge = label_of(who), label_of(on)
            rates[edge] = rates.get(edge, 0.0) + max(0, count - earlier.get((who, on), count)) / elapsed_s
    return {
        "groups": [{**dataclasses.asdict(group), "column": place[group.label]} for group in plan.topology.groups],
        "edges": [
            {"from": who, "to": on, "calls_per_s": rates.get((who, on)), "unanswered": unanswered[who, on]}
            for who, on in plan.topology.edges
        ],
    }


def _calls(sample: RunSample) -> dict[tuple[str, str], int]:
    return {(name, one.on): one.calls for name, report in sample.reports.items() for one in report.calls}


def _waits(sample: RunSample, plan: Plan, before: RunSample | None, silent: frozenset[str]) -> dict[str, Any]:
    """The waits that have lasted for some time, and what is to be said of them."""
    if before is None:
        return {"waits": [], "findings": []}
    earlier, now = _snapshot(before, plan), _snapshot(sample, plan, tuple(sorted(silent)))
    graph = WaitGraph(earlier, now)
    findings = stuck.find(earlier, now)
    edges = sorted(graph.edges, key=lambda edge: -edge.for_s)[:_MOST_WAITS]
    return {
        "waits": [
            {
                **dataclasses.asdict(edge),
                "in_circle": edge.who in graph.in_cycles,
                "severity": str(_severity(edge, findings)),
            }
            for edge in edges
        ],
        "findings": [finding.to_dict() for finding in findings],
    }


def _severity(edge: Edge, findings: list[Finding]) -> Severity:
    """How bad the worst is of what holds a wait up."""
    concerned = (one for one in findings if edge.who in one.waiters and edge.on in {*one.nodes, *one.waiters})
    return next((one.severity for one in concerned), Severity.NOTE)  # the worst come first


def _snapshot(sample: RunSample, plan: Plan, silent: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(
        taken_at=sample.taken_at, status=sample.status, inputs=plan.inputs, reports=sample.reports, silent=silent
    )


def _hosts(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which nodes are where, and what they take and were given."""
    by_host: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        by_host.setdefault(node["host"] or "(not placed yet)", []).append(node)
    return [
        {
            "host": host,
            "nodes": len(own),
            "states": dict(Counter(node["state"] for node in own)),
            "cpu_percent": _sum(own, "cpu_percent"),
            "memory_bytes": _sum(own, "memory_bytes"),
            "cpus": sum(_count(node["asked_cpus"]) for node in own),
            "gpus": sum(_count(node["asked_gpus"]) for node in own),
            "given": [
                {"node": node["name"], **{name: node[f"asked_{name}"] for name in ("cpus", "gpus", "memory_bytes")}}
                for node in own
                if any(node[f"asked_{name}"] for name in ("cpus", "gpus", "memory_bytes"))
            ],
        }
        for host, own in by_host.items()
    ]


def _sum(nodes: list[dict[str, Any]], figure: str) -> float | None:
    known = [node[figure] for node in nodes if node[figure] is not None]
    return sum(known) if known else None


def _count(asked: list[Any] | float | None) -> float:
    return len(asked) if isinstance(asked, list) else asked or 0
