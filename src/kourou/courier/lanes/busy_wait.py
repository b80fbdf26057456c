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

_SPIN_S = 100e-6  # about what waking a sleeping core costs, so that a wait never costs more than twice the best choice
_MOST_VAIN = 9  # vain attempts that count, so that one wait in 128 still begins with one

_clock = time.perf_counter


class Spinner:
    """Spins before a wait, as long as that has paid lately. For one thread at a time.

    Args:
        look: given 0, says what news there is without waiting, as ``select.poll().poll`` does.
    """

    def __init__(self, look: Callable[[int], list[Any]]) -> None:
        self._look = look
        self._vain = 0  # attempts lately that saw nothing
        self._sits_out = 0  # waits to come without an attempt

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
                self._vain >>= 1
                return news
            if _clock() > end:
                break
        self._vain = min(self._vain + 1, _MOST_VAIN)
        self._sits_out = (1 << self._vain) >> 2  # none after a single one, which is often chance
        return news
