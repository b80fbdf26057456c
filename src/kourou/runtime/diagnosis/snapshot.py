"""What was seen of a live run at one moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kourou.runtime.model.records import NodeRecord
from kourou.runtime.model.reports import NodeReport, TableReport
from kourou.runtime.model.status import RunStatus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run and what its nodes told."""

    taken_at: float
    """Unix time."""
    status: RunStatus
    inputs: Mapping[str, tuple[str, ...]]
    """Node → the nodes that it has handles of."""
    reports: Mapping[str, NodeReport] = dataclasses.field(default_factory=dict)
    """Of those that have answered."""
    silent: tuple[str, ...] = ()
    """Those that should have answered and have not."""
    places: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Where those are that cannot answer (yet): ``file.py:12 in load``, as far as their stacks were to be had."""

    calling: frozenset[str] = frozenset()
    """Those of them that are in a call of another node."""

    def tables(self, name: str) -> tuple[TableReport, ...]:
        """A node's tables, of a replay server that has answered."""
        report = self.reports.get(name)
        return () if report is None else report.tables

    def record(self, name: str) -> NodeRecord | None:
        """A node's record."""
        return next((node for node in self.status.nodes if node.name == name), None)
