"""Slots with weights: a tree of sums, sixteen children to a node.

A node is always computed anew from its children, so that no error adds up however many updates there are. Sixteen
children make the tree five levels deep for a million slots; each level costs a few NumPy calls for a whole batch.
"""

from __future__ import annotations

from kourou.replay.arrays.array_types import Floats, Slots, grown, np
from kourou.replay.selectors.dense import DenseIndex
from kourou.replay.selectors.index import Index

_FAN = 16
_LARGEST = np.finfo(np.float64).max / 2**40  # a weight; the sum of as many as fit into memory is still finite


class SumTreeIndex(Index):
    """Selection with a probability proportional to ``priority ** exponent``; uniform while all weights are 0.

    Args:
        exponent: of the priorities. A priority of 0 has the weight 0 even when the exponent is 0.
    """

    def __init__(self, exponent: float, generator: np.random.Generator) -> None:
        self._exponent = exponent
        self._generator = generator
        self._all = DenseIndex(generator)  # for the time when all weights are 0
        self._levels: list[Floats] = [np.zeros(_FAN), np.zeros(1)]  # weights by slot; sums of 16; …; the sum of all

    def __len__(self) -> int:
        return len(self._all)

    def check(self, priorities: Floats) -> None:
        """Raise ValueError for NaN, for what is negative, and for what is too large to be added up."""
        super().check(priorities)
        if (priorities < 0).any():
            raise ValueError(f"a prioritized selector takes no negative priority, such as {priorities.min()}")
        if not (self._weights(priorities) <= _LARGEST).all():
            raise ValueError(f"priority ** {self._exponent:g} is at most {_LARGEST:g}; too large: {priorities.max()}")

    def insert(self, slots: Slots, priorities: Floats) -> None:
        self._all.insert(slots, priorities)
        top = int(slots.max())
        if top >= len(self._levels[0]):
            self._grow(top + 1)
        self._set(slots, self._weights(priorities))

    def update(self, slots: Slots, priorities: Floats) -> None:
        self._set(slots, self._weights(priorities))

    def delete(self, slots: Slots) -> None:
        self._all.delete(slots)
        self._set(slots, np.zeros(len(slots)))

    def sample(self, count: int) -> tuple[Slots, Floats]:
        """Go down from the root, for all draws at once."""
        total = float(self._levels[-1][0])
        if total <= 0.0:
            return self._all.sample(count)
        nodes = np.zeros(count, np.int64)
        left = self._generator.random(count) * total
        for level in self._levels[-2::-1]:
            sums = np.cumsum(level.reshape(-1, _FAN)[nodes], axis=1)
            # Rounding may leave as much as the sum of the children, or more: that is the last one's that has weight.
            left = np.minimum(left, np.nextafter(sums[:, -1], 0.0))
            child = (sums <= left[:, None]).sum(axis=1)
            before = np.where(child > 0, sums[np.arange(count), child - 1], 0.0)
            left -= before
            nodes = nodes * _FAN + child
        return nodes, self._levels[0][nodes] / total

    def _weights(self, priorities: Floats) -> Floats:
        with np.errstate(over="ignore", divide="ignore"):
            weights: Floats = np.power(priorities, self._exponent)
        weights[priorities == 0] = 0.0
        return weights

    def _set(self, slots: Slots, weights: Floats) -> None:
        self._levels[0][slots] = weights
        nodes = slots
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            nodes = np.unique(nodes // _FAN) if len(nodes) > 1 else nodes // _FAN
            level[nodes] = below.reshape(-1, _FAN)[nodes].sum(axis=1)

    def _grow(self, size: int) -> None:
        """Room for ``size`` weights."""
        level = grown(self._levels[0], max(size, _FAN))
        self._levels = [level]
        while len(level) > 1:
            if len(level) % _FAN:
                level = np.concatenate([level, np.zeros(_FAN - len(level) % _FAN)])
                self._levels[-1] = level
            level = level.reshape(-1, _FAN).sum(axis=1)
            self._levels.append(level)
