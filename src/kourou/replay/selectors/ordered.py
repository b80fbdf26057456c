"""Slots in the order in which they were inserted."""

from __future__ import annotations

from kourou.replay.arrays.array_types import Floats, Slots, grown, np
from kourou.replay.selectors.index import Index

_ABSENT = -1


class OrderedIndex(Index):
    """The oldest, or the newest, first. Updates move nothing.

    The slots lie in a line, the oldest first. Deleted ones leave a gap, and once half of the line is gaps it is
    closed up: so everything is amortised constant time.
    """

    ordered = True

    def __init__(self, *, newest: bool) -> None:
        self._newest = newest
        self._line = np.empty(0, np.int32)  # slots, or _ABSENT
        self._start = self._end = 0  # the part of the line in use
        self._positions = np.empty(0, np.int64)  # by slot: where it lies in _line
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def insert(self, slots: Slots, priorities: Floats) -> None:
        """Put them at the young end."""
        del priorities
        if self._end + len(slots) > len(self._line):
            self._close_up(len(slots))
        start, end = self._end, self._end + len(slots)
        self._positions = grown(self._positions, int(slots.max()) + 1)
        self._line[start:end] = slots
        self._positions[slots] = np.arange(start, end)
        self._end = end
        self._size += len(slots)

    def update(self, slots: Slots, priorities: Floats) -> None:
        """Nothing: priorities do not matter."""

    def delete(self, slots: Slots) -> None:
        """Leave gaps; those at the ends are given up at once."""
        self._line[self._positions[slots]] = _ABSENT
        self._size -= len(slots)
        if not self._size:
            self._start = self._end = 0
            return
        while self._line[self._start] == _ABSENT:
            self._start += self._gap(self._line[self._start : self._end])
        while self._line[self._end - 1] == _ABSENT:
            self._end -= self._gap(self._line[self._start : self._end][::-1])

    @staticmethod
    def _gap(line: Slots | np.ndarray[tuple[int], np.dtype[np.int32]]) -> int:
        """Length of the gap at the start of the line, or of the part of it that was looked at."""
        window = line[:256] != _ABSENT
        step = int(window.argmax())
        return step if window[step] else len(window)

    def sample(self, count: int) -> tuple[Slots, Floats]:
        """The first, as often as asked for: taking it does not remove it."""
        return np.repeat(self.first(1), count), np.ones(count)

    def first(self, count: int) -> Slots:
        """The oldest, or the newest, ``count`` slots."""
        count = min(count, self._size)
        line = self._line[self._start : self._end]
        if self._newest:
            line = line[::-1]
        look = count
        while True:
            window = line[:look]
            found = window[window != _ABSENT]
            if len(found) >= count:
                return np.array(found[:count], np.int64)
            look = 2 * look + 64

    def _close_up(self, room: int) -> None:
        """Take the gaps out, and have room for ``room`` more slots, and for as many as there are."""
        used = self._line[self._start : self._end]
        kept = used[used != _ABSENT]
        self._start, self._end = 0, len(kept)
        needed = 2 * len(kept) + room
        if len(self._line) < needed:
            self._line = grown(np.empty(0, np.int32), needed)
        self._line[: len(kept)] = kept
        self._positions[kept] = np.arange(len(kept))
