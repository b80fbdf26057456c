"""Looking again and again for a moment, before the thread goes to sleep.

A core that has nothing to do falls asleep, and needs longer to wake up than a short call takes in all. So whoever
expects news in a moment keeps looking for that long. Where this does not pay (the peer takes its time, needs this very
core, or others do), it is given up for more and more of the following waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["Spinner"]

_SPIN_S = 50e-6  # about what waking a sleeping core costs: trying in vain at most doubles a short wait
_LONGEST_REST = 255  # waits without spinning, after many vain attempts

_clock = time.perf_counter


class Spinner:
    """Spins before a wait, as long as that has paid lately. For one thread at a time.

    Args:
        look: given 0, says what news there is without waiting, as ``select.poll().poll`` does.
    """

    def __init__(self, look: Callable[[int], list[Any]]) -> None:
        self._look = look
        self._rest = 0  # how many waits to sit out after the next vain attempt
        self._sits_out = 0

    def spin(self) -> list[Any]:
        """The news that come within a moment; nothing if there are none, or if this wait is sat out."""
        if self._sits_out:
            self._sits_out -= 1
            return []
        look = self._look
        end = _clock() + _SPIN_S
        while True:
            news = look(0)
            if news:
                self._rest >>= 1
                return news
            if _clock() > end:
                break
        self._rest = self._sits_out = min(2 * self._rest + 1, _LONGEST_REST)
        return news
