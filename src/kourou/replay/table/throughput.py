"""How fast a table's counts have grown lately."""

from __future__ import annotations

import time
from collections import deque

_WINDOW_S = 5.0  # long enough to be steady, short enough to show that something stopped


class Throughput:
    """Counts at times of the last few seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, int]] = deque()

    def record(self, inserts: int, samples: int) -> None:
        """Note the counts as they are now. To be called a few times a second."""
        now = time.monotonic()
        if self._marks and (inserts < self._marks[-1][1] or samples < self._marks[-1][2]):
            self._marks.clear()  # they were reset
        self._marks.append((now, inserts, samples))
        while len(self._marks) > 1 and self._marks[1][0] < now - _WINDOW_S:
            self._marks.popleft()

    def per_second(self, inserts: int, samples: int) -> tuple[float, float]:
        """Inserts and samples a second; 0 until that can be told."""
        self.record(inserts, samples)
        (start, first_inserts, first_samples), (end, *_) = self._marks[0], self._marks[-1]
        elapsed = end - start
        if elapsed <= 0:
            return 0.0, 0.0
        return (inserts - first_inserts) / elapsed, (samples - first_samples) / elapsed
