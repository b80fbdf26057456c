"""Saying which nodes have not become READY, and what is known of each, when that takes long.

A host that is slow, an import that hangs, a constructor that waits: whoever waits for the program would not know whom
for. Each node is named after ten seconds, and whenever it has waited twice as long as when it was named last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.instructions import Warn
from kourou.runtime.model.records import NodeState
from kourou.runtime.plan.plan import Placement
from kourou.waits import PATIENCE_S

_MOST_NAMED = 5
_NOT_READY = frozenset({NodeState.PENDING, NodeState.STARTING})


class SlowStarts:
    """The nodes of a program that have not become READY yet; to be looked at when it is ``due``."""

    def __init__(self, nodes: Mapping[str, TrackedNode], *, run_id: str, log_file: Callable[[str], object]) -> None:
        self._nodes = nodes
        self._run_id = run_id
        self._log_file = log_file
        self._since: dict[str, float] = {}
        self._tell_at: dict[str, float] = {}
        self.due = math.inf
        """When to look; infinite while nothing starts."""

    def begin(self, name: str, now: float) -> None:
        """A node is to become READY from now on."""
        # A unit has no process: its parts say what it waits for.
        if self._nodes[name].plan.placement is not Placement.UNIT:
            self._since[name] = now
            self._tell_at[name] = now + PATIENCE_S
            self.due = min(self.due, self._tell_at[name])

    def end(self) -> None:
        """The program stops: it does not matter any more."""
        self._since.clear()
        self._tell_at.clear()
        self.due = math.inf

    def look(self, now: float) -> list[Warn]:
        """Name those that have waited for so long."""
        waiting = [node for name in self._since if (node := self._nodes[name]).state in _NOT_READY]
        self._since = {node.name: self._since[node.name] for node in waiting}
        self._tell_at = {name: self._tell_at[name] for name in self._since}
        slow = [node for node in waiting if self._tell_at[node.name] <= now]
        self._tell_at.update((node.name, 2 * now - self._since[node.name]) for node in slow)
        # One line in ten seconds at most, whenever they were started.
        self.due = max(now + PATIENCE_S, min(self._tell_at.values())) if waiting else math.inf
        slow = [node for node in slow if not _may_be_at_work(node)]
        return [self._warning(slow, now)] if slow else []

    def _warning(self, slow: list[TrackedNode], now: float) -> Warn:
        named = "; ".join(self._described(node, now) for node in slow[:_MOST_NAMED])
        more = f"; and {len(slow) - _MOST_NAMED} more" if slow[_MOST_NAMED:] else ""
        count = sum(node.plan.placement is not Placement.UNIT for node in self._nodes.values())
        example = next((node.name for node in slow if node.pid is not None), slow[0].name)
        return Warn(
            text=f"still waiting for {len(slow)} of {count} nodes to be ready: {named}{more}. "
            f"Where one of them is: kourou debug {self._run_id} {example}"
        )

    def _described(self, node: TrackedNode, now: float) -> str:
        host = node.host if node.attempt else "no host yet"
        where = f"pid {node.pid} on {host}" if node.pid is not None else f"on {host}"
        waited_s = now - self._since[node.name]
        log = self._log_file(node.name)
        return f"{node.name} ({node.state} for {waited_s:.0f} s: {_stage(node)}; {where}; log: {log})"


def _stage(node: TrackedNode) -> str:
    if node.state is NodeState.PENDING:
        return "others are started before it"
    if node.plan.process is None:  # a thread
        return "its code has not become ready"
    if node.pid is None:
        return "its process is not there yet"
    if not node.attached:
        return "its process has not reported yet"
    return "it imports what it needs, or is being constructed"


def _may_be_at_work(node: TrackedNode) -> bool:
    """A function in a class's place may do the node's whole work: it is not waited for once it runs."""
    if node.state is NodeState.PENDING or not node.plan.polls_while_starting:
        return False
    return node.plan.process is None or node.attached
