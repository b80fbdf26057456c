"""A store: the columns of steps of one layout, in blocks, and who holds which block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kourou.replay.arrays.array_types import Array, Integers, grown, np
from kourou.replay.storage.layout import ColumnSpec
from kourou.replay.storage.rows import Rows, RowsHandle

NOBODY = 0  # the owner of a block that no writer may write to
# Address space of a store's largest column at first. Memory is used only by what is written, but whenever a column
# grows, everybody maps it anew.
_FIRST_BYTES = 1 << 30
_LEAST_BLOCKS = 64
_ONE = np.int32(1)  # of the dtype of the counts: NumPy is ten times slower when it has to convert


class BlockStore:
    """Blocks of ``length`` rows.

    A block is free, or leased to a writer, or sealed; it is free again when nobody holds it any more: neither its
    writer, nor an item, nor a reader. Whoever uses a store holds the server's lock, except for its columns' memory.
    """

    def __init__(self, number: int, columns: Sequence[ColumnSpec], length: int, folder: Path | None = None) -> None:
        if length < 1:
            raise ValueError(f"a block has at least one row, not {length}")
        if len({spec.path for spec in columns}) != len(columns) or not columns:
            raise ValueError("the columns of a step have different paths, and there is at least one")
        self.number = number
        self.columns = tuple(columns)
        self.length = length
        self.block_bytes = max(1, length * sum(spec.row_bytes for spec in columns))
        self._rows = [Rows(spec, folder) for spec in columns]
        self._capacity = 0  # blocks that the columns have room for
        self._top = 0  # blocks from here on were never leased
        self._free = np.empty(0, np.int32)  # a stack: the block that was freed last is warm in the caches
        self._free_count = 0
        self._holders = np.zeros(0, np.int32)
        self.owners = np.zeros(0, np.int32)  # by block: the session that may write to it
        self.versions = np.zeros(0, np.int64)  # by block: how often it was leased
        self.successors = np.zeros(0, np.int32)  # by block: the one in which its stream of steps goes on

    @property
    def arrays(self) -> list[Array]:
        """The columns. Rows are never moved; later arrays may be longer."""
        return [rows.array for rows in self._rows]

    @property
    def top(self) -> int:
        """Blocks that were ever in use."""
        return self._top

    @property
    def used(self) -> int:
        """Blocks in use."""
        return self._top - self._free_count

    def handles(self) -> list[RowsHandle | None]:
        """How other processes map the columns."""
        return [rows.handle() for rows in self._rows]

    def lease(self, session: int, count: int) -> Integers:
        """Blocks for a session to write to, held once for it."""
        reused = min(count, self._free_count)
        fresh = count - reused
        if self._top + fresh > self._capacity:
            self._grow(self._top + fresh)
        blocks = np.empty(count, np.int32)
        blocks[:reused] = self._free[self._free_count - reused : self._free_count][::-1]
        blocks[reused:] = np.arange(self._top, self._top + fresh)
        self._free_count -= reused
        self._top += fresh
        self._holders = grown(self._holders, self._top)
        self.owners = grown(self.owners, self._top)
        self.versions = grown(self.versions, self._top)
        self.successors = grown(self.successors, self._top)
        self._holders[blocks] = 1
        self.owners[blocks] = session
        self.versions[blocks] += 1
        return blocks

    def write(self, column: int, rows: Integers, values: Array) -> None:
        """Write rows of a column. Needs no lock: they are their writer's own."""
        self._rows[column].write(rows, values)

    def owned_by(self, session: int) -> Integers:
        """The blocks that a session may write to."""
        return np.flatnonzero(self.owners[: self._top] == session)

    def seal(self, blocks: Integers) -> None:
        """Nobody writes to these blocks any more: their writer lets go of them."""
        self.owners[blocks] = NOBODY
        self.release(blocks)

    def hold(self, blocks: Integers) -> None:
        """Hold blocks once more, each as often as it is named."""
        np.add.at(self._holders, blocks, _ONE)

    def release(self, blocks: Integers) -> None:
        """Let go of blocks, each as often as it is named."""
        np.subtract.at(self._holders, blocks, _ONE)
        gone = blocks[self._holders[blocks] == 0]
        if len(gone):
            if len(gone) > 1:
                gone = np.unique(gone)
            end = self._free_count + len(gone)
            self._free = grown(self._free, end)
            self._free[self._free_count : end] = gone[::-1]
            self._free_count = end

    def held(self) -> Integers:
        """All blocks in use."""
        return np.flatnonzero(self._holders[: self._top] > 0)

    def close(self) -> None:
        """Let go of the memory."""
        for rows in self._rows:
            rows.close()

    def _grow(self, blocks: int) -> None:
        widest = max(1, self.length * max(spec.row_bytes for spec in self.columns))
        first = max(_LEAST_BLOCKS, _FIRST_BYTES // widest)
        self._capacity = max(2 * self._capacity, first, blocks)
        for rows in self._rows:
            rows.grow(self._capacity * self.length)
