"""Which agents differ: Tukey's test, permutation tests, and both over all pairs.

SciPy has the distribution of Tukey's test. Its ``tukey_hsd`` and ``permutation_test`` are not used, because they refuse
a sample of one run, which a baseline often is; without any spread, the first has no p-value.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kourou.experiments.failures import ResultsError
from kourou.experiments.results.statistics import scores_table
from kourou.extras import load_extra

_RESAMPLES = 10_000
"""The usual number of permutations: a p-value near 0.05 then has a standard error of 0.002."""
_BLOCK = 1000
"""Permutations that are held at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two agents, and whether their mean scores differ."""

    first: str
    """One agent."""
    second: str
    """The other."""
    difference: float
    """The mean score of the second less that of the first."""
    p_value: float
    """How likely a difference as large is without one in truth, adjusted for the number of pairs."""
    significant: bool
    """Whether that is less than the level asked for."""
    low: float | None = None
    """The lower end of the simultaneous interval of the difference; None: the method gives none."""
    high: float | None = None
    """Its upper end."""


def compare_scores(
    scores: Mapping[str, Sequence[float]],
    method: Literal["tukey_hsd", "permutation"] = "tukey_hsd",
    *,
    alpha: float = 0.05,
    resamples: int = _RESAMPLES,
    seed: int | None = 0,
) -> tuple[Comparison, ...]:
    """Compare all pairs of agents.

    Args:
        scores: agent → a score for each of its runs; the numbers of runs may differ.
        method: ``tukey_hsd``, for scores that are about normal and spread alike; or ``permutation``, which assumes
            neither, with Holm's adjustment.
        alpha: the level: how likely any of the differences called significant is to be none.
        resamples: permutations of each pair, at most.
        seed: of the permutations; None: another one each time.

    Raises:
        ResultsError: too few agents or runs, scores that are no numbers, or no such method.
    """
    if method == "tukey_hsd":
        return tukey_hsd(scores, alpha=alpha)
    if method != "permutation":
        raise ResultsError(f"method is tukey_hsd or permutation, got {method!r}")
    samples = _samples(scores)
    pairs = list(itertools.combinations(samples, 2))
    found = [
        permutation_test(samples[first], samples[second], resamples=resamples, seed=seed) for first, second in pairs
    ]
    _check_alpha(alpha)
    return tuple(
        Comparison(
            first=first,
            second=second,
            difference=float(samples[second].mean() - samples[first].mean()),
            p_value=p_value,
            significant=p_value < alpha,
        )
        for (first, second), p_value in zip(pairs, _holm(found), strict=True)
    )


def tukey_hsd(scores: Mapping[str, Sequence[float]], *, alpha: float = 0.05) -> tuple[Comparison, ...]:
    """Tukey's honestly significant difference for all pairs (Tukey and Kramer's, where numbers of runs differ).

    Raises:
        ResultsError: fewer than two agents, an agent without runs, or no more runs than agents.
    """
    _check_alpha(alpha)
    samples = _samples(scores)
    df = sum(sample.size for sample in samples.values()) - len(samples)
    if df < 1:
        raise ResultsError("Tukey's test needs the spread of scores: at least one agent has to have two runs")
    variance = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples.values()) / df
    studentized_range = load_extra("scipy.stats").studentized_range
    critical = float(studentized_range.isf(alpha, len(samples), df))
    compared = []
    for first, second in itertools.combinations(samples, 2):
        one, other = samples[first], samples[second]
        difference = float(other.mean() - one.mean())
        error = math.sqrt(variance / 2 * (1 / one.size + 1 / other.size))
        # Without any spread, means are either the same or surely not.
        q = abs(difference) / error if error else math.inf if difference else 0.0
        p_value = float(studentized_range.sf(q, len(samples), df))
        compared.append(
            Comparison(
                first=first,
                second=second,
                difference=difference,
                p_value=p_value,
                significant=p_value < alpha,
                low=difference - critical * error,
                high=difference + critical * error,
            )
        )
    return tuple(compared)


def permutation_test(x: Any, y: Any, *, resamples: int = _RESAMPLES, seed: int | None = 0) -> float:
    """How likely means differ as much (either way) when runs are assigned to the two agents at random.

    Args:
        x: scores of one agent's runs.
        y: those of the other's.
        resamples: if there are no more assignments, all are tried and the p-value is exact; else so many are drawn, and
            the actual one is counted with them.
        seed: of the draws; None: another one each time.

    Raises:
        ResultsError: no runs, or scores that are no numbers.
    """
    np = load_extra("numpy")
    first, second = scores_table(x).ravel(), scores_table(y).ravel()
    if resamples < 1:
        raise ResultsError(f"resamples are at least 1, got {resamples}")
    pooled = np.concatenate([first, second])
    ways = math.comb(pooled.size, first.size)
    exact = ways <= resamples
    observed = first.mean() - second.mean()
    below = above = 0
    for sums in _permuted_sums(pooled, first.size, None if exact else resamples, seed):
        differences = sums / first.size - (pooled.sum() - sums) / second.size
        # Sums in another order differ in their last bits, and are as large nevertheless.
        slack = 1e-12 * max(1.0, float(np.abs(pooled).max()))
        below += int((differences <= observed + slack).sum())
        above += int((differences >= observed - slack).sum())
    total = ways if exact else resamples
    own = 0 if exact else 1
    return min(1.0, 2 * (min(below, above) + own) / (total + own))


def _permuted_sums(pooled: Any, size: int, resamples: int | None, seed: int | None) -> Any:
    """The first agent's sum of scores, for all assignments or for random ones, in blocks."""
    np = load_extra("numpy")
    if resamples is None:
        ways = itertools.combinations(range(pooled.size), size)
        while block := list(itertools.islice(ways, _BLOCK)):
            yield pooled[np.asarray(block)].sum(axis=1)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        permuted = rng.permuted(np.tile(pooled, (min(_BLOCK, resamples - start), 1)), axis=1)
        yield permuted[:, :size].sum(axis=1)


def _holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment: the smallest counts for all tests, the next for all but one, and so on."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = highest
    return adjusted


def _samples(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    if len(scores) < 2:  # noqa: PLR2004 - a comparison is one of two
        raise ResultsError(f"a comparison needs at least 2 agents, got {', '.join(scores) or 'none'}")
    samples = {}
    for name, values in scores.items():
        if not len(values):
            raise ResultsError(f"agent {name!r} has no runs to compare")
        try:
            samples[name] = scores_table(values).ravel()
        except ResultsError as error:
            raise ResultsError(f"agent {name!r}: {error}") from error
    return samples


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ResultsError(f"alpha is a probability between 0 and 1, got {alpha}")
