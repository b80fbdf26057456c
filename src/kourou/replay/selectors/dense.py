"""All slots side by side, so that any of them is picked with the same probability in constant time."""

from __future__ import annotations

from kourou.replay.arrays.array_types import Floats, Slots, grown, np
from kourou.replay.selectors.index import Index


class DenseIndex(Index):
    """Uniform selection."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._size = 0
        self._slots = np.empty(0, np.int32)  # the slots that are in, in no order
        self._positions = np.empty(0, np.int32)  # by slot: where it lies in _slots

    def __len__(self) -> int:
        return self._size

    def insert(self, slots: Slots, priorities: Floats) -> None:
        """Put them at the end."""
        del priorities
        start, end = self._size, self._size + len(slots)
        self._slots = grown(self._slots, end)
        self._positions = grown(self._positions, int(slots.max()) + 1)
        self._slots[start:end] = slots
        self._positions[slots] = np.arange(start, end)
        self._size = end

    def update(self, slots: Slots, priorities: Floats) -> None:
        """Nothing: priorities do not matter."""

    def delete(self, slots: Slots) -> None:
        """Fill the holes with what lies at the end."""
        end = self._size - len(slots)
        holes = self._positions[slots]
        last = np.ones(len(slots), np.bool_)  # which of the last places are not holes themselves
        last[holes[holes >= end] - end] = False
        movers = self._slots[end : self._size][last]
        places = holes[holes < end]
        self._slots[places] = movers
        self._positions[movers] = places
        self._size = end

    def sample(self, count: int) -> tuple[Slots, Floats]:
        """Each with probability 1/n."""
        picks = self._generator.integers(0, self._size, count)
        return self._slots[picks].astype(np.int64), np.full(count, 1.0 / self._size)

    def sample_distinct(self, count: int) -> tuple[Slots, Floats]:
        """The first of a random permutation: what one gets who deletes each draw before the next."""
        picks = self._generator.choice(self._size, count, replace=False)
        return self._slots[picks].astype(np.int64), 1.0 / (self._size - np.arange(count, dtype=np.float64))
