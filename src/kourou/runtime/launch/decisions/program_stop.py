"""The stop of a whole program: when its steps are due, and when nodes that only serve are let go."""

from __future__ import annotations

import math

from kourou.runtime.launch.decisions.node_table import NodeTable
from kourou.runtime.launch.decisions.timers import Timers
from kourou.runtime.model.instructions import Release
from kourou.runtime.stopping.steps import StopStep, StopSteps
from kourou.runtime.waiting.countdown import Countdown


class ProgramStop:
    """That of one run, begun or not."""

    def __init__(self, table: NodeTable, timers: Timers) -> None:
        self._table = table
        self._timers = timers
        self._steps: StopSteps | None = None
        self._workers = Countdown((), self._is_no_worker)
        self._gives_up_at = math.inf
        self._released = False

    @property
    def begun(self) -> bool:
        """The program stops."""
        return self._steps is not None

    def begin(self, steps: StopSteps) -> None:
        """It stops from now on, by these steps."""
        self._steps = steps
        self._workers = Countdown(self._table.alive, self._is_no_worker)

    def schedule(self, now: float, *, at_once: bool) -> None:
        """Set the steps' timers; once more, if somebody insists."""
        assert self._steps is not None  # noqa: S101 - it has begun
        for wait_s, step in self._steps.schedule(at_once=at_once):
            at = now + wait_s
            if step is StopStep.GIVE_UP:  # whoever asks again does not wait for longer
                at = self._gives_up_at = min(at, self._gives_up_at)
            self._timers.set(at, step)

    def take(self, step: StopStep) -> None:
        """A step is due."""
        assert self._steps is not None  # noqa: S101 - only a stop sets its steps' timers
        self._steps.take(step)

    def release_if_idle(self) -> None:
        """Nodes that only serve are needed until every node with work of its own has ended."""
        if self._workers.done():
            self.release()

    def release(self) -> None:
        """Let nodes that only serve end, once."""
        if not self._released:
            self._released = True
            self._table.do(Release())

    def _is_no_worker(self, name: str) -> bool:
        return name not in self._table.alive or self._table.nodes[name].serves_only
