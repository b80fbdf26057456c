"""How a stop goes on: what it gives nodes time for, step by step, and whom it waits for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from kourou import errors
from kourou.runtime import patient_stream
from kourou.runtime.records import NodeRecord
from kourou.shown import shown

__all__ = ["INTERRUPTED", "PATIENCE_S", "StopTimeline", "name_the_slow"]

INTERRUPTED = "interrupted by the user"
"""The reason of a stop that a signal brought about."""
PATIENCE_S = 1.0
"""After so many seconds whoever pressed Ctrl-C is told what the end waits for."""
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopTimeline:
    """How long a stopping program waits before it insists; seconds, each counted from the step before.

    The defaults add up to the ten seconds that Launchpad gave. 0 skips a step's waiting.
    """

    ask_s: float = 5.0
    """From the broadcast of stop until nodes that still run get StopRequested raised in their main thread."""
    interrupt_s: float = 3.0
    """From that exception until SIGTERM goes to the node's session."""
    terminate_s: float = 2.0
    """From SIGTERM until SIGKILL goes to the node's session."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise errors.GraphError(f"StopTimeline.{field.name} is a number of seconds >= 0, got {shown(value)}")

    @property
    def total_s(self) -> float:
        """Seconds from the broadcast of stop until SIGKILL."""
        return self.ask_s + self.interrupt_s + self.terminate_s


def name_the_slow(nodes: Iterable[NodeRecord], reason: str, timeline: StopTimeline) -> None:
    """Say which nodes still run, PATIENCE_S after a stop that a signal brought about.

    Nodes that only serve are named only when all others have ended: until then it is not they who are slow.
    """
    running = list(nodes)
    slow = sorted(node.name for node in running if not node.serves_only) or sorted(node.name for node in running)
    left_s = timeline.total_s - PATIENCE_S
    if reason != INTERRUPTED or not slow or left_s <= 0:
        return
    named = ", ".join(slow[:_MOST_NAMED]) + (f" and {len(slow) - _MOST_NAMED} more" if slow[_MOST_NAMED:] else "")
    patient_stream.warn("kourou: waiting up to %.0f s for %s to end; Ctrl-C again kills at once", left_s, named)
