"""What the director has still to do, and when: data, so that whoever holds the clock can wait for it."""

from __future__ import annotations

import dataclasses
import heapq
import math
from typing import TypeAlias

from kourou.runtime.stopping.steps import StopStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restarting:
    """The node, which failed, is to start again."""

    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What the node's exit was has had the time to show."""

    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemovalStep:
    """A step of the stop of a node that is being removed."""

    name: str
    step: StopStep


Timer: TypeAlias = Restarting | Decision | RemovalStep | StopStep


class Timers:
    """Timers by the time at which they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._live: dict[Timer, int] = {}  # with their numbers; others in the heap are there no more
        self._count = 0  # among those due at the same time the first to be set is first

    def __len__(self) -> int:
        return len(self._live)

    @property
    def due(self) -> float:
        """When the next is due; infinite while there is none."""
        while self._heap and self._live.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def set(self, at: float, timer: Timer) -> None:
        """It is due at this time, and no more at any other."""
        self._count += 1
        self._live[timer] = self._count
        heapq.heappush(self._heap, (at, self._count, timer))

    def discard(self, timer: Timer) -> None:
        """It is not to come, if it was to."""
        self._live.pop(timer, None)

    def take(self, now: float) -> Timer | None:
        """The next that is due by now, which is set no longer; None if there is none."""
        if self.due > now:
            return None
        _, _, timer = heapq.heappop(self._heap)
        del self._live[timer]
        return timer

    def clear(self) -> None:
        """None of them is to come."""
        self._heap.clear()
        self._live.clear()
