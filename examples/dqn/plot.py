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
from matplotlib.ticker import FuncFormatter

from examples.dqn.nodes import Evaluation
from examples.dqn.policy import LONGEST_EPISODE

Floats = npt.NDArray[np.float64]

CURVE = "#3b5bdb"
TARGET = "#e8590c"
TEXT = "#343a40"
FAINT = "#adb5bd"


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
    data = {"environment": "CartPole-v1", "seed": seed, "target": target, "curve": points}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def draw(path: Path, curve: Sequence[Evaluation], *, started: float, target: float) -> None:
    """Draw the mean return over the steps taken (below) and over the seconds since the launch (above)."""
    figure = Figure(figsize=(8.8, 5.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = np.array([float(point.steps) for point in curve])
    seconds = np.array([point.unix_time - started for point in curve])
    _draw_curve(axes, steps, curve)
    _draw_target(axes, target)
    _draw_best(axes, steps, seconds, curve)
    _dress(axes, top=max(target, *(point.mean for point in curve)))
    _add_seconds(axes, steps, seconds)
    figure.savefig(path)


def _draw_curve(axes: Axes, steps: Floats, curve: Sequence[Evaluation]) -> None:
    low, high = np.array([np.quantile(point.returns, [0.1, 0.9]) for point in curve]).T
    episodes = len(curve[0].returns)
    axes.fill_between(steps, low, high, color=CURVE, alpha=0.14, linewidth=0, label="10 to 90 % of its episodes")
    axes.plot(
        steps,
        [point.mean for point in curve],
        color=CURVE,
        linewidth=2,
        marker="o",
        markersize=3.5,
        label=f"mean return over {episodes} episodes",
    )


def _draw_target(axes: Axes, target: float) -> None:
    axes.axhline(target, color=TARGET, linewidth=1.4, linestyle=(0, (5, 3)), label=f"target: {target:g}")


def _draw_best(axes: Axes, steps: Floats, seconds: Floats, curve: Sequence[Evaluation]) -> None:
    best = max(range(len(curve)), key=lambda i: curve[i].mean)
    axes.plot(steps[best], curve[best].mean, "o", color=TARGET, markersize=8, markeredgecolor="white", zorder=5)
    axes.annotate(
        f"{curve[best].mean:.0f}\nafter {steps[best]:,.0f} steps, {seconds[best]:.0f} s",
        (steps[best], curve[best].mean),
        xytext=(-10, 8),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=TEXT,
        fontsize=10,
    )


def _dress(axes: Axes, top: float) -> None:
    axes.set_title("DQN on CartPole-v1", loc="left", pad=14, fontsize=14, fontweight="bold", color=TEXT)
    axes.set_xlabel("environment steps of all actors", color=TEXT)
    axes.set_ylabel("return of the greedy policy", color=TEXT)
    axes.set_ylim(0, min(LONGEST_EPISODE, top * 1.25))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y", color=FAINT, alpha=0.35, linewidth=0.8)
    axes.tick_params(colors=TEXT, length=3)
    axes.spines["right"].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    axes.legend(loc="lower right", frameon=False, labelcolor=TEXT)


def _add_seconds(axes: Axes, steps: Floats, seconds: Floats) -> None:
    """A second scale above. Steps do not grow evenly with time, so its marks stand where the evaluations put them."""
    # From the launch, at 0, to a point beyond the last evaluation, so that the scale has an end to the right, too.
    known_steps, first = np.unique(np.concatenate([[0.0], steps, 2 * steps[-1:] + 1]), return_index=True)
    known_seconds = np.concatenate([[0.0], seconds, 2 * seconds[-1:] + 1])[first]

    def to_seconds(values: npt.ArrayLike) -> Floats:
        return np.interp(np.asarray(values, float), known_steps, known_seconds)

    def to_steps(values: npt.ArrayLike) -> Floats:
        return np.interp(np.asarray(values, float), known_seconds, known_steps)

    scale = axes.secondary_xaxis("top", functions=(to_seconds, to_steps))
    scale.set_xlabel("seconds since the launch", color=TEXT)
    scale.tick_params(colors=TEXT, length=3)
    scale.spines["top"].set_color(FAINT)
