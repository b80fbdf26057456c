"""Where numbers stand on an axis, those at the ends of what floats can tell included."""

from __future__ import annotations

from collections.abc import Sequence


def span(numbers: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that has room for all of them: two numbers of which :func:`share` can tell the distance."""
    low, high = min(numbers), max(numbers)
    if high / 2 > low / 2:
        return low, high
    room = abs(low) / 2 or 0.5  # half of the smallest number is none
    return low - room, high + room


def share(number: float, low: float, high: float) -> float:
    """How far a number is from one end of an axis to the other: 0 to 1."""
    return (number / 2 - low / 2) / (high / 2 - low / 2)  # halves, whose difference is finite
