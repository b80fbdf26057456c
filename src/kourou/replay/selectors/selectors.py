"""The selectors, and the index that a table makes of each. A new one is a class here, and a case of ``make_index``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

from kourou.replay.arrays.array_types import Keys, Slots, np
from kourou.replay.selectors.custom import CustomIndex, SelectorProtocol
from kourou.replay.selectors.dense import DenseIndex
from kourou.replay.selectors.index import Index
from kourou.replay.selectors.ordered import OrderedIndex
from kourou.replay.selectors.sumtree import SumTreeIndex
from kourou.replay.selectors.tournament import TournamentIndex
from kourou.shown import shown


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Every item with the same probability.

    Args:
        seed: makes the draws repeatable; None takes it from the system.
    """

    seed: int | None = None


@dataclasses.dataclass(frozen=True)
class Prioritized:
    """Items with probability ``priority ** priority_exponent / sum``; uniform while that sum is 0.

    Priorities are not negative and not NaN. A priority of 0 has the weight 0, even with the exponent 0.

    Args:
        priority_exponent: 0 makes all items with a priority equal; not negative.
        seed: makes the draws repeatable; None takes it from the system.
    """

    priority_exponent: float
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.priority_exponent < math.inf:
            raise ValueError(f"priority_exponent is at least 0 and finite, not {self.priority_exponent}")


@dataclasses.dataclass(frozen=True)
class Fifo:
    """The item that was inserted first."""


@dataclasses.dataclass(frozen=True)
class Lifo:
    """The item that was inserted last."""


@dataclasses.dataclass(frozen=True)
class MinHeap:
    """The item with the lowest priority; among equals the one inserted or updated longest ago."""


@dataclasses.dataclass(frozen=True)
class MaxHeap:
    """The item with the highest priority; among equals the one inserted or updated longest ago."""


@dataclasses.dataclass(frozen=True)
class Custom:
    """A selector of one's own.

    Args:
        make: called once for each table (and again after a reset); returns a :class:`SelectorProtocol`.
    """

    make: Callable[[], SelectorProtocol]


Selector: TypeAlias = Uniform | Prioritized | Fifo | Lifo | MinHeap | MaxHeap | Custom


def make_index(selector: Selector, keys_of: Callable[[Slots], Keys], slot_of: Callable[[int], int]) -> Index:
    """The index of one table.

    Raises:
        TypeError: that is no selector.
    """
    match selector:
        case Uniform(seed=seed):
            return DenseIndex(np.random.default_rng(seed))
        case Prioritized(priority_exponent=exponent, seed=seed):
            return SumTreeIndex(exponent, np.random.default_rng(seed))
        case Fifo() | Lifo():
            return OrderedIndex(newest=isinstance(selector, Lifo))
        case MinHeap() | MaxHeap():
            return TournamentIndex(highest=isinstance(selector, MaxHeap))
        case Custom(make=make):
            return CustomIndex(make(), keys_of, slot_of)
    raise TypeError(f"a selector is one of kourou.replay.selectors, for example Uniform(), not {shown(selector)}")
