"""The learning curve, as a picture and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from examples.dqn.nodes import Evaluation
from examples.dqn.policy import ENVIRONMENT, LONGEST_EPISODE

Floats = npt.NDArray[np.float64]

CURVE = "#3b5bdb"
TARGET = "#e8590c"
TEXT = "#343a40"
FAINT = "#adb5bd"
NARROWEST_MARKS = 0.07  # of the width, so that no number touches the next


def write_json(path: Path, curve: Sequence[Evaluation], *, started: float, target: float, seed: int) -> None:
    """Write every evaluation; ``started`` is the unix time of the launch."""
    points = [
        {
            "seconds": round(point.unix_time - started, 3),
            "steps": point.steps,
            "mean_return": point.mean,
            "returns": point.returns.tolist(),
        }
        for point in curve
    ]
    data = {"environment": ENVIRONMENT, "seed": seed, "target": target, "curve": points}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def draw(path: Path, curve: Sequence[Evaluation], name: str, *, started: float, target: float) -> None:
    """Draw the returns over the seconds since the launch (below) and the steps taken by then (above)."""
    seconds = np.array([point.unix_time - started for point in curve])
    steps = np.array([float(point.steps) for point in curve])
    figure = Figure(figsize=(8.8, 5.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _shade_start(axes, seconds[0])
    _draw_returns(axes, seconds, curve)
    _draw_target(axes, target)
    _draw_last(axes, seconds, curve)
    _dress(axes, curve, name, target)
    _add_steps(axes, seconds, steps)
    figure.savefig(path)


def _shade_start(axes: Axes, until: float) -> None:
    axes.axvspan(0, until, color=FAINT, alpha=0.15, linewidth=0)
    axes.text(until / 2, 8, "nodes\nstart", ha="center", va="bottom", color=TEXT, fontsize=9)


def _draw_returns(axes: Axes, seconds: Floats, curve: Sequence[Evaluation]) -> None:
    for second, point in zip(seconds, curve, strict=True):
        axes.plot([second] * len(point.returns), point.returns, ".", color=CURVE, alpha=0.22, markeredgewidth=0)
    means = [point.mean for point in curve]
    axes.plot(seconds, means, color=CURVE, linewidth=2, solid_joinstyle="round", marker="o", markersize=3.5)


def _draw_target(axes: Axes, target: float) -> None:
    axes.axhline(target, color=TARGET, linewidth=1.4, linestyle=(0, (5, 3)))
    at_the_left_end = axes.get_yaxis_transform()  # x in parts of the width, y in returns
    axes.annotate(
        f"target: {target:g}",
        (0.0, target),
        xycoords=at_the_left_end,
        xytext=(8, 5),
        textcoords="offset points",
        color=TARGET,
        fontsize=10,
    )


def _draw_last(axes: Axes, seconds: Floats, curve: Sequence[Evaluation]) -> None:
    mean = curve[-1].mean
    axes.plot(seconds[-1], mean, "o", color=TARGET, markersize=8, markeredgecolor="white", zorder=5)
    axes.annotate(
        f"{mean:.0f} after {seconds[-1]:.1f} s",
        (seconds[-1], mean),
        xytext=(-10, 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=TEXT,
        fontsize=11,
        fontweight="bold",
    )


def _dress(axes: Axes, curve: Sequence[Evaluation], name: str, target: float) -> None:
    highest = max(target, *(point.mean for point in curve))
    axes.set_ylim(0, min(1.25 * highest, 1.05 * LONGEST_EPISODE))
    axes.set_xlim(left=0)
    axes.set_title(f"{ENVIRONMENT}: what {name} learns", loc="left", pad=14, fontsize=14, fontweight="bold", color=TEXT)
    axes.set_xlabel("seconds since the launch", color=TEXT)
    axes.set_ylabel(f"return of {len(curve[0].returns)} greedy episodes: each, and the mean", color=TEXT)
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
