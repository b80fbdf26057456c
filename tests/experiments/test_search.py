"""Random and Sobol searches, and conditions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kourou.experiments.describe.constraints import predicate_of
from kourou.experiments.describe.search import Choice, Integers, RandomSearch, SobolSearch, Uniform

SPACE: Any = {
    "lr": Uniform(low=1e-5, high=1e-2, log=True),
    "layers": Integers(low=1, high=4),
    ("rnn", "recurrence"): [(False, 1), (True, 16)],
    "wide": Uniform(low=-1, high=1),
}
KNOWN_POINTS = [
    (0.5442281828727573, 0.37030208413489163, 0.9036812435369939),
    (0.044228182872757316, 0.8703020841348916, 0.40368124353699386),
    (0.2942281828727573, 0.12030208413489163, 0.6536812435369939),
]


@pytest.mark.parametrize("search", [RandomSearch, SobolSearch])
class TestSearches:
    def test_asking_for_more_keeps_what_there_is(self, search: Any) -> None:
        ten, twenty = (list(search(SPACE, n, seed=4).generate_params()) for n in (10, 20))
        assert twenty[:10] == ten

    def test_values_are_in_their_ranges_and_of_their_types(self, search: Any) -> None:
        drawn = list(search(SPACE, 64).generate_params())
        assert len(drawn) == 64
        for params in drawn:
            assert 1e-5 <= params["lr"] <= 1e-2
            assert params["layers"] in {1, 2, 3, 4}
            assert type(params["layers"]) is int
            assert (params["rnn"], params["recurrence"]) in {(False, 1), (True, 16)}
            assert -1 <= params["wide"] <= 1

    def test_other_seeds_give_other_combinations(self, search: Any) -> None:
        first, second = (list(search(SPACE, 5, seed=seed).generate_params()) for seed in (0, 1))
        assert not any(params in second for params in first)

    def test_conditions_are_met_and_nothing_comes_twice(self, search: Any) -> None:
        space = {"a": Integers(low=0, high=9), "b": Integers(low=0, high=9)}
        got = [(p["a"], p["b"]) for p in search(space, 45, where="a < b").generate_params()]
        assert len(set(got)) == 45
        assert all(a < b for a, b in got)

    def test_what_cannot_be_found_is_told(self, search: Any) -> None:
        with pytest.raises(ValueError, match=r"only 2 different combinations .* 3 are asked for"):
            list(search({"a": [1, 2]}, 3).generate_params())

    def test_the_order_can_be_shuffled(self, search: Any) -> None:
        made = search(SPACE, 20)
        plain, shuffled = list(made.generate_params()), list(made.generate_params(randomize=True))
        assert shuffled != plain
        assert all(params in plain for params in shuffled)

    @pytest.mark.parametrize(
        ("space", "message"),
        [
            ({}, "a space and at least 1"),
            ({"a b": [1]}, "without spaces"),
            ({"a": [1], ("a", "b"): [(1, 2)]}, "'a' twice"),
            ({("a", "b"): [(1,)]}, r"\(a, b\) need a list of choices with 2 values"),
            ({("a", "b"): Uniform(low=0, high=1)}, "need a list of choices"),
        ],
    )
    def test_mistakes_are_told(self, search: Any, space: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            search(space, 3)


def test_a_random_search_leaves_other_parameters_alone() -> None:
    fewer = [p["lr"] for p in RandomSearch({"lr": SPACE["lr"]}, 8).generate_params()]
    more = [p["lr"] for p in RandomSearch(SPACE, 8).generate_params()]
    assert fewer == more


def test_a_sobol_search_fills_every_cell() -> None:
    space = {"a": Uniform(low=0, high=8), "b": Uniform(low=0, high=8)}
    got = list(SobolSearch(space, 64, seed=5).generate_params())
    assert {(int(p["a"]), int(p["b"])) for p in got} == {(a, b) for a in range(8) for b in range(8)}


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 1000), (3, 9)])
def test_whole_numbers_reach_both_ends(low: int, high: int) -> None:
    for log in (False, True):
        numbers = Integers(low=low, high=high, log=log)
        assert (numbers.at(0.0), numbers.at(math.nextafter(1, 0))) == (low, high)


@given(st.floats(0, 1, exclude_max=True), st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_real_numbers_stay_inside(position: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    for log in (False, True):
        value = Uniform(low=low, high=high, log=log).at(position)
        assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)


@pytest.mark.parametrize(
    ("distribution", "options"),
    [
        (Uniform, {"low": 2, "high": 1}),
        (Uniform, {"low": 0, "high": 1, "log": True}),
        (Uniform, {"low": math.nan, "high": 1}),
        (Uniform, {"low": "0", "high": 1}),
        (Uniform, {"low": False, "high": 1}),
        (Integers, {"low": 0.5, "high": 2}),
        (Choice, {"values": []}),
        (Choice, {"values": "abc"}),
    ],
    ids=str,
)
def test_distributions_that_cannot_be_are_refused(distribution: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        distribution(**options)


class TestSobolSequence:
    UNIT = Uniform(low=0, high=1)

    def test_points_stay_what_they_were(self) -> None:
        # Of a sweep that is taken up again or extended, the runs that there are have to be found.
        got = SobolSearch(dict.fromkeys(("p0", "p1", "p2"), self.UNIT), 3, seed=7).generate_params()
        assert [tuple(params.values()) for params in got] == KNOWN_POINTS

    @pytest.mark.parametrize("seed", [0, 5])
    def test_each_dimension_has_one_point_in_each_part(self, seed: int) -> None:
        points = SobolSearch({f"p{i}": self.UNIT for i in range(30)}, 512, seed=seed).generate_params()
        for column in zip(*(params.values() for params in points), strict=True):
            assert sorted(int(512 * x) for x in column) == list(range(512))

    def test_a_further_parameter_leaves_the_others(self) -> None:
        fewer, more = (
            [params["p0"] for params in SobolSearch(dict.fromkeys(names, self.UNIT), 8).generate_params()]
            for names in (["p0"], ["p0", "p1"])
        )
        assert fewer == more


class TestConditions:
    PARAMS = {"a": 2, "b.c": 0.5, "name": "x", "flag": True, "none": None}  # noqa: RUF012 - nobody changes it

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a == 2", True),
            ("1 < a <= 2 != b.c", True),
            ("a * b.c - 1", False),
            ("a in [1, 3] or name not in ('x', 'y')", False),
            ("not flag and a", False),
            ("none is None", True),
            ("-a // 2 == -1 and a % 2 == 0 and a / 4 == b.c", True),
            ("flag or missing", True),
        ],
    )
    def test_expressions(self, text: str, expected: bool) -> None:
        assert predicate_of(text)(self.PARAMS) is expected

    @pytest.mark.parametrize(
        "text", ["", "a =", "__import__('os')", "[x for x in a]", "a[0]", "lambda: 1", "a ** 9", "f'{a}'"]
    )
    def test_what_could_do_something_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="condition"):
            predicate_of(text)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("lr > 1", "there is no parameter 'lr', only a, b.c"),
            ("a.b > 1", "no parameter 'a.b'"),
            ("name > 1", "fails for"),
            ("a / 0", "fails for"),
            ("'x'.upper > 1", "between names only"),
        ],
    )
    def test_what_cannot_be_told_is_told(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            predicate_of(text)(self.PARAMS)
