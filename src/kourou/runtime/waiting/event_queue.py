"""Waiting for a while for what comes into a queue."""

from __future__ import annotations

import queue
from typing import TypeVar

T = TypeVar("T")


def next_of(events: queue.SimpleQueue[T], wait_s: float | None) -> T:
    """What came first; waits for it at most ``wait_s`` seconds, None: for ever. For one thread.

    ``SimpleQueue.get`` with a time-out may wait for ever, seen on Python 3.10: when it first notices that what was put
    has been taken since, and has no time left then. Looking once without a time-out notices that before.

    Raises:
        queue.Empty: nothing came in that time.
    """
    try:
        return events.get_nowait()
    except queue.Empty:
        if wait_s is not None and wait_s <= 0:
            raise
    return events.get(timeout=wait_s)
