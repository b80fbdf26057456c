"""Curves of several runs: alignment, smoothing and bands whose numbers are known."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st

from kourou.experiments.results.curves import aligned, mean_band, smoothed

STEPS = [0, 1, 2]
THREE = [[1.0, 2.0, 3.0], [2.0, 4.0, 3.0], [3.0, 9.0, 3.0]]


class TestAligning:
    def test_steps_that_all_have_are_kept(self) -> None:
        steps, values = aligned([(STEPS, row) for row in THREE])
        assert steps.tolist() == STEPS
        assert values.tolist() == THREE

    def test_others_are_read_between(self) -> None:
        steps, values = aligned([([0, 10], [0, 10]), ([4, 2, 8], [4, 2, 8])], points=4)
        assert steps.tolist() == [2, 4, 6, 8]
        assert values.tolist() == [[2, 4, 6, 8]] * 2

    def test_the_last_of_equal_steps_counts_and_what_is_no_number_does_not(self) -> None:
        steps, values = aligned([([0, 1, 1, 2, math.nan], [0, 5, 6, math.nan, 1])])
        assert (steps.tolist(), values.tolist()) == ([0, 1], [[0, 6]])

    @pytest.mark.parametrize(
        ("curves", "message"),
        [
            ([], "nothing to align"),
            ([([], [])], "curve 0 has no values"),
            ([([1], [1, 2])], "a value for each step"),
            ([([0, 1], [0, 0]), ([2, 3], [0, 0])], "no steps in common: one begins at 2, another ends at 1"),
        ],
    )
    def test_what_cannot_be_aligned_is_told(self, curves: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            aligned(curves)


class TestBands:
    # t.ppf(0.975, 2) of SciPy, and the mean and standard deviation of three numbers by hand
    STUDENT = 4.302652729696142

    def test_three_known_curves_have_the_known_interval(self) -> None:
        band = mean_band(STEPS, THREE)
        error = np.array([1, math.sqrt(13), 0]) / math.sqrt(3)
        assert band.mean.tolist() == [2, 5, 3]
        assert band.runs == 3
        assert band.high - band.mean == pytest.approx(self.STUDENT * error, rel=1e-6)
        assert band.mean - band.low == pytest.approx(self.STUDENT * error, rel=1e-6)

    def test_a_further_run_needs_more_room(self) -> None:
        band = mean_band(STEPS, THREE, "pi")
        assert band.high[0] - 2 == pytest.approx(self.STUDENT * math.sqrt(4 / 3), rel=1e-6)

    def test_all_steps_together_are_less_sure_than_each(self) -> None:
        curves = np.random.default_rng(0).normal(size=(40, 30))
        each, together = (mean_band(range(30), curves, kind, resamples=300) for kind in ("ci", "cb"))
        assert (together.high > each.high).all()
        assert together.high.tolist() == mean_band(range(30), curves, "cb", resamples=300).high.tolist()

    def test_one_curve_and_curves_that_are_the_same_have_no_width(self) -> None:
        for values in ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]] * 3):
            for kind in ("ci", "pi", "cb"):
                band = mean_band(STEPS, values, kind)
                assert band.low.tolist() == band.high.tolist() == [1, 2, 3]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"values": [1, 2, 3]}, "a row for each run"),
            ({"values": [[1, 2]]}, "a value for each step"),
            ({"kind": "sd"}, "ci, pi or cb"),
            ({"level": 95}, "between 0 and 1"),
            ({"kind": "cb", "resamples": 0}, "at least 1"),
        ],
    )
    def test_mistakes_are_told(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            mean_band(**cast("Any", {"steps": STEPS, "values": THREE, **options}))


class TestSmoothing:
    def test_it_is_the_weighted_mean(self) -> None:
        weights = np.exp(-(np.array([1.0, 0, 1]) ** 2) / 2 / 0.7**2)
        got = smoothed([0, 1, 2], [5.0, 1.0, -2.0], bandwidth=0.7)
        assert got[1] == pytest.approx((weights * [5, 1, -2]).sum() / weights.sum(), rel=1e-9)

    def test_rows_are_smoothed_one_by_one_and_anywhere(self) -> None:
        rows = np.array([[0.0, 1, 2], [3, 3, 3]])
        got = smoothed([0, 1, 2], rows, bandwidth=1, at=[0.5, 1000])
        assert got.shape == (2, 2)
        assert got[1].tolist() == pytest.approx([3, 3])
        assert got[0, 1] == pytest.approx(2)

    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(1e-3, 1e3))
    def test_it_stays_between_the_extremes(self, values: list[float], bandwidth: float) -> None:
        got = smoothed(range(len(values)), values, bandwidth=bandwidth)
        assert min(values) - 1e-6 <= got.min() <= got.max() <= max(values) + 1e-6

    @pytest.mark.parametrize("bandwidth", [0, -1, math.nan])
    def test_a_bandwidth_is_above_0(self, bandwidth: float) -> None:
        with pytest.raises(ValueError, match="a bandwidth above 0"):
            smoothed([1], [1], bandwidth=bandwidth)
