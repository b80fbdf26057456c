"""The steps of many environments that go in step, each environment a row of blocks of its own."""

from __future__ import annotations

from collections.abc import Sequence

from kourou.replay.arrays.array_types import Integers, np
from kourou.replay.protocol.remote import Remote
from kourou.replay.storage.layout import ColumnSpec
from kourou.replay.writers.stream import Stream


class BatchStream(Stream):
    """Consecutive steps of ``width`` environments. All of them begin a block with the same step.

    Args:
        keep: steps that stay readable, the newest included.
        width: environments.
    """

    def __init__(
        self, remote: Remote, columns: tuple[ColumnSpec, ...], length: int, keep: int, first: int, width: int
    ) -> None:
        super().__init__(remote, columns, length, keep, first)
        self.width = width
        self.lease_size = max(self.lease_size, 4 * width)
        self._sets: list[Integers] = []  # the blocks of the steps that are kept, [width] each
        self._set_bases: list[Integers] = []  # … and their first rows in ``arrays``
        self._rows: Integers = np.empty(0, np.int64)  # of the next step

    @property
    def needs_lease(self) -> bool:
        """Whether there are fewer leased blocks than a step of all environments may need."""
        return len(self.leased) < self.width

    @property
    def needs_block(self) -> bool:
        """Whether the next step needs leased blocks, and there are too few."""
        return not self.left and self.needs_lease

    def begin_steps(self) -> Integers:
        """The rows [width] of the next step. There are leased blocks when ``needs_block``."""
        if not self.left:
            self._open_set()
        rows = self._rows
        self._rows = rows + 1
        self.left -= 1
        self.steps += 1
        return rows

    def end(self) -> None:
        """Nothing follows: all blocks are sealed."""
        self.sealed.extend(int(block) for blocks in self._sets for block in blocks)
        self._sets.clear()
        self._set_bases.clear()
        super().end()

    def places(self, step: int) -> tuple[Integers, int]:
        """The block of each environment, and the row in it, where a kept step lies."""
        index, offset = divmod(step - self._blocks_from, self.length)
        return self._sets[index], offset

    def rows(self, steps: Sequence[int]) -> Integers:
        """The rows [len(steps), width] of kept steps in ``arrays``."""
        found = [divmod(step - self._blocks_from, self.length) for step in steps]
        return np.array([self._set_bases[index] + offset for index, offset in found], np.int64)

    def _stored_rows(self, steps: Sequence[int]) -> Integers:
        return np.array([blocks.astype(np.int64) * self.length + row for blocks, row in map(self.places, steps)])

    def _open_set(self) -> None:
        blocks = np.array([self.leased.pop() for _ in range(self.width)], np.int32)
        if not self._sets:
            self._blocks_from = self.steps
        elif self._keep > 1:
            self.links.extend(zip(self._sets[-1].tolist(), blocks.tolist(), strict=True))
        if self.shared:
            bases = blocks.astype(np.int64) * self.length
        else:
            bases = np.array([self._local_base() for _ in range(self.width)], np.int64)
        self._sets.append(blocks)
        self._set_bases.append(bases)
        self._rows = bases
        self.left = self.length

    def _drop(self, oldest: int) -> None:
        before = oldest if self.shared else min(oldest, self._sent)
        count = min((before - self._blocks_from) // self.length, len(self._sets))
        if count > 0:
            self.sealed.extend(int(block) for blocks in self._sets[:count] for block in blocks)
            if not self.shared:
                self._free.extend(int(base) for bases in self._set_bases[:count] for base in bases)
            del self._sets[:count], self._set_bases[:count]
            self._blocks_from += count * self.length
