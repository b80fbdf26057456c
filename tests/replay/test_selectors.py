"""Every selector against one that is obviously right, and slow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.replay.selectors import Prioritized, Uniform
from kourou.replay.selectors.dense import DenseIndex
from kourou.replay.selectors.index import Index
from kourou.replay.selectors.ordered import OrderedIndex
from kourou.replay.selectors.sumtree import SumTreeIndex
from kourou.replay.selectors.tournament import TournamentIndex
from kourou.replay.table.keymap import ABSENT, KeyMap

PRIORITIES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 1e-9, 1e9])
# What is done to an index: slots to insert (with priorities), to update, and the share of the present ones to delete.
STEPS = st.lists(
    st.tuples(
        st.lists(PRIORITIES, max_size=90), st.lists(PRIORITIES, max_size=9), st.sampled_from([0.0, 0.0, 0.3, 0.9, 1.0])
    ),
    min_size=1,
    max_size=8,
)


class Reference:
    """A list of [slot, priority, stamp of insertion, stamp of last change]."""

    def __init__(self) -> None:
        self.entries: list[list[float]] = []
        self.clock = 0

    def insert(self, slots: list[int], priorities: list[float]) -> None:
        for slot, priority in zip(slots, priorities, strict=True):
            self.entries.append([slot, priority, self.clock, self.clock])
            self.clock += 1

    def update(self, slots: list[int], priorities: list[float]) -> None:
        for slot, priority in zip(slots, priorities, strict=True):
            entry = next(entry for entry in self.entries if entry[0] == slot)
            entry[1], entry[3] = priority, self.clock
            self.clock += 1

    def delete(self, slots: list[int]) -> None:
        self.entries = [entry for entry in self.entries if entry[0] not in slots]

    def slots(self) -> list[int]:
        return [int(entry[0]) for entry in self.entries]


def drive(
    index: Index, steps: list[tuple[list[float], list[float], float]], check: Callable[[Reference], None]
) -> None:
    """Do the same to the index and to the reference, and check after each step."""
    reference, chance = Reference(), np.random.default_rng(0)
    free: list[int] = []
    top = 0
    for inserted, updated, share in steps:
        slots = []
        for _ in inserted:
            if free:
                slots.append(free.pop())
            else:
                slots.append(top)
                top += 1
        if slots:
            index.insert(np.array(slots), np.array(inserted))
            reference.insert(slots, inserted)
        chosen = chance.permutation(reference.slots())[: len(updated)].tolist()
        if chosen:
            index.update(np.array(chosen), np.array(updated[: len(chosen)]))
            reference.update(chosen, updated[: len(chosen)])
        gone = [slot for slot in reference.slots() if chance.random() < share]
        if gone:
            index.delete(np.array(gone))
            reference.delete(gone)
            free.extend(gone)
        assert len(index) == len(reference.entries)
        if reference.entries:
            check(reference)


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda: OrderedIndex(newest=False), lambda entry: entry[2]),
        (lambda: OrderedIndex(newest=True), lambda entry: -entry[2]),
        (lambda: TournamentIndex(highest=False), lambda entry: (entry[1], entry[3])),
        (lambda: TournamentIndex(highest=True), lambda entry: (-entry[1], entry[3])),
    ],
    ids=["fifo", "lifo", "min_heap", "max_heap"],
)
@settings(max_examples=examples(60))
@given(steps=STEPS)
def test_ordered_selectors_pick_as_a_sorted_list(
    make: Callable[[], Index],
    order: Callable[[list[float]], float],
    steps: list[tuple[list[float], list[float], float]],
) -> None:
    index = make()

    def check(reference: Reference) -> None:
        expected = [int(entry[0]) for entry in sorted(reference.entries, key=order)]
        assert index.sample(3)[0].tolist() == expected[:1] * 3
        assert index.first(1).tolist() == expected[:1]
        assert index.first(7).tolist() == expected[:7]
        assert index.first(10_000).tolist() == expected

    drive(index, steps, check)


@settings(max_examples=examples(60))
@given(steps=STEPS)
def test_uniform_draws_only_what_is_there(steps: list[tuple[list[float], list[float], float]]) -> None:
    index = DenseIndex(np.random.default_rng(1))

    def check(reference: Reference) -> None:
        slots, probabilities = index.sample(50)
        assert set(slots.tolist()) <= set(reference.slots())
        assert probabilities.tolist() == [1 / len(index)] * 50
        everything, _ = index.sample_distinct(len(index))
        assert sorted(everything.tolist()) == sorted(reference.slots())

    drive(index, steps, check)


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0, 2.0])
@settings(max_examples=examples(40))
@given(steps=STEPS)
def test_prioritized_knows_each_probability(
    exponent: float, steps: list[tuple[list[float], list[float], float]]
) -> None:
    index = SumTreeIndex(exponent, np.random.default_rng(1))

    def check(reference: Reference) -> None:
        weights = {int(slot): priority**exponent if priority else 0.0 for slot, priority, *_ in reference.entries}
        total = sum(weights.values())
        slots, probabilities = index.sample(40)
        for slot, probability in zip(slots.tolist(), probabilities.tolist(), strict=True):
            assert slot in weights
            expected = weights[slot] / total if total else 1 / len(weights)
            assert math.isclose(probability, expected, rel_tol=1e-9)
            assert probability > 0

    drive(index, steps, check)


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """How many standard deviations the statistic lies above its mean (it is nearly normal for many cells)."""
    statistic = float(((counts - expected) ** 2 / expected).sum())
    cells = len(counts) - 1
    return (statistic - cells) / math.sqrt(2 * cells)


def test_uniform_is_uniform() -> None:
    # given an index with holes in it
    index = DenseIndex(np.random.default_rng(7))
    index.insert(np.arange(1000), np.ones(1000))
    index.delete(np.arange(0, 1000, 2))
    # when it is sampled often
    counts = np.bincount(index.sample(500_000)[0], minlength=1000)
    # then all that are left come equally often
    assert not counts[::2].any()
    assert abs(chi_square(counts[1::2], np.full(500, 1000.0))) < 4


def test_prioritized_is_proportional() -> None:
    index = SumTreeIndex(0.5, np.random.default_rng(7))
    priorities = np.random.default_rng(3).random(700) + 0.01
    index.insert(np.arange(700), priorities)
    counts = np.bincount(index.sample(700_000)[0], minlength=700)
    weights = np.sqrt(priorities)
    assert abs(chi_square(counts, 700_000 * weights / weights.sum())) < 4


def test_draws_that_delete_are_a_random_permutation() -> None:
    counts = Counter()  # type: Counter[tuple[int, ...]]
    index = DenseIndex(np.random.default_rng(5))
    index.insert(np.arange(4), np.ones(4))
    for _ in range(12_000):
        slots, probabilities = index.sample_distinct(3)
        counts[tuple(slots.tolist())] += 1
        assert probabilities.tolist() == [1 / 4, 1 / 3, 1 / 2]
    assert len(counts) == 24
    assert abs(chi_square(np.array(list(counts.values())), np.full(24, 500.0))) < 4


def test_weights_of_very_different_sizes_do_not_drown() -> None:
    # given a weight that is far below the rounding error of another one
    index = SumTreeIndex(1.0, np.random.default_rng(0))
    index.insert(np.arange(3), np.array([1e30, 1e-30, 1e-30]))
    # when the large one is gone
    index.delete(np.array([0]))
    # then the small ones are exact
    slots, probabilities = index.sample(100)
    assert set(slots.tolist()) == {1, 2}
    assert probabilities.tolist() == [0.5] * 100


def test_a_zero_weight_is_never_drawn() -> None:
    index = SumTreeIndex(0.0, np.random.default_rng(0))
    priorities = np.zeros(5000)
    priorities[[17, 4998]] = 3.0, 1e-300
    index.insert(np.arange(5000), priorities)
    slots, _ = index.sample(10_000)
    assert set(slots.tolist()) == {17, 4998}


@pytest.mark.parametrize("bad", [[-1.0], [float("nan")], [float("inf")], [1.0, -1e-12], [1e300]])
def test_prioritized_refuses_priorities_without_meaning(bad: list[float]) -> None:
    index = SumTreeIndex(1.5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="priorit"):
        index.check(np.array(bad))


@pytest.mark.parametrize("exponent", [-1.0, float("nan"), float("inf")])
def test_prioritized_refuses_exponents_without_meaning(exponent: float) -> None:
    with pytest.raises(ValueError, match="priority_exponent"):
        Prioritized(exponent)


def test_a_seed_repeats_the_draws() -> None:
    def draws(seed: int | None) -> list[int]:
        from kourou.replay.selectors.selectors import make_index

        index = make_index(Uniform(seed), lambda slots: slots.astype(np.uint64), int)
        index.insert(np.arange(1000), np.ones(1000))
        return index.sample(100)[0].tolist()  # type: ignore[no-any-return]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
    assert draws(None) != draws(None)


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 400), unique=True, max_size=120), st.booleans(), st.sampled_from([1, 1 << 40])
        ),
        max_size=12,
    )
)
def test_keymap_is_a_dict(steps: list[tuple[list[int], bool, int]]) -> None:
    keymap, reference = KeyMap(), dict[int, int]()
    for numbers, deletes, factor in steps:
        numbers_here = [number * factor for number in numbers]
        if deletes:
            gone = [key for key in numbers_here if key in reference]
            keymap.delete(np.array(gone, np.uint64))
            for key in gone:
                del reference[key]
        else:
            new = [key for key in numbers_here if key not in reference]
            slots = [len(reference) + index for index in range(len(new))]
            keymap.insert(np.array(new, np.uint64), np.array(slots, np.int64))
            reference.update(zip(new, slots, strict=True))
        everything = [number * factor for number in range(1, 401) for factor in (1, 1 << 40)]
        expected = [reference.get(key, ABSENT) for key in everything]
        assert keymap.find(np.array(everything, np.uint64)).tolist() == expected
        assert len(keymap) == len(reference)
        assert sorted(keymap.slots().tolist()) == sorted(reference.values())
