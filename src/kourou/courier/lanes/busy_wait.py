"""Polling again and again for a moment, before the thread goes to sleep.

A core that has nothing to do falls asleep, and needs longer to wake up than a short call takes in all. So whoever
expects events in a moment keeps polling for that long. Where this does not pay (the peer takes its time, needs this
very core, or others do), it is given up for more and more of the following waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_BUSY_S = 100e-6  # about what waking a sleeping core costs, so that a wait never costs more than twice the best choice
_MAX_FAILURES = 9  # vain attempts that count, so that one wait in 128 still begins with one

_clock = time.perf_counter


class BusyWait:
    """Spins before a wait, as long as that has paid lately. For one thread at a time.

    Args:
        poll: given 0, says what events there is without waiting, as ``select.poll().poll`` does.
    """

    def __init__(self, poll: Callable[[int], list[Any]]) -> None:
        self._poll = poll
        self._failures = 0  # attempts lately that saw nothing
        self._skips = 0  # waits to come without an attempt

    def poll(self) -> list[Any]:
        """The events that come within a moment; nothing if there are none, or if this wait is sat out."""
        if self._skips:
            self._skips -= 1
            return []
        poll = self._poll
        end = _clock() + _BUSY_S
        while True:
            events = poll(0)
            if events:
                self._failures >>= 1
                return events
            if _clock() > end:
                break
        self._failures = min(self._failures + 1, _MAX_FAILURES)
        self._skips = (1 << self._failures) >> 2  # none after a single one, which is often chance
        return events
