"""Statistics against SciPy's, statsmodels' and rliable's results, in tests/data/golden with how they were made."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st

from kourou import errors
from kourou.experiments.results.comparisons import compare_scores, permutation_test, tukey_hsd
from kourou.experiments.results.curves import mean_band, smoothed
from kourou.experiments.results.statistics import (
    bootstrap_interval,
    improvement_interval,
    iqm,
    probability_of_improvement,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden" / "statistics.json").read_text(encoding="utf-8"))
SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6, abs=1e-6)


def settings_of(case: Any) -> Any:
    return {name: case[name] for name in ("confidence", "resamples", "seed")}


def expected(case: Any) -> Any:
    return near({name: case[name] for name in ("estimate", "low", "high", "confidence")})


def cases(name: str) -> Any:
    return pytest.mark.parametrize("case", GOLDEN[name], ids=range(len(GOLDEN[name])))


class TestReferences:
    @cases("iqm")
    def test_iqm(self, case: Any) -> None:
        assert iqm(case["scores"]) == near(case["value"])

    @cases("improvement")
    def test_probability_of_improvement(self, case: Any) -> None:
        assert probability_of_improvement(case["x"], case["y"]) == near(case["value"])

    @cases("bootstrap")
    def test_stratified_bootstrap(self, case: Any) -> None:
        interval = bootstrap_interval(case["scores"], **settings_of(case))
        assert (interval.low, interval.high) == (near(case["low"]), near(case["high"]))
        assert interval.estimate == iqm(case["scores"])

    @cases("rliable_iqm")
    def test_interquartile_means_and_their_intervals_are_rliables(self, case: Any) -> None:
        assert dataclasses.asdict(bootstrap_interval(case["scores"], **settings_of(case))) == expected(case)

    @cases("rliable_improvement")
    def test_probabilities_of_improvement_and_their_intervals_are_rliables(self, case: Any) -> None:
        assert dataclasses.asdict(improvement_interval(case["x"], case["y"], **settings_of(case))) == expected(case)

    @cases("bands")
    @pytest.mark.parametrize("kind", ["ci", "pi", "cb"])
    def test_bands_of_curves(self, case: Any, kind: Any) -> None:
        given = {name: case[name] for name in ("level", "resamples", "seed")}
        band = mean_band(case["steps"], case["values"], kind, **given)
        assert band.mean == near(case["mean"])
        assert (band.low, band.high) == (near(case[kind][0]), near(case[kind][1]))

    @cases("smoothing")
    def test_smoothing(self, case: Any) -> None:
        got = smoothed(case["steps"], case["values"], bandwidth=case["bandwidth"], at=case["at"])
        assert got == near(case["smooth"])

    @cases("tukey")
    def test_tukey(self, case: Any) -> None:
        groups = {str(i): group for i, group in enumerate(case["groups"])}
        compared = tukey_hsd(groups, alpha=case["alpha"])
        assert len(compared) == len(case["pairs"])
        for got, pair in zip(compared, case["pairs"], strict=True):
            assert [got.first, got.second] == [str(i) for i in pair["pair"]]
            assert got.difference == near(pair["difference"])
            for package in ("scipy", "statsmodels"):
                assert got.p_value == near(pair[f"p_{package}"])
                assert (got.low, got.high) == (near(pair[f"low_{package}"]), near(pair[f"high_{package}"]))
            assert got.significant == pair["reject_statsmodels"]

    @cases("permutation")
    def test_exact_permutations(self, case: Any) -> None:
        assert permutation_test(case["x"], case["y"]) == near(case["p"])

    @cases("holm")
    def test_holm(self, case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        # given four agents, and p-values of their six pairs
        p_values = iter(case["p"])
        monkeypatch.setattr("kourou.experiments.results.comparisons.permutation_test", lambda *_, **__: next(p_values))
        # when they are compared
        compared = compare_scores({name: [0.0, 1.0] for name in "abcd"}, "permutation")
        # then the p-values are adjusted for six
        assert [each.p_value for each in compared] == [near(p) for p in case["adjusted"]]

    @cases("studentized_range")
    def test_the_installed_scipy_has_the_studentized_range(self, case: Any) -> None:
        distribution = importlib.import_module("scipy.stats").studentized_range
        assert distribution.sf(case["q"], case["k"], case["df"]) == pytest.approx(case["above"], abs=1e-8)


class TestPermutations:
    def test_drawn_ones_come_near_the_exact_ones(self) -> None:
        case = GOLDEN["permutation"][2]
        drawn = permutation_test(case["x"], case["y"], resamples=1500)
        assert drawn == pytest.approx(case["p"], abs=0.05)
        assert drawn == permutation_test(case["x"], case["y"], resamples=1500)
        assert drawn != permutation_test(case["x"], case["y"], resamples=1500, seed=1)

    def test_a_drawn_p_value_is_never_0(self) -> None:
        assert 0 < permutation_test(range(20), range(1000, 1020), resamples=100) <= 2 / 101

    @given(SCORES, SCORES)
    def test_it_does_not_matter_who_is_first(self, x: list[float], y: list[float]) -> None:
        if len(x) + len(y) <= 12:
            assert permutation_test(x, y) == pytest.approx(permutation_test(y, x))
        assert permutation_test(x, x, resamples=50) > 0


class TestProperties:
    @given(SCORES, SCORES)
    def test_improvements_of_either_way_make_1(self, x: list[float], y: list[float]) -> None:
        assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1)

    @given(SCORES)
    def test_the_iqm_is_between_the_extremes(self, scores: list[float]) -> None:
        assert min(scores) - 1e-9 * abs(min(scores)) <= iqm(scores) <= max(scores) + 1e-9 * abs(max(scores))

    def test_one_bad_run_does_not_move_the_iqm_far(self) -> None:
        assert iqm([1, 2, 3, 4, 5, 6, 7, -1e9]) == pytest.approx(3.5)

    def test_intervals_follow_their_seed_and_hold_the_truth_about_as_often_as_they_say(self) -> None:
        rng = np.random.default_rng(0)
        tables = [rng.normal(size=(30, 2)) for _ in range(60)]
        intervals = [bootstrap_interval(table, confidence=0.9, resamples=200) for table in tables]
        assert 0.75 <= np.mean([interval.low <= 0 <= interval.high for interval in intervals]) <= 0.98
        assert intervals[0] == bootstrap_interval(tables[0], confidence=0.9, resamples=200)
        assert intervals[0] != bootstrap_interval(tables[0], confidence=0.9, resamples=200, seed=1)

    def test_improvement_has_an_interval(self) -> None:
        rng = np.random.default_rng(1)
        better, worse = rng.normal(1, 1, (10, 3)), rng.normal(0, 1, (8, 3))
        interval = improvement_interval(better, worse, resamples=300)
        assert 0.5 < interval.low < interval.estimate < interval.high <= 1
        assert interval.estimate == probability_of_improvement(better, worse)


class TestComparisons:
    def test_agents_that_differ_are_found_by_both_methods(self) -> None:
        scores = {
            "low": [1.0, 1.2, 0.9, 1.1, 1.0],
            "same": [1.1, 1.0, 1.2, 0.9, 1.05, 0.95],
            "high": [5.0, 5.2, 4.9, 5.1],
        }
        for method in ("tukey_hsd", "permutation"):
            compared = compare_scores(scores, method)
            found = {(each.first, each.second): each.significant for each in compared}
            assert found == {("low", "same"): False, ("low", "high"): True, ("same", "high"): True}

    def test_agents_without_any_spread(self) -> None:
        same, other = tukey_hsd({"a": [1, 1], "b": [1, 1], "c": [2, 2]})[:2]
        assert (same.p_value, same.significant) == (1, False)
        assert (other.p_value, other.significant, other.difference) == (0, True, 1)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: tukey_hsd({"a": [1, 2]}), "at least 2 agents, got a"),
            (lambda: tukey_hsd({"a": [1], "b": [2]}), "at least one agent has to have two runs"),
            (lambda: tukey_hsd({"a": [], "b": [2]}), "agent 'a' has no runs"),
            (lambda: tukey_hsd({"a": [1, float("nan")], "b": [2]}), "agent 'a': the score of run 1 on task 0 is nan"),
            (lambda: tukey_hsd({"a": [1, 2], "b": [2]}, alpha=1), "between 0 and 1, got 1"),
            (lambda: compare_scores({"a": [1], "b": [2]}, cast("Any", "t")), "tukey_hsd or permutation, got 't'"),
            (lambda: compare_scores({"a": [1], "b": [2]}, "permutation", alpha=2), "between 0 and 1, got 2"),
            (lambda: permutation_test([1], [2], resamples=0), "resamples are at least 1"),
            (lambda: bootstrap_interval([1, 2], resamples=0), "resamples are at least 1, got 0"),
            (lambda: bootstrap_interval([1, 2], confidence=95), "a confidence is between 0 and 1"),
            (lambda: probability_of_improvement([[1, 2]], [[1]]), "of the same tasks compare, got 2 and 1"),
            (lambda: iqm([]), "got an array of shape"),
            (lambda: iqm(["x"]), "one row of numbers"),
            (lambda: iqm([[1], [1, 2]]), "one row of numbers for each run"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_cannot_be_compared_is_told(self, make: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert isinstance(caught.value, errors.KourouError)
