"""Curves as SVG, which the page stretches to its width; numbers beside them are the page's own text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from kourou.cli.report.page import Markup, escaped
from kourou.cli.terminal.chart import share, span
from kourou.runtime.metrics.reading import Curve
from kourou.ui.history import thinned

COLORS = ("#4269d0", "#d99a00", "#ff725c", "#3aa6a0", "#3ca951", "#e0609a", "#a463f2", "#5d9fe0", "#9c6b4e", "#8b919b")
"""Can be told apart on light and on dark."""
_MOST_POINTS = 600
_SIZE = 1000
_UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_LARGE = 1e4
_SMALL = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; steps ascend, and values are finite."""

    steps: Sequence[float]
    values: Sequence[float]
    color: str
    low: Sequence[float] = ()
    """The lower edge of the band around it; empty: it has none."""
    high: Sequence[float] = ()
    dashed: bool = False


def figure(title: str, lines: Sequence[Line], legend: Sequence[tuple[str, str]]) -> Markup:
    """Curves of one metric.

    Args:
        title: its name.
        lines: at least one, each with at least one point.
        legend: colours and what they mean.
    """
    left, right = span([x for line in lines for x in (line.steps[0], line.steps[-1])])
    low, high = span([y for line in lines for y in (*line.values, *line.low, *line.high)])
    pad = high / 20 - low / 20
    low, high = low - pad, high + pad

    def place(x: float, y: float) -> str:
        return f"{share(x, left, right) * _SIZE:.1f} {(1 - share(y, low, high)) * _SIZE:.1f}"

    drawn, numbers = [], []
    for tick in ticks(low, high, 4):
        drawn.append(f'<path class="grid" d="M{place(left, tick)}L{place(right, tick)}"/>')
        numbers.append(f'<span style="bottom:{100 * share(tick, low, high):.2f}%">{short(tick)}</span>')
    for line in lines:
        if line.low:
            upper = [place(x, y) for x, y in zip(line.steps, line.high, strict=True)]
            lower = [place(x, y) for x, y in zip(line.steps, line.low, strict=True)]
            edge = "L".join([*upper, *reversed(lower)])
            drawn.append(f'<path class="band" style="fill:{line.color}" d="M{edge}Z"/>')
        thin = thinned(Curve(title, "", list(line.steps), list(line.values)), _MOST_POINTS)
        points = list(zip(thin.steps, thin.values, strict=True))
        points = points * 2 if len(points) == 1 else points  # a dot
        dashes = ' stroke-dasharray="6 3"' if line.dashed else ""
        path = "L".join(place(x, y) for x, y in points)
        drawn.append(f'<path stroke="{line.color}" stroke-linecap="round"{dashes} d="M{path}"/>')
    told = "".join(f'<span><i style="background:{color}"></i>{escaped(text)}</span>' for color, text in legend)
    return Markup(
        f'<figure><figcaption>{escaped(title)}</figcaption><div class="plot"><svg viewBox="0 0 {_SIZE} {_SIZE}" '
        f'preserveAspectRatio="none" role="img" aria-label="{escaped(title)}">{"".join(drawn)}</svg>'
        f"{''.join(numbers)}</div>"
        f'<div class="steps"><span>{short(left)}</span><span>step</span><span>{short(right)}</span></div>'
        f'<div class="legend">{told}</div></figure>'
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two ends, about as many as wanted."""
    raw = (high / 2 - low / 2) / count * 2
    if not 0 < raw < math.inf:
        return []
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= raw), 10 * power)
    first, last = low / step, high / step
    if not (math.isfinite(first) and math.isfinite(last)):
        return []
    return [number * step for number in range(math.ceil(first), math.floor(last) + 1)]


def short(number: float) -> str:
    """A number in a few characters."""
    size = abs(number)
    for unit, worth in _UNITS if _LARGE <= size < _LARGE * _UNITS[0][1] else ():
        if size >= worth:
            return f"{number / worth:.4g}{unit}"
    return f"{number:.1e}" if 0 < size < _SMALL else f"{number:.4g}"
