"""Nodes that somebody had removed: each is stopped as a whole program is, and the program goes on without it."""

from __future__ import annotations

from kourou.runtime.launch.decisions.exit_records import removed_by
from kourou.runtime.launch.decisions.node_table import NodeTable
from kourou.runtime.launch.decisions.timers import RemovalStep, Restarting, Timers
from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.instructions import Dismiss
from kourou.runtime.model.records import NodeState
from kourou.runtime.stopping.steps import StopStep, StopSteps


class Removals:
    """Those under way."""

    def __init__(self, table: NodeTable, timers: Timers) -> None:
        self._table = table
        self._timers = timers
        self._steps: dict[str, StopSteps] = {}

    def begin(self, name: str, origin: str) -> None:
        """A node is to go with all of its parts: those that never began, or only waited for a restart, are gone."""
        for node in (self._table.nodes[name], *self._table.below(name)):
            self._begin(node, origin)

    def _begin(self, node: TrackedNode, origin: str) -> None:
        table = self._table
        node.removed = origin
        self._timers.discard(Restarting(name=node.name))
        if node.state is NodeState.PENDING:
            table.never_start(node, f"{removed_by(origin)} before it was started", removed=origin)
        elif node.name not in table.alive:
            table.change(node, removed=origin, will_restart=False)
        else:
            table.let_stop(node, removed=origin)
            if table.tree.launched(node.name):
                table.do(Dismiss(name=node.name, origin=origin))

    def schedule(self, name: str, steps: StopSteps, now: float) -> None:
        """From now on its steps come, until it has ended."""
        self._steps[name] = steps
        for wait_s, step in steps.schedule(at_once=False):
            self._timers.set(now + wait_s, RemovalStep(name=name, step=step))

    def take(self, timer: RemovalStep) -> None:
        """A step is due."""
        self._steps[timer.name].take(timer.step)

    def end(self, name: str) -> None:
        """It has ended, so no more is to be done to it."""
        if self._steps.pop(name, None) is not None:
            for step in StopStep:
                self._timers.discard(RemovalStep(name=name, step=step))

    def clear(self) -> None:
        """The program stops, and these with it; their timers have gone with all others."""
        self._steps.clear()
