"""The numbers of rows as curves: one for each metric and node."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kourou.runtime.metrics.rows import numbers_of


class Curve(NamedTuple):
    """One metric of one node."""

    metric: str
    node: str
    steps: list[float]
    values: list[float]


def curves_of(rows: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """The curves of rows, metric by metric in the order of their first rows; steps ascend.

    A row without a step takes the number of its node's row; what is no finite number is left out.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        node = str(row.get("node", ""))
        counts[node] = counts.get(node, -1) + 1
        step = row.get("step", counts[node])
        for name, value in numbers_of(row).items():
            if math.isfinite(value):
                found.setdefault(name, {}).setdefault(node, {})[step] = value  # what was logged again counts
    curves = []
    for metric, nodes in found.items():
        for node, points in nodes.items():
            steps = sorted(points)
            curves.append(Curve(metric, node, steps, [points[step] for step in steps]))
    return curves
