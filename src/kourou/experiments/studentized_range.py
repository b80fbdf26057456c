"""The distribution of the studentized range, which Tukey's test needs, without SciPy."""

from __future__ import annotations

import functools
import math
from typing import Any

from kourou.experiments.extras import load_extra
from kourou.experiments.failures import ResultsError

__all__ = ["critical_value", "probability_above"]

_NODES = 96
"""Of each Gauss-Legendre quadrature; with them, errors are below 1e-10 for up to 30 groups."""
_PRECISION = 1e-12
_NORMAL_REACH = 8.5
"""Beyond this many standard deviations a normal variable has less than 1e-16 of its probability."""
_SCALE_REACH = 12.0
"""The same for the scale, in its own, about 1/sqrt(2 df), which has a longer tail for few degrees of freedom."""


def probability_above(q: float, k: int, df: float) -> float:
    """How likely the studentized range of ``k`` normal groups is above ``q``.

    Args:
        q: the range of the groups' means, in standard errors.
        k: how many groups, at least 2.
        df: degrees of freedom of the standard error.

    Raises:
        ResultsError: fewer groups, no degrees of freedom, or no number.
    """
    if k < 2 or not df >= 1 or math.isnan(q):  # noqa: PLR2004 - a range is one of at least two
        raise ResultsError(f"a studentized range has at least 2 groups and 1 degree of freedom, got {k}, {df} and {q}")
    if q <= 0:
        return 1.0
    if math.isinf(q):
        return 0.0
    np = load_extra("numpy")
    scales, weights = _scales(float(df))
    points, point_weights = _legendre(-_NORMAL_REACH, _NORMAL_REACH)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    # The largest of k is at z and the others are within q below it; averaged over the scale of the standard error.
    within = _normal(points)[:, None] - _normal(points[:, None] - q * scales[None, :])
    at_most = k * (point_weights * density) @ np.clip(within, 0, 1) ** (k - 1)
    return float(min(1.0, max(0.0, 1 - at_most @ weights)))


def critical_value(alpha: float, k: int, df: float) -> float:
    """The range that is exceeded with probability ``alpha``.

    Raises:
        ResultsError: ``alpha`` is no probability between 0 and 1, or see ``probability_above``.
    """
    if not 0 < alpha < 1:
        raise ResultsError(f"alpha is a probability between 0 and 1, got {alpha}")
    low, high = 0.0, 1.0
    at_low, at_high = _excess(low, alpha, k, df), _excess(high, alpha, k, df)
    while at_high > 0:
        low, at_low, high = high, at_high, 2 * high
        at_high = _excess(high, alpha, k, df)
    q, side = high, 0
    for _ in range(100):  # the rule of false position, about ten steps; a side that stays has its weight halved
        before, q = q, (low * at_high - high * at_low) / (at_high - at_low)
        if abs(q - before) <= _PRECISION * q:
            break
        at_q = _excess(q, alpha, k, df)
        if at_q > 0:
            low, at_low, at_high, side = q, at_q, at_high / (2 if side > 0 else 1), 1
        else:
            high, at_high, at_low, side = q, at_q, at_low / (2 if side < 0 else 1), -1
    return q


def _excess(q: float, alpha: float, k: int, df: float) -> float:
    """Above 0 where the probability is above ``alpha``; a logarithm, since it is nearly straight."""
    return math.log(max(probability_above(q, k, df), 1e-300) / alpha)


@functools.lru_cache(maxsize=32)
def _scales(df: float) -> tuple[Any, Any]:
    """Nodes for sqrt(chi² / df), and weights that hold its density."""
    np = load_extra("numpy")
    reach = _SCALE_REACH / math.sqrt(2 * df)
    nodes, weights = _legendre(max(0.0, 1 - reach), 1 + reach)
    log_constant = df / 2 * math.log(df) - math.lgamma(df / 2) - (df / 2 - 1) * math.log(2)
    log_density = log_constant + (df - 1) * np.log(nodes) - df * nodes**2 / 2
    return nodes, weights * np.exp(log_density)


def _legendre(low: float, high: float) -> tuple[Any, Any]:
    nodes, weights = _unit_legendre()
    half = (high - low) / 2
    return low + half * (nodes + 1), weights * half


@functools.cache
def _unit_legendre() -> tuple[Any, Any]:
    nodes, weights = load_extra("numpy").polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _normal(x: Any) -> Any:
    """The normal distribution's cumulative function."""
    np = load_extra("numpy")
    return (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2
