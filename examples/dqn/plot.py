"""The learning curve, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from examples.dqn.nodes import Evaluation, moving_means
from examples.dqn.policy import ENVIRONMENT, LONGEST_EPISODE

Floats = npt.NDArray[np.float64]

CURVE = "#3b5bdb"
TARGET = "#e8590c"
TEXT = "#343a40"
FAINT = "#adb5bd"
HEADROOM = 1.28  # above the returns, for the legend and the last point's label
NARROWEST_MARKS = 0.07  # of the width, so that no number touches the next


def draw(path: Path, curve: Sequence[Evaluation], name: str, *, started: float, target: float, window: int = 1) -> None:
    """Draw the returns over the seconds since the launch (below) and the steps taken by then (above).

    Args:
        path: of the picture.
        curve: at least one evaluation.
        name: of the algorithm.
        started: unix time of the launch.
        target: mean return to reach.
        window: evaluations in a row over which the mean is taken.
    """
    seconds = np.array([point.unix_time - started for point in curve])
    steps = np.array([float(point.steps) for point in curve])
    figure = Figure(
        figsize=(8.8, 5.2), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12), facecolor="white"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _shade_start(axes, seconds[0])
    means = moving_means(curve, window)
    _draw_returns(axes, seconds, curve, means, window)
    _draw_target(axes, target)
    _draw_last(axes, seconds[-1], means[-1])
    _dress(axes, name, max(target, *(point.mean for point in curve)))
    _add_steps(axes, seconds, steps)
    figure.savefig(path)


def _shade_start(axes: Axes, until: float) -> None:
    axes.axvspan(0, until, color=FAINT, alpha=0.15, linewidth=0)
    axes.text(until / 2, 8, "nodes\nstart", ha="center", va="bottom", color=TEXT, fontsize=9)


def _draw_returns(
    axes: Axes, seconds: Floats, curve: Sequence[Evaluation], means: Sequence[float], window: int
) -> None:
    episodes = np.repeat(seconds, [len(point.returns) for point in curve])
    returns = np.concatenate([point.returns for point in curve])
    axes.plot(episodes, returns, ".", color=CURVE, alpha=0.16, markeredgewidth=0, label="a greedy episode")
    each = f"an evaluation: mean of {len(curve[0].returns)} episodes"
    if window > 1:
        raw = [point.mean for point in curve]
        axes.plot(seconds, raw, color=CURVE, alpha=0.45, linewidth=1, marker="o", markersize=2.5, label=each)
    label = each if window == 1 else f"mean of the latest {window} evaluations"
    axes.plot(seconds, means, color=CURVE, linewidth=2.4, solid_joinstyle="round", label=label)


def _draw_target(axes: Axes, target: float) -> None:
    axes.axhline(target, color=TARGET, linewidth=1.4, linestyle=(0, (5, 3)), label=f"target: {target:g}")


def _draw_last(axes: Axes, second: float, mean: float) -> None:
    axes.plot(second, mean, "o", color=TARGET, markersize=8, markeredgecolor="white", zorder=5)
    axes.annotate(
        f"{mean:.0f} after {second:.1f} s",
        (second, mean),
        xytext=(-8, 8),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=TEXT,
        fontsize=11,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )


def _dress(axes: Axes, name: str, highest: float) -> None:
    top = min(1.1 * highest, LONGEST_EPISODE)
    axes.set_ylim(0, HEADROOM * top)
    axes.set_yticks([tick for tick in MaxNLocator(6, integer=True).tick_values(0, top) if tick <= top])
    axes.set_xlim(left=0)
    axes.legend(loc="upper left", ncols=2, frameon=False, fontsize=9, labelcolor=TEXT, borderaxespad=0.8)
    axes.set_title(f"{ENVIRONMENT}: what {name} learns", loc="left", pad=14, fontsize=14, fontweight="bold", color=TEXT)
    axes.set_xlabel("seconds since the launch", color=TEXT)
    axes.set_ylabel("return", color=TEXT)
    axes.grid(axis="y", color=FAINT, alpha=0.35, linewidth=0.8)
    axes.tick_params(colors=TEXT, length=3)
    axes.spines["right"].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _add_steps(axes: Axes, seconds: Floats, steps: Floats) -> None:
    """A second scale above. Steps do not grow evenly with time, so its marks stand where the evaluations put them."""
    marks: dict[float, str] = {}
    for mark in MaxNLocator(8, integer=True).tick_values(0, steps[-1]):
        second = float(np.interp(mark, steps, seconds))
        if 0 < mark <= steps[-1] and second - max(marks, default=0.0) > NARROWEST_MARKS * seconds[-1]:
            marks[second] = f"{mark:,.0f}"
    scale = axes.secondary_xaxis("top")
    scale.set_xticks(list(marks), labels=list(marks.values()))
    scale.set_xlabel("environment steps of all actors", color=TEXT)
    scale.tick_params(colors=TEXT, length=3)
    scale.spines["top"].set_color(FAINT)
