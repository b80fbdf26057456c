"""Saying which nodes have not become READY, and what is known of each, when that takes long.

A host that is slow, an import that hangs, a constructor that waits: whoever waits for the program would not know whom
for. Each node is named after ten seconds, and whenever it has waited twice as long as when it was named last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files import nonblocking_stream
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.plan.plan import LaunchPlan, Placement
from kourou.runtime.waiting import long_waits

__all__ = ["SlowStarts"]

_MOST_NAMED = 5
_NOT_READY = frozenset({NodeState.PENDING, NodeState.STARTING})


class SlowStarts:
    """The nodes of a plan that have not become READY yet. For one thread, which looks when it is ``due``."""

    def __init__(
        self, plan: LaunchPlan, coordinator: Coordinator, folder: RunFolder, now: Callable[[], float] = time.monotonic
    ) -> None:
        # A unit has no process: its parts say what it waits for.
        self._nodes = {node.name: node for node in plan.nodes if node.placement is not Placement.UNIT}
        self._coordinator = coordinator
        self._folder = folder
        self._now = now
        self._since: dict[str, float] = {}
        self._tell_at: dict[str, float] = {}
        self.due = math.inf
        """When to look, on the clock ``now``; infinite while nothing starts."""

    def begin(self, name: str) -> None:
        """A node is to become READY from now on."""
        if name in self._nodes:
            self._since[name] = now = self._now()
            self._tell_at[name] = now + long_waits.PATIENCE_S
            self.due = min(self.due, self._tell_at[name])

    def end(self) -> None:
        """The program stops: it does not matter any more."""
        self._since.clear()
        self._tell_at.clear()
        self.due = math.inf

    def look(self) -> None:
        """Name those that have waited for so long."""
        now = self._now()
        waiting = [record for name in self._since if (record := self._record(name)).state in _NOT_READY]
        self._since = {record.name: self._since[record.name] for record in waiting}
        self._tell_at = {name: self._tell_at[name] for name in self._since}
        slow = [record for record in waiting if self._tell_at[record.name] <= now]
        self._tell_at.update((record.name, 2 * now - self._since[record.name]) for record in slow)
        # One line in ten seconds at most, whenever they were started.
        self.due = max(now + long_waits.PATIENCE_S, min(self._tell_at.values())) if waiting else math.inf
        slow = [record for record in slow if not self._may_be_at_work(record)]
        if slow:
            self._tell(slow, now)

    def _tell(self, slow: list[NodeRecord], now: float) -> None:
        more = f"; and {len(slow) - _MOST_NAMED} more" if slow[_MOST_NAMED:] else ""
        nonblocking_stream.warn(
            "still waiting for %d of %d nodes to be ready: %s%s. Where one of them is: kourou debug %s %s",
            len(slow),
            len(self._nodes),
            "; ".join(self._described(record, now) for record in slow[:_MOST_NAMED]),
            more,
            self._folder.run_id,
            next((record.name for record in slow if record.pid is not None), slow[0].name),
        )

    def _described(self, record: NodeRecord, now: float) -> str:
        where = f"pid {record.pid} on {record.host}" if record.pid is not None else f"on {record.host or 'no host yet'}"
        waited_s = now - self._since[record.name]
        log = self._folder.log_file(record.name)
        return f"{record.name} ({record.state} for {waited_s:.0f} s: {self._stage(record)}; {where}; log: {log})"

    def _stage(self, record: NodeRecord) -> str:
        if record.state is NodeState.PENDING:
            return "others are started before it"
        if self._nodes[record.name].process is None:  # a thread
            return "its code has not become ready"
        if record.pid is None:
            return "its process is not there yet"
        if not self._coordinator.has_attached(record.name, record.attempt):
            return "its process has not reported yet"
        return "it imports what it needs, or is being constructed"

    def _may_be_at_work(self, record: NodeRecord) -> bool:
        """A function in a class's place may do the node's whole work: it is not waited for once it runs."""
        node = self._nodes[record.name]
        if record.state is NodeState.PENDING or not node.polls_while_starting:
            return False
        return node.process is None or self._coordinator.has_attached(record.name, record.attempt)

    def _record(self, name: str) -> NodeRecord:
        record = self._coordinator.directory.get(name)
        assert record is not None  # noqa: S101 - the directory has all nodes of the plan from the start
        return record
