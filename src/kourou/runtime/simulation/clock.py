"""Simulated time: calls in the order in which they are due."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable


class Clock:
    """What is still to happen; of what is due at the same time, the first that was said comes first."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        """Calls so far."""
        self._calls: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._count = 0

    @property
    def due(self) -> float:
        """When the next call is; infinite if there is none."""
        return self._calls[0][0] if self._calls else math.inf

    def after(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        """Make the call in so many seconds."""
        self.at(self.now + seconds, call, *args)

    def at(self, time: float, call: Callable[..., object], *args: object) -> None:
        """Make the call at that time."""
        self._count += 1
        heapq.heappush(self._calls, (time, self._count, call, args))

    def step(self) -> None:
        """Make the next call."""
        self.now, _, call, args = heapq.heappop(self._calls)
        self.made += 1
        call(*args)
