"""Summaries of a few runs that one bad run does not upset, with intervals: after Agarwal et al. (2021).

Scores are given as one row for each run and one column for each task; a plain list is a single task. SciPy's
``bootstrap`` draws the same rows, but refuses a single run, takes up to twice as long, and is as long to call as
drawing them is here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from kourou.experiments.failures import ResultsError
from kourou.extras import load_extra

_RESAMPLES = 2000
"""The ends of a 95 % interval then vary by a few percent of its width from seed to seed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the interval that its bootstrap distribution has its middle part in."""

    estimate: float
    """The statistic of the scores themselves."""
    low: float
    """The interval's lower end."""
    high: float
    """Its upper end."""
    confidence: float
    """The share of resampled estimates between the two."""


def iqm(scores: Any) -> float:
    """The interquartile mean: the mean without the lowest and the highest quarter (each rounded down) of all scores."""
    np = load_extra("numpy")
    flat = np.sort(scores_table(scores), axis=None)
    cut = flat.size // 4
    return float(flat[cut : flat.size - cut].mean())


def probability_of_improvement(x: Any, y: Any) -> float:
    """How likely a run of ``x`` is better than one of ``y`` on the same task, ties counting half, averaged over tasks.

    Raises:
        ResultsError: the two have not the same tasks.
    """
    first, second = scores_table(x), scores_table(y)
    _check_same_tasks(first, second)
    return _improvement(first, second)


def bootstrap_interval(
    scores: Any,
    statistic: Callable[[Any], float] = iqm,
    *,
    confidence: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A stratified bootstrap interval (percentiles): runs are drawn anew, with replacement, for each task by itself.

    Args:
        scores: one row for each run, one column for each task.
        statistic: what is estimated, a function of such a table.
        confidence: the interval's share of the resampled estimates.
        resamples: how many tables are drawn.
        seed: of the draws; the same gives the same interval.

    Raises:
        ResultsError: scores that are no numbers, or numbers that cannot be.
    """
    table = scores_table(scores)
    rows = _resampled_rows(seed, resamples, [table])[0]
    estimates = [statistic(_resampled(table, row)) for row in rows]
    return _interval(statistic(table), estimates, confidence)


def improvement_interval(
    x: Any, y: Any, *, confidence: float = 0.95, resamples: int = _RESAMPLES, seed: int = 0
) -> Interval:
    """``probability_of_improvement`` with a stratified bootstrap interval; the arguments are those of the two.

    Raises:
        ResultsError: scores that are no numbers, other tasks, or numbers that cannot be.
    """
    first, second = scores_table(x), scores_table(y)
    _check_same_tasks(first, second)
    pairs = zip(*_resampled_rows(seed, resamples, [first, second]), strict=True)
    estimates = [_improvement(_resampled(first, rows), _resampled(second, others)) for rows, others in pairs]
    return _interval(_improvement(first, second), estimates, confidence)


def scores_table(scores: Any) -> Any:
    """Scores as a NumPy array with a row for each run and a column for each task.

    Raises:
        ResultsError: they are no numbers, not finite, or none.
    """
    np = load_extra("numpy")
    try:
        table = np.asarray(scores, dtype=float)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"scores are one row of numbers for each run, with one for each task: {error}") from error
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or not table.size:  # noqa: PLR2004 - rows and columns
        raise ResultsError(f"scores are a table of runs and tasks, got an array of shape {table.shape}")
    if not np.isfinite(table).all():
        run, task = np.argwhere(~np.isfinite(table))[0]
        raise ResultsError(
            f"the score of run {run} on task {task} is {table[run, task]}: leave the run out, or say why"
        )
    return table


def _improvement(first: Any, second: Any) -> float:
    np = load_extra("numpy")
    better = np.sign(first[:, None, :] - second[None, :, :])
    return float((better.mean() + 1) / 2)  # each task has as many pairs, so the mean of all is the mean of tasks


def _resampled_rows(seed: int, resamples: int, tables: Sequence[Any]) -> list[Any]:
    """For each table, the rows of each of its columns in each resample: an array of resamples × runs × tasks."""
    np = load_extra("numpy")
    if resamples < 1:
        raise ResultsError(f"resamples are at least 1, got {resamples}")
    rng = np.random.default_rng(seed)
    return [
        np.stack([rng.integers(0, len(table), (resamples, len(table))) for _ in range(table.shape[1])], axis=-1)
        for table in tables
    ]


def _resampled(table: Any, rows: Any) -> Any:
    return load_extra("numpy").take_along_axis(table, rows, axis=0)


def _interval(estimate: float, estimates: Sequence[float], confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ResultsError(f"a confidence is between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low, high = load_extra("numpy").quantile(estimates, [tail, 1 - tail])
    return Interval(estimate=float(estimate), low=float(low), high=float(high), confidence=confidence)


def _check_same_tasks(first: Any, second: Any) -> None:
    if first.shape[1] != second.shape[1]:
        raise ResultsError(f"only scores of the same tasks compare, got {first.shape[1]} and {second.shape[1]} tasks")
