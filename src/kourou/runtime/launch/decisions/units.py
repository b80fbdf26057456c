"""Colocations that are units: nothing but their parts, with which they become ready, fail and end."""

from __future__ import annotations

import signal

from kourou.runtime.launch.decisions.exit_records import unit_exit_record_of
from kourou.runtime.launch.decisions.node_table import NodeTable
from kourou.runtime.launch.decisions.timers import Restarting, Timers
from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.instructions import Signal
from kourou.runtime.model.records import INTERRUPT, ExitRecord, NodeState
from kourou.runtime.waiting.countdown import Countdown


class Units:
    """Those of one run."""

    def __init__(self, table: NodeTable, timers: Timers) -> None:
        self._table = table
        self._timers = timers
        self._broken: dict[str, tuple[ExitRecord, float | None]] = {}
        self._parts_starting: dict[str, Countdown] = {}
        self._parts_living: dict[str, Countdown] = {}

    def begin(self, name: str) -> None:
        """A colocation starts, with all of its parts."""
        nodes, parts = self._table.nodes, self._table.tree.children(name)
        self._parts_starting[name] = Countdown(parts, lambda part: nodes[part].state is not NodeState.STARTING)
        self._parts_living[name] = Countdown(parts, lambda part: nodes[part].gone)

    def note_ready(self, part: str) -> None:
        """A part is ready, and so may be its unit."""
        unit = self._table.tree.unit_of(part)
        if unit is None:
            return
        node = self._table.nodes[unit]
        if node.state is NodeState.STARTING and self._parts_starting[unit].done():
            self._table.change(node, state=NodeState.READY)
            self.note_ready(unit)

    def is_broken(self, unit: str | None) -> bool:
        """A part of it failed for good."""
        return unit in self._broken

    def in_broken(self, name: str) -> bool:
        """It belongs to one that is broken."""
        return any(unit in self._broken for unit in self._table.tree.above(name))

    def note_broken(self, failure: ExitRecord, restart_in: float | None) -> None:
        """A unit has failed; its end, once it has come, is this."""
        self._broken[failure.node] = failure, restart_in

    def kill_parts(self, unit: str, cause: str) -> None:
        """End those that live, and let none start again."""
        for node in self._table.below(unit):
            if node.will_restart:
                self._timers.discard(Restarting(name=node.name))
                self._table.change(node, will_restart=False)
            if self._table.is_launched(node.name):
                self._table.note_killed(node.name, f"was killed, because {cause} of the same colocation failed")
                self._table.do(Signal(name=node.name, number=INTERRUPT))  # for a thread, which cannot be killed
                self._table.do(Signal(name=node.name, number=signal.SIGKILL))

    def is_over(self, unit: str) -> bool:
        """It lives, and none of its parts does, or will again."""
        return unit in self._table.alive and self._parts_living[unit].done()

    def take_end(self, unit: TrackedNode, now: float) -> tuple[ExitRecord, float | None]:
        """How a unit whose parts are gone ended, and the seconds to its restart, if there is to be one."""
        failure, restart_in = self._broken.pop(unit.name, (None, None))
        parts = [self._table.nodes[child] for child in self._table.tree.children(unit.name)]
        record = failure or unit_exit_record_of(unit, parts, now=now)
        return record, None if self.in_broken(unit.name) else restart_in
