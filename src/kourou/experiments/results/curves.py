"""Learning curves of several runs as one: on common steps, smoothed, with a band around their mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from kourou.experiments.failures import ResultsError
from kourou.extras import load_extra

BandKind: TypeAlias = Literal["ci", "pi", "cb"]
"""``ci``: where the mean is, step by step (Student's interval). ``pi``: where a further run would be, step by step.
``cb``: where the mean is at all steps together (bootstrap)."""

_POINTS = 500
"""More than a plot has room for."""
_FAINTEST = 100.0
"""A weight of exp(-100) is nothing; smaller ones would only leave the range of floats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """The mean of several curves with a band around it; arrays of one length."""

    steps: Any
    """Where the curves were read."""
    mean: Any
    """Their mean there."""
    low: Any
    """The band's lower edge."""
    high: Any
    """Its upper edge."""
    runs: int
    """How many curves there are."""


def aligned(curves: Sequence[tuple[Any, Any]], *, points: int = _POINTS) -> tuple[Any, Any]:
    """Read curves at common steps, from where the last one begins to where the first one ends.

    Args:
        curves: steps and values of each run. Steps may be in any order; of equal ones the last counts. Values that are
            no number are left out.
        points: how many steps at most. Where all curves have the same steps and not more, these are kept.

    Returns:
        The steps, and an array with a row for each curve.

    Raises:
        ResultsError: no curves, an empty one, or curves without any steps in common.
    """
    np = load_extra("numpy")
    if not curves or points < 1:
        raise ResultsError(f"there is nothing to align: {len(curves)} curves at {points} points")
    read = [_cleaned(number, steps, values) for number, (steps, values) in enumerate(curves)]
    first, last = max(steps[0] for steps, _ in read), min(steps[-1] for steps, _ in read)
    if first > last:
        raise ResultsError(f"the curves have no steps in common: one begins at {first:g}, another ends at {last:g}")
    own = read[0][0]
    same = len(own) <= points and all(np.array_equal(own, steps) for steps, _ in read)
    common = own if same else np.linspace(first, last, points)
    return common, np.stack([np.interp(common, steps, values) for steps, values in read])


def smoothed(steps: Any, values: Any, *, bandwidth: float, at: Any = None) -> Any:
    """Means of a curve's values, weighted by how near their steps are (Nadaraya and Watson's, with Gaussian weights).

    Args:
        steps: where the values were measured.
        values: one for each step, or rows of them.
        bandwidth: the weights' standard deviation, in steps.
        at: where to read the smooth curve; None: at its own steps.

    Raises:
        ResultsError: a bandwidth that is not above 0, or steps and values that do not match.
    """
    np = load_extra("numpy")
    where, curve = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if not bandwidth > 0 or where.ndim != 1 or curve.shape[-1:] != where.shape or not where.size:
        raise ResultsError(
            f"smoothing needs a bandwidth above 0 and a value for each step, got {bandwidth} and shapes "
            f"{where.shape} and {curve.shape}"
        )
    distances = (where[None, :] - (where if at is None else np.asarray(at, dtype=float))[:, None]) / bandwidth
    # Weights relative to the nearest step's, so that far from all steps there is still one that counts.
    nearest = np.abs(distances).min(axis=1, keepdims=True)
    exponents = np.minimum((distances**2 - nearest**2) / 2, _FAINTEST)
    weights = np.exp(-exponents)
    return curve @ (weights / weights.sum(axis=1, keepdims=True)).T


def mean_band(
    steps: Any, values: Any, kind: BandKind = "ci", *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Band:
    """The mean of curves and a band around it. A single curve has no band: its edges are the curve.

    Args:
        steps: the curves' common steps, see ``aligned``.
        values: a row for each run.
        kind: what the band says.
        level: how sure the band is of it.
        resamples: bootstrap draws of ``cb``.
        seed: of these draws.

    Raises:
        ResultsError: shapes that do not match, no such kind, or a level that is no probability.
    """
    np = load_extra("numpy")
    where, table = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if table.ndim != 2 or not len(table) or table.shape[1] != where.size:  # noqa: PLR2004 - runs and steps
        raise ResultsError(f"a band needs a row for each run and a value for each step, got shape {table.shape}")
    if not 0 < level < 1 or kind not in {"ci", "pi", "cb"}:
        raise ResultsError(f"a band is ci, pi or cb with a level between 0 and 1, got {kind!r} and {level}")
    runs, mean = len(table), table.mean(axis=0)
    half = np.zeros_like(mean)
    if runs > 1:
        spread = table.std(axis=0, ddof=1)
        student = load_extra("scipy.special").stdtrit(runs - 1, (1 + level) / 2)
        scale = math.sqrt(1 / runs) if kind != "pi" else math.sqrt(1 + 1 / runs)
        factor = _simultaneous(table, level, resamples, seed) if kind == "cb" else student
        half = factor * scale * spread
    return Band(steps=where, mean=mean, low=mean - half, high=mean + half, runs=runs)


def _simultaneous(table: Any, level: float, resamples: int, seed: int) -> float:
    """How many standard errors the mean's farthest step is away, at this level, by the bootstrap."""
    np = load_extra("numpy")
    if resamples < 1:
        raise ResultsError(f"resamples are at least 1, got {resamples}")
    rng = np.random.default_rng(seed)
    error = table.std(axis=0, ddof=1) / math.sqrt(len(table))
    varies = error > 0
    if not varies.any():
        return 0.0
    centre, curves, error = table.mean(axis=0)[varies], table[:, varies], error[varies]
    rows = rng.integers(0, len(table), (resamples, len(table)))
    farthest = [float((np.abs(curves[each].mean(axis=0) - centre) / error).max()) for each in rows]
    return float(np.quantile(farthest, level))


def _cleaned(number: int, steps: Any, values: Any) -> tuple[Any, Any]:
    np = load_extra("numpy")
    where, curve = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if where.shape != curve.shape or where.ndim != 1:
        raise ResultsError(f"curve {number} has a value for each step, got shapes {where.shape} and {curve.shape}")
    known = np.isfinite(where) & np.isfinite(curve)
    by_step = dict(zip(where[known].tolist(), curve[known].tolist(), strict=True))
    if not by_step:
        raise ResultsError(f"curve {number} has no values")
    ordered = sorted(by_step)
    return np.array(ordered), np.array([by_step[step] for step in ordered])
