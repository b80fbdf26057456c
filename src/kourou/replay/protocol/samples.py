"""What a client samples: batches of arrays, and single items."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from kourou.replay.arrays.array_types import Array, Floats, Integers, Keys, np
from kourou.replay.arrays.dtypes import common_dtype
from kourou.replay.arrays.tree import TreeDef


class SampleInfo(NamedTuple):
    """What is known of one sampled item, apart from its data.

    Attributes:
        key: its name, for updates.
        probability: with which it was picked when it was; NaN for items that were not sampled but asked for by key.
        table_size: items in the table at that time.
        priority: at that time.
        times_sampled: this time included.
        age_s: seconds between its insertion and its arrival here (of two hosts' clocks).
        policy_version: of the weights that acted when it was made; -1 where its writer did not say.
    """

    key: int
    probability: float
    table_size: int
    priority: float
    times_sampled: int
    age_s: float
    policy_version: int = -1


class ReplaySample(NamedTuple):
    """One item.

    Attributes:
        info: about it.
        data: its arrays, nested as they were inserted.
    """

    info: SampleInfo
    data: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Items of a batch that have the same structure.

    Attributes:
        positions: [m], which of the batch they are; None for all of them.
        structure: how their arrays are nested.
        arrays: [m, …] each.
    """

    positions: Integers | None
    structure: TreeDef
    arrays: list[Array]


class SampleBatch:
    """Items, in the order in which they were drawn.

    Attributes:
        info: structured array [n] with the fields key, probability, table_size, priority, times_sampled, inserted_ns,
            policy_version.
    """

    def __init__(self, info: Array, parts: list[Part]) -> None:
        self.info = info
        self._parts = parts
        self._received_ns = time.time_ns()
        self._data: Any = None

    def __len__(self) -> int:
        return len(self.info)

    def __repr__(self) -> str:
        return f"<batch of {len(self)} items>"

    @property
    def data(self) -> Any:
        """The items' arrays, stacked along a new first axis [n, …] and nested as they were inserted.

        Where arrays of different items have different shapes, there is a list of n arrays instead.

        Raises:
            ValueError: the items are nested in different ways; iterate over the batch instead.
        """
        if self._data is None and self._parts:
            self._data = self._stacked()
        return self._data

    @property
    def keys(self) -> Keys:
        """[n], for ``mutate_priorities``."""
        return np.ascontiguousarray(self.info["key"])

    @property
    def probabilities(self) -> Floats:
        """[n], of each draw when it was made."""
        return np.ascontiguousarray(self.info["probability"])

    @property
    def priorities(self) -> Floats:
        """[n], when they were drawn."""
        return np.ascontiguousarray(self.info["priority"])

    @property
    def policy_versions(self) -> Integers:
        """[n], of the weights that acted when an item was made; -1 where its writer did not say."""
        return np.ascontiguousarray(self.info["policy_version"])

    @property
    def ages_s(self) -> Floats:
        """[n], seconds between an item's insertion and its arrival here (of two hosts' clocks)."""
        ages: Floats = (self._received_ns - self.info["inserted_ns"]) / 1e9
        return ages

    @property
    def nbytes(self) -> int:
        """Of the data."""
        return sum(array.nbytes for part in self._parts for array in part.arrays)

    def split(self, size: int) -> list[SampleBatch]:
        """Batches of ``size`` items, the last one with what is left. Their arrays are views of this one's."""
        if len(self) <= size:
            return [self]
        return [self._slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _slice(self, start: int, end: int) -> SampleBatch:
        parts = []
        for part in self._parts:
            if part.positions is None:
                arrays = [array[start:end] for array in part.arrays]
                parts.append(Part(positions=None, structure=part.structure, arrays=arrays))
                continue
            inside = (part.positions >= start) & (part.positions < end)
            if inside.any():
                arrays = [array[inside] for array in part.arrays]
                positions = part.positions[inside] - start
                parts.append(Part(positions=positions, structure=part.structure, arrays=arrays))
        return SampleBatch(self.info[start:end], parts)

    def __iter__(self) -> Iterator[ReplaySample]:
        """One item after the other; their arrays are views of the batch."""
        found: list[Any] = [None] * len(self)
        for part in self._parts:
            positions = range(len(self)) if part.positions is None else part.positions.tolist()
            for row, position in enumerate(positions):
                found[position] = part.structure.unflatten([array[row] for array in part.arrays])
        ages = self.ages_s.tolist()
        for row, data in enumerate(found):
            key, probability, table_size, priority, times_sampled, _, version = self.info[row].tolist()
            info = SampleInfo(key, probability, table_size, priority, times_sampled, ages[row], version)
            yield ReplaySample(info, data)

    def _stacked(self) -> Any:
        first = self._parts[0]
        if len(self._parts) == 1:
            return first.structure.unflatten(first.arrays)
        if any(part.structure != first.structure for part in self._parts):
            raise ValueError("the items of this batch are nested in different ways; iterate over the batch instead")
        return first.structure.unflatten([self._merged(index) for index in range(len(first.arrays))])

    def _merged(self, index: int) -> Array | list[Array]:
        arrays = [part.arrays[index] for part in self._parts]
        places = [np.arange(len(self)) if part.positions is None else part.positions for part in self._parts]
        dtype = common_dtype(*(array.dtype for array in arrays))
        if dtype is not None and len({array.shape[1:] for array in arrays}) == 1:
            merged = np.empty((len(self), *arrays[0].shape[1:]), dtype)
            for array, positions in zip(arrays, places, strict=True):
                merged[positions] = array
            return merged
        ragged: list[Any] = [None] * len(self)
        for array, positions in zip(arrays, places, strict=True):
            for row, position in zip(array, positions.tolist(), strict=True):
                ragged[position] = row
        return ragged
