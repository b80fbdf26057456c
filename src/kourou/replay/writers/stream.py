"""The steps of one writer, from where they are written to where the server has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kourou.errors import ConnectionLost
from kourou.replay.arrays.array_types import Array, Integers, np
from kourou.replay.protocol.messages import RowData
from kourou.replay.protocol.remote import UNMAPPED, Remote
from kourou.replay.storage.layout import ColumnSpec

_LEASE_BYTES = 32 << 20  # blocks that a writer has in reserve: what it may write before the server answers again
_MOST_LEASED = 2048
_LEAST_LEASED = 4
_BATCH_ITEMS = 512  # items that are worth a message, which wakes the server, maybe on the core of the writer
_MESSAGE_BYTES = 1 << 20  # of rows that are sent: what still fits into the caches on its way


class Stream:
    """Consecutive steps of one layout, each a row in blocks that the server leased.

    In shared memory a row is written where it stays. Otherwise it is written to memory of the writer's own, of the
    same form, and sent.

    Attributes:
        batch_items: items that are worth a message of their own.
        files: through which the columns of the newest block are written; None: through ``arrays``.
        goes_on: there may be more steps.
    """

    def __init__(self, remote: Remote, columns: tuple[ColumnSpec, ...], length: int, keep: int, first: int) -> None:
        view = remote.open_store(columns, length)
        self._remote = remote
        self._view = view
        self._keep = keep
        self.columns = columns
        self.length = length
        self.store = view.info.number
        self.lease_size = max(_LEAST_LEASED, min(_MOST_LEASED, _LEASE_BYTES // view.info.block_bytes))
        self.shared = view.arrays is not None
        rows = max(1, _MESSAGE_BYTES * length // view.info.block_bytes)
        self.batch_items = _BATCH_ITEMS if self.shared else min(_BATCH_ITEMS, rows)
        self.arrays: list[Array] = [] if view.arrays is None else view.arrays
        self.files = view.files
        self.goes_on = True
        self.steps = first  # number of the next step
        self.start = first  # steps before this one are not kept, however few there are
        self.missing: dict[int, set[int]] = {}  # columns that a step lacks
        self.leased: list[int] = []  # blocks to be written, the next one last
        self.sealed: list[int] = []  # blocks that nothing will be written to or made of any more
        self.links: list[tuple[Any, Any]] = []  # block, or blocks, and what follows
        self._blocks: list[Any] = []  # the blocks of the steps that are kept
        self._bases: list[Any] = []  # … and their first rows in ``arrays``
        self._blocks_from = first  # the first step in the first of them
        self._row: Any = 0
        self.left = 0  # rows of the newest block that are not written
        self._sent = first  # steps before this one have been sent
        self._free: list[int] = []  # without shared memory: block-sized places in ``arrays``
        self._places = 0

    def begin_step(self) -> Any:
        """The row of the next step, or its rows. There is a leased block when ``needs_block``."""
        if not self.left:
            self._open_block()
        row = self._row
        self._row = row + 1
        self.left -= 1
        self.steps += 1
        return row

    @property
    def needs_block(self) -> bool:
        """Whether the next step needs leased blocks, and there are too few."""
        return not self.left and self.needs_lease

    @property
    def needs_lease(self) -> bool:
        """Whether there are fewer leased blocks than the next steps need at once."""
        return not self.leased

    @property
    def oldest(self) -> int:
        """Number of the oldest step that is kept."""
        return max(self.start, self.steps - self._keep)

    def copy_step(self, old: Stream, step: int) -> Any:
        """Begin a step with what another stream has of one of its steps; its row, or rows."""
        row = self.begin_step()
        for column, values in zip(self.arrays, old.arrays, strict=False):  # this one may have more columns
            column[row] = values[old.rows([step])[0]]
        return row

    def clear(self) -> None:
        """Keep no steps. The next one may follow in the same block."""
        self.start = self.steps
        self.missing.clear()
        self._drop(self.steps)

    def end(self) -> None:
        """Nothing follows: all blocks are sealed."""
        self.goes_on = False
        self.start = self.steps
        self.sealed.extend(self._each(self._blocks))
        self.sealed.extend(self.leased)
        self._blocks.clear()
        self._bases.clear()
        self.leased.clear()
        self.left = 0
        self._sent = self.steps

    def place(self, step: int) -> tuple[Any, int]:
        """The block, or blocks, and the row in it where a kept step lies."""
        index, offset = divmod(step - self._blocks_from, self.length)
        return self._blocks[index], offset

    def rows(self, steps: Sequence[int]) -> Integers:
        """The rows of kept steps in ``arrays``: [len(steps)], or [len(steps), width]."""
        found = [divmod(step - self._blocks_from, self.length) for step in steps]
        return np.array([self._bases[index] + offset for index, offset in found], np.int64)

    def unsent(self, finished: int) -> RowData | None:
        """The rows that have not been sent, those of steps from ``finished`` on to be sent once more later."""
        if self.shared or self._sent == self.steps:
            return None
        steps = range(self._sent, self.steps)
        local, rows = self.rows(steps).reshape(-1), self._stored_rows(steps).reshape(-1)
        self._sent = min(finished, self.steps)
        return RowData(store=self.store, rows=rows, columns=[(i, array[local]) for i, array in enumerate(self.arrays)])

    def trim(self) -> None:
        """Seal the blocks that are not kept any more, and have been sent."""
        self._drop(self.oldest)

    def taken(self) -> tuple[list[tuple[int, Integers, Integers]], list[tuple[int, Integers]]]:
        """Links and sealed blocks, for the next message; they are the message's now."""
        links = []
        if self.links:
            blocks, successors = zip(*self.links, strict=True)
            links = [(self.store, np.array(blocks, np.int32).ravel(), np.array(successors, np.int32).ravel())]
            self.links = []
        sealed = []
        if self.sealed:
            sealed = [(self.store, np.array(self.sealed, np.int32))]
            self.sealed = []
        return links, sealed

    def lease(self, blocks: Integers) -> None:
        """Blocks came from the server. What is raised leaves all as it was: they may be given once more."""
        if self.shared and len(blocks):
            if not self._view.covers(int(blocks.max())):
                view = self._remote.refresh(self.store)
                if view.arrays is None:
                    raise ConnectionLost(UNMAPPED)
                self._view, self.arrays = view, view.arrays
            self._view.prepare(blocks)
        self.leased[:0] = blocks.tolist()[::-1]

    def _stored_rows(self, steps: Sequence[int]) -> Integers:
        """The rows of kept steps in the server's columns."""
        places = [self.place(step) for step in steps]
        return np.array([block * self.length + offset for block, offset in places], np.int64)

    def _open_block(self) -> None:
        block, base = self._next_block()
        if not self._blocks:
            self._blocks_from = self.steps
        elif self._keep > 1:
            self.links.append((self._blocks[-1], block))
        self._blocks.append(block)
        self._bases.append(base)
        self._row = base
        self.left = self.length

    def _next_block(self) -> tuple[Any, Any]:
        """The block, or blocks, of the next steps, and the first row there in ``arrays``."""
        block = self.leased.pop()
        self.files = self._view.files_for(block)
        return block, block * self.length if self.shared else self._local_base()

    def _drop(self, oldest: int) -> None:
        """Seal the blocks all of whose steps come before ``oldest`` and have been sent."""
        before = oldest if self.shared else min(oldest, self._sent)
        count = (before - self._blocks_from) // self.length
        if count > 0:
            count = min(count, len(self._blocks))
            self.sealed.extend(self._each(self._blocks[:count]))
            if not self.shared:
                self._free.extend(self._each(self._bases[:count]))
            del self._blocks[:count], self._bases[:count]
            self._blocks_from += count * self.length
            if self.missing:
                self.missing = {step: columns for step, columns in self.missing.items() if step >= self._blocks_from}

    @staticmethod
    def _each(kept: list[Any]) -> list[int]:
        """One by one, what is kept of steps."""
        return kept

    def _local_base(self) -> int:
        """The first row of a free place in memory of our own."""
        if not self._free:
            first, self._places = self._places, max(_LEAST_LEASED, 2 * self._places)
            self._free = [place * self.length for place in range(first, self._places)][::-1]
            for index, spec in enumerate(self.columns):
                larger = np.empty((self._places * self.length, *spec.shape), spec.dtype)
                if first:
                    larger[: len(self.arrays[index])] = self.arrays[index]
                    self.arrays[index] = larger
                else:
                    self.arrays.append(larger)
        return self._free.pop()


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

    @property
    def needs_lease(self) -> bool:
        """Whether there are fewer leased blocks than a step of all environments may need."""
        return len(self.leased) < self.width

    def _next_block(self) -> tuple[Any, Any]:
        blocks = np.array([self.leased.pop() for _ in range(self.width)], np.int64)
        return blocks, blocks * self.length if self.shared else np.array([self._local_base() for _ in blocks], np.int64)

    @staticmethod
    def _each(kept: list[Any]) -> list[int]:
        return [one for of_step in kept for one in of_step.tolist()]
