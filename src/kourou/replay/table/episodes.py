"""How many episodes a table has items of, and how many it had."""

from __future__ import annotations

from collections import Counter

from kourou.replay.arrays.array_types import Keys


class Episodes:
    """The episodes of one table's items. An item whose episode is its own key is an episode by itself.

    Attributes:
        deleted: how often the last item of an episode went.
    """

    def __init__(self) -> None:
        self._items: Counter[int] = Counter()  # by episode
        self._alone = 0
        self.deleted = 0

    def __len__(self) -> int:
        return len(self._items) + self._alone

    def add(self, keys: Keys, episodes: Keys) -> None:
        """Items came in."""
        several = episodes[episodes != keys].tolist()
        self._alone += len(keys) - len(several)
        self._items.update(several)

    def remove(self, keys: Keys, episodes: Keys) -> None:
        """Items went."""
        several = episodes[episodes != keys].tolist()
        alone = len(keys) - len(several)
        self._alone -= alone
        self.deleted += alone
        for episode, count in Counter(several).items():
            if self._items[episode] > count:
                self._items[episode] -= count
            else:
                del self._items[episode]
                self.deleted += 1
