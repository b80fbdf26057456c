"""Waiting in tests for a thing to become true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until"]

_POLL_S = 0.005
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
    deadline = time.monotonic() + within_s
    while True:
        if result := holds():
            return result
        assert time.monotonic() < deadline, f"not true within {within_s} s: {what or holds}"
        time.sleep(_POLL_S)
