"""Waiting in tests for a thing to become true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until"]

_PAUSES_S = 0.005, 0.02, 0.25  # at first; once it takes long; where to ask takes long itself, as of a process
T = TypeVar("T")


def until(holds: Callable[[], T], within_s: float, what: str = "") -> T:
    """Poll until ``holds()`` is true, and return what it returned.

    Args:
        holds: asked again and again.
        within_s: how long it may take, in seconds.
        what: what is waited for, in the words of the test.

    Raises:
        AssertionError: it was not true in time.
    """
    begun = time.monotonic()
    while True:
        asked = time.monotonic()
        if result := holds():
            return result
        now = time.monotonic()
        assert now - begun < within_s, f"not true within {within_s} s: {what or holds}"
        least, usual, most = _PAUSES_S
        time.sleep(max(min(least + (now - begun) / 10, usual), min(2 * (now - asked), most)))
