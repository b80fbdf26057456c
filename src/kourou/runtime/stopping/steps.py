"""The steps of a stop: what becomes of nodes that still run, one step after the other.

A new step is a method of :class:`StopSteps`, a line in its ``schedule``, and the time before it in ``StopTimeline``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from kourou.runtime.files import nonblocking_stream
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.stopping.timeline import INTERRUPTED, StopTimeline

__all__ = ["StopSteps"]

_PATIENCE_S = 1.0  # then whoever pressed Ctrl-C is told what the end waits for
_KILLED_WITHIN_S = 10.0  # a process in uninterruptible sleep may outlive SIGKILL: then the run ends without it
_MOST_NAMED = 5

Schedule: TypeAlias = "list[tuple[float, Callable[[], None]]]"
"""Seconds from now, and what is to be done then."""


class Reaches(Protocol):
    """A launcher, as far as a stop is concerned."""

    def interrupt(self, name: str) -> None:
        """Raise StopRequested in the node's main thread."""

    def terminate(self, name: str) -> None:
        """Ask the node's process to end."""

    def kill(self, name: str) -> None:
        """End the node's process and all that it started."""


class StopSteps:
    """Ends the nodes of a program that stops. For one thread, which takes the steps when they are due.

    Args:
        timeline: the time before each step.
        reason: of the stop.
        running: the nodes that the launcher has started and that have not ended.
        launcher: reaches them.
        release: tells nodes that only serve that nobody needs them any more.
        folder: events go there.
        on_killed: called with the name of a node before it is killed.
        on_lost: called with the name of a node that even SIGKILL has not ended.
    """

    def __init__(
        self,
        timeline: StopTimeline,
        reason: str,
        *,
        running: Callable[[], Iterable[NodeRecord]],
        launcher: Reaches,
        release: Callable[[], None],
        folder: RunFolder,
        on_killed: Callable[[str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._timeline = timeline
        self._reason = reason
        self._running = running
        self._launcher = launcher
        self._release = release
        self._folder = folder
        self._on_killed = on_killed
        self._on_lost = on_lost

    def schedule(self) -> Schedule:
        """All steps. By now the nodes have been asked to end."""
        timeline = self._timeline
        return [
            (_PATIENCE_S, self._name_the_slow),
            (timeline.ask_s, self._interrupt),
            (timeline.ask_s + timeline.interrupt_s, self._terminate),
            (timeline.total_s, self._kill),
            (timeline.total_s + _KILLED_WITHIN_S, self._give_up),
        ]

    def at_once(self) -> Schedule:
        """The steps of a stop that gives no time."""
        return [(0.0, self._kill), (_KILLED_WITHIN_S, self._give_up)]

    def _name_the_slow(self) -> None:
        """Say which nodes still run, after a stop that a signal brought about.

        Nodes that only serve are named only when all others have ended: until then it is not they who are slow.
        """
        running = list(self._running())
        slow = sorted(node.name for node in running if not node.serves_only) or sorted(node.name for node in running)
        left_s = self._timeline.total_s - _PATIENCE_S
        if self._reason != INTERRUPTED or not slow or left_s <= 0:
            return
        named = ", ".join(slow[:_MOST_NAMED]) + (f" and {len(slow) - _MOST_NAMED} more" if slow[_MOST_NAMED:] else "")
        nonblocking_stream.warn("kourou: waiting up to %.0f s for %s to end; Ctrl-C again kills at once", left_s, named)

    def _interrupt(self) -> None:
        self._release()
        for node in self._running():
            self._folder.event("interrupt", node=node.name)
            self._launcher.interrupt(node.name)

    def _terminate(self) -> None:
        for node in self._running():
            self._folder.event("terminate", node=node.name)
            self._launcher.terminate(node.name)

    def _kill(self) -> None:
        for node in self._running():
            self._folder.event("kill", node=node.name)
            self._on_killed(node.name)
            self._launcher.kill(node.name)

    def _give_up(self) -> None:
        for node in self._running():
            self._on_lost(node.name)
