"""What every index can do."""

from __future__ import annotations

import abc

from kourou.replay.arrays.array_types import Floats, Slots, np


class Index(abc.ABC):
    """The slots of a table in the order, or with the weights, of one selector.

    Slots in one call are distinct. The table sees to it that only slots that are in are updated and deleted.
    """

    ordered: bool = False
    """Which slot comes next does not depend on chance, so ``first`` tells it."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    def check(self, priorities: Floats) -> None:
        """Raise ValueError when priorities have no meaning here. Everything but NaN has, by default."""
        if np.isnan(priorities).any():
            raise ValueError("a priority is NaN")

    @abc.abstractmethod
    def insert(self, slots: Slots, priorities: Floats) -> None:
        """Take slots in, the first the oldest."""

    @abc.abstractmethod
    def update(self, slots: Slots, priorities: Floats) -> None:
        """Change priorities, in this order."""

    @abc.abstractmethod
    def delete(self, slots: Slots) -> None:
        """Forget slots."""

    @abc.abstractmethod
    def sample(self, count: int) -> tuple[Slots, Floats]:
        """``count`` draws, with replacement, and the probability of each. There is at least one slot."""

    def sample_distinct(self, count: int) -> tuple[Slots, Floats] | None:
        """As many draws as if each deleted what it drew; None when only one by one will do."""
        del count
        return None

    def first(self, count: int) -> Slots:
        """The next ``count`` different slots in their order, or as many as there are. Ordered indexes have it."""
        raise NotImplementedError(f"{type(self).__name__} has no order ({count} asked for)")
