"""The steps of a stop: what becomes of nodes that still run, one step after the other.

A new step is a member of :class:`StopStep`, its signal, a line in ``StopSteps.schedule``, and the time before it in
``StopTimeline``.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable, Iterable
from typing import Protocol

from kourou.runtime.model.instructions import Instruction, Signal, Warn, Write
from kourou.runtime.model.records import INTERRUPT
from kourou.runtime.stopping.timeline import StopTimeline, is_interrupt
from kourou.shown import listed

_PATIENCE_S = 1.0  # then whoever pressed Ctrl-C is told what the end waits for
_KILLED_WITHIN_S = 10.0  # a process in uninterruptible sleep may outlive SIGKILL: then the run ends without it


class StopStep(enum.Enum):
    """A timer's name for a step."""

    NAME_THE_SLOW = "name_the_slow"
    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    KILL = "kill"
    GIVE_UP = "give_up"


_SIGNALS = {
    StopStep.INTERRUPT: INTERRUPT,
    StopStep.TERMINATE: signal.SIGTERM,
    StopStep.KILL: signal.SIGKILL,
}


class Running(Protocol):
    """What is asked of a node that still runs."""

    serves_only: bool

    @property
    def name(self) -> str:
        """``label/index``."""
        ...


class StopSteps:
    """Ends the nodes of a program that stops.

    Args:
        running: the nodes that the launcher has started and that have not ended.
        on_killed: called with the name of a node before it is killed.
        on_lost: called with the name of a node that even SIGKILL has not ended.
    """

    def __init__(
        self,
        timeline: StopTimeline,
        reason: str,
        *,
        running: Callable[[], Iterable[Running]],
        do: Callable[[Instruction], None],
        release: Callable[[], None],
        on_killed: Callable[[str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._timeline = timeline
        self._reason = reason
        self._running = running
        self._do = do
        self._release = release
        self._on_killed = on_killed
        self._on_lost = on_lost

    def schedule(self, *, at_once: bool) -> list[tuple[float, StopStep]]:
        """The steps, each with the seconds from now; by now the nodes have been asked to end.

        Args:
            at_once: give them no time.
        """
        if at_once:
            return [(0.0, StopStep.KILL), (_KILLED_WITHIN_S, StopStep.GIVE_UP)]
        timeline = self._timeline
        return [
            (_PATIENCE_S, StopStep.NAME_THE_SLOW),
            (timeline.ask_s, StopStep.INTERRUPT),
            (timeline.ask_s + timeline.interrupt_s, StopStep.TERMINATE),
            (timeline.total_s, StopStep.KILL),
            (timeline.total_s + _KILLED_WITHIN_S, StopStep.GIVE_UP),
        ]

    def take(self, step: StopStep) -> None:
        """A step is due."""
        if step is StopStep.NAME_THE_SLOW:
            self._name_the_slow()
            return
        if step is StopStep.INTERRUPT:
            self._release()
        for node in self._running():
            if step is StopStep.GIVE_UP:
                self._on_lost(node.name)
            else:
                self._signal(node.name, step)

    def _signal(self, name: str, step: StopStep) -> None:
        self._do(Write(event=step.value, fields={"node": name}))
        if step is StopStep.KILL:
            self._on_killed(name)
        self._do(Signal(name=name, number=_SIGNALS[step]))

    def _name_the_slow(self) -> None:
        """Say which nodes still run, after a stop that a signal brought about.

        Nodes that only serve are named only when all others have ended: until then it is not they who are slow.
        """
        running = list(self._running())
        slow = sorted(node.name for node in running if not node.serves_only) or sorted(node.name for node in running)
        left_s = self._timeline.total_s - _PATIENCE_S
        if not is_interrupt(self._reason) or not slow or left_s <= 0:
            return
        self._do(
            Warn(text=f"kourou: waiting up to {left_s:.0f} s for {listed(slow)} to end; Ctrl-C again kills at once")
        )
