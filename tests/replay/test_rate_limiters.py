"""The limiter's arithmetic, and its closed forms against doing it one by one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import assume, given, settings, strategies as st

from fuzzing import examples
from kourou.replay.rate_limiters import LimiterState, MinSize, Queue, RateLimiter, SampleToInsertRatio, Stack

NUMBERS = st.sampled_from([-7.5, -1.0, 0.0, 0.3, 1.0, 2.0, 3.25, 8.0, 40.0])


@settings(max_examples=examples(300))
@given(
    spi=st.sampled_from([0.1, 0.25, 0.5, 1.0, 3.0, 4.7]),
    min_size=st.integers(1, 9),
    low=NUMBERS,
    width=st.sampled_from([1.0, 3.5, 5.0, 9.4, 60.0]),
    counts=st.tuples(st.integers(0, 40), st.integers(0, 60), st.integers(0, 40)),
    asked=st.integers(1, 30),
    max_size=st.integers(1, 20),
)
def test_closed_forms_are_what_one_by_one_gives(
    spi: float, min_size: int, low: float, width: float, counts: tuple[int, int, int], asked: int, max_size: int
) -> None:
    # given any state that a table of that size can be in
    assume(width >= max(1.0, spi))
    inserts, samples, deletes = counts
    assume(deletes <= inserts <= deletes + max_size)
    limiter = RateLimiter(spi, min_size, low, low + width)

    def fresh() -> LimiterState:
        state = LimiterState(limiter)
        state.inserts, state.samples, state.deletes = inserts, samples, deletes
        return state

    # when one asks for one sample after the other
    state, taken = fresh(), 0
    while taken < asked and state.can_sample(1):
        state.samples += 1
        taken += 1
    # then the closed form knew how many there would be
    assert fresh().samplable(asked) == taken
    # and likewise for inserts, which push others out when the table is full
    state, taken = fresh(), 0
    while taken < asked and state.can_insert(1):
        state.inserts += 1
        state.deletes += state.size > max_size
        taken += 1
    assert fresh().insertable(asked, max_size) == taken


def test_min_size_waits_for_samples_only() -> None:
    state = LimiterState(MinSize(3))
    assert state.can_insert(10**9)
    state.inserts = 2
    assert not state.can_sample(1)
    state.inserts = 3
    assert state.can_sample(10**9)


def test_queue_counts_what_is_not_sampled() -> None:
    for limiter in (Queue(2), Stack(2)):
        state = LimiterState(limiter)
        assert not state.can_sample()
        state.inserts = 2
        assert not state.can_insert()
        assert state.can_sample(2)
        assert not state.can_sample(3)


def test_ratio_has_its_bounds_around_the_offset() -> None:
    limiter = SampleToInsertRatio(2.0, 10, 6.0)
    assert (limiter.min_diff, limiter.max_diff) == (14.0, 26.0)
    assert SampleToInsertRatio(2.0, 10, (1.0, 9.0)).max_diff == 9.0


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (MinSize, (0,)),
        (SampleToInsertRatio, (0.0, 1, 5.0)),
        (SampleToInsertRatio, (float("nan"), 1, 5.0)),
        (SampleToInsertRatio, (1.0, 0, 5.0)),
        (SampleToInsertRatio, (3.0, 1, 2.9)),
        (SampleToInsertRatio, (1.0, 5, (6.0, 20.0))),
        (Queue, (0,)),
        (RateLimiter, (-1.0, 1, 0.0, 5.0)),
        (RateLimiter, (1.0, 1, float("nan"), 5.0)),
        (RateLimiter, (4.0, 1, 0.0, 3.0)),
    ],
)
def test_limiters_without_meaning_are_refused(make: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        make(*arguments)


def test_a_bound_below_the_offset_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kourou.replay"):
        SampleToInsertRatio(1.0, 100, (0.0, 5.0))
    assert "max_diff" in caplog.text


@pytest.mark.parametrize(
    ("limiter", "told"),
    [
        (MinSize(5), "size 0 of at least 5"),
        (
            Queue(3),
            "size 0 of at least 1; inserts 0 × 1 - samples 0 - forfeited 0 = 0, to be at least 0 and at most 3",
        ),
    ],
)
def test_only_bounds_that_there_are_are_told(limiter: RateLimiter, told: str) -> None:
    assert LimiterState(limiter).describe() == told
