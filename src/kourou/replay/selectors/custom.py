"""A selector that a user wrote, one item at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kourou.replay.arrays.array_types import Floats, Keys, Slots, np
from kourou.replay.selectors.index import Index


class SelectorProtocol(Protocol):
    """What a selector of one's own has to have. Keys are Python integers; it is called under the table's lock."""

    def insert(self, key: int, priority: float) -> None:
        """A new item; raise ValueError for a priority that has no meaning."""

    def update(self, key: int, priority: float) -> None:
        """An item's new priority."""

    def delete(self, key: int) -> None:
        """An item is gone."""

    def sample(self) -> tuple[int, float]:
        """The key of one item, and the probability with which it was picked."""
        ...


class CustomIndex(Index):
    """Lends a user's selector the interface of an index."""

    def __init__(
        self, selector: SelectorProtocol, keys_of: Callable[[Slots], Keys], slot_of: Callable[[int], int]
    ) -> None:
        self._selector = selector
        self._keys_of = keys_of
        self._slot_of = slot_of
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def insert(self, slots: Slots, priorities: Floats) -> None:
        for key, priority in zip(self._keys_of(slots).tolist(), priorities.tolist(), strict=True):
            self._selector.insert(key, priority)
        self._size += len(slots)

    def update(self, slots: Slots, priorities: Floats) -> None:
        for key, priority in zip(self._keys_of(slots).tolist(), priorities.tolist(), strict=True):
            self._selector.update(key, priority)

    def delete(self, slots: Slots) -> None:
        for key in self._keys_of(slots).tolist():
            self._selector.delete(key)
        self._size -= len(slots)

    def sample(self, count: int) -> tuple[Slots, Floats]:
        drawn = [self._selector.sample() for _ in range(count)]
        slots = [self._slot_of(key) for key, _ in drawn]
        return np.array(slots, np.int64), np.array([probability for _, probability in drawn])
