"""Curves drawn with characters: each is two dots wide and four high."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from rich.text import Text

Line = tuple[Sequence[float], Sequence[float]]
"""Where a line's points are: from left to right, and how high."""

LINE_STYLES = ("cyan", "yellow", "magenta", "green", "red", "blue")
_BLANK = 0x2800  # braille: eight dots, each a bit
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column, then row from above
_AXIS_COLUMNS = 10


def chart(lines: Sequence[Line], *, width: int, height: int) -> Text:
    """Draw lines, with the numbers at both ends of each axis.

    Args:
        lines: at least one, each with at least one point; the first six have colours of their own.
        width: columns of all.
        height: lines of text for the curves; one more tells the steps.
    """
    columns = max(8, width - _AXIS_COLUMNS - 1)
    left, right = span([x for xs, _ in lines for x in xs])
    low, high = span([y for _, ys in lines for y in ys])
    dots = [[0] * columns for _ in range(height)]
    owner = [[0] * columns for _ in range(height)]
    for number, (xs, ys) in enumerate(lines):
        places = [
            (_place(x, left, right, 2 * columns), 4 * height - 1 - _place(y, low, high, 4 * height))
            for x, y in zip(xs, ys, strict=True)
        ]
        for x, y in _joined(places):
            dots[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
            owner[y // 4][x // 2] = number
    text = Text(no_wrap=True)
    for row in range(height):
        number_there = high if row == 0 else low if row == height - 1 else None
        text.append(f"{'' if number_there is None else f'{number_there:.4g}':>{_AXIS_COLUMNS - 1}} ┤", "bright_black")
        for bits, number in zip(dots[row], owner[row], strict=True):
            text.append(chr(_BLANK | bits) if bits else " ", LINE_STYLES[number % len(LINE_STYLES)] if bits else "")
        text.append("\n")
    ends = f"{left:,.10g}", f"{right:,.10g}"
    text.append(f"{'':>{_AXIS_COLUMNS}} {ends[0]}{ends[1]:>{max(1, columns - len(ends[0]))}}\n", "bright_black")
    return text


def _place(number: float, low: float, high: float, count: int) -> int:
    return min(count - 1, max(0, math.floor(share(number, low, high) * (count - 1) + 0.5)))


def _joined(places: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """The points, and all between one and the next."""
    found = set(places)
    for (x0, y0), (x1, y1) in itertools.pairwise(places):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        found.update((x0 + round((x1 - x0) * i / steps), y0 + round((y1 - y0) * i / steps)) for i in range(steps))
    return found


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
