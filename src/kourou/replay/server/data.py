"""All stores and patterns of a server: what the references in tables refer to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from kourou.replay.arrays.array_types import Array, Integers, Refs, np
from kourou.replay.protocol.messages import RowData
from kourou.replay.storage.blocks import BlockStore
from kourou.replay.storage.layout import ColumnSpec, Pattern, block_columns, gather
from kourou.replay.table.lock import TableLock


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatternGroup:
    """Items of one pattern, and where they lie.

    Attributes:
        pattern: its number.
        positions: [m], which of the batch they are; None for all of them.
        blocks: [m, k], the blocks of each.
        offsets: [m], row of the first step within the first block.
        arrays: the data, stacked; None when it is to be taken from shared memory.
    """

    pattern: int
    positions: Integers | None
    blocks: Integers
    offsets: Integers
    arrays: list[Array] | None = None


class DataStore:
    """Stores, patterns, and who holds what."""

    def __init__(self, lock: TableLock, folder: Path | None = None) -> None:
        self._lock = lock
        self._folder = folder
        self.stores: list[BlockStore] = []
        self.patterns: list[Pattern] = []
        self._store_numbers: dict[tuple[tuple[ColumnSpec, ...], int], int] = {}
        self._pattern_numbers: dict[Pattern, int] = {}
        self._sizes: Integers = np.zeros(0, np.int64)

    def store(self, columns: Sequence[ColumnSpec], length: int) -> BlockStore:
        """The store of a layout; made when it is first asked for."""
        with self._lock:
            key = tuple(columns), length
            number = self._store_numbers.get(key)
            if number is None:
                store = BlockStore(len(self.stores), columns, length, self._folder)
                number = self._store_numbers[key] = store.number
                self.stores.append(store)
            return self.stores[number]

    def register(self, pattern: Pattern) -> int:
        """The number of a pattern.

        Raises:
            ValueError: it refers to a store or to columns that do not exist.
        """
        with self._lock:
            number = self._pattern_numbers.get(pattern)
            if number is not None:
                return number
            if not 0 <= pattern.store < len(self.stores):
                raise ValueError(f"there is no store {pattern.store}")
            columns = self.stores[pattern.store].columns
            if not all(0 <= leaf.column < len(columns) for leaf in pattern.leaves):
                raise ValueError(f"a pattern of columns that store {pattern.store} does not have")
            number = self._pattern_numbers[pattern] = len(self.patterns)
            self.patterns.append(pattern)
            self._sizes = np.append(self._sizes, pattern.nbytes(columns))
            return number

    # -- references ---------------------------------------------------------------------------------------------------

    def acquire(self, refs: Refs) -> None:
        """Hold the blocks of items once more."""
        for store, blocks in self.blocks(refs):
            store.hold(blocks)

    def release(self, refs: Refs) -> None:
        """Let go of the blocks of items."""
        for store, blocks in self.blocks(refs):
            store.release(blocks)

    def sizes(self, refs: Refs) -> Integers:
        """Bytes of the data of items, [n]."""
        return self._sizes[refs[:, 0]]

    def check(self, refs: Refs, session: int) -> None:
        """See that a session may make items of this data.

        Raises:
            ValueError: there is no such pattern, or it may not.
        """
        if refs.shape != (len(refs), 3) or refs.dtype != np.int32:
            raise ValueError("references are int32[n, 3]")
        patterns = refs[:, 0]
        if len(refs) and not 0 <= int(patterns.min()) <= int(patterns.max()) < len(self.patterns):
            raise ValueError("an item of a pattern that was not registered")
        for number, _, part in _by_pattern(refs):
            store = self.stores[self.patterns[number].store]
            first, offsets = part[:, 1], part[:, 2]
            inside = (first >= 0) & (first < store.top) & (offsets >= 0) & (offsets < store.length)
            if not inside.all() or any(
                (store.owners[blocks] != session).any() for blocks in self._chain(store, number, part)
            ):
                raise ValueError("an item of data that its writer does not hold")

    def check_blocks(self, store: int, blocks: Integers, session: int) -> None:
        """See that a session may write to blocks.

        Raises:
            ValueError: there are no such blocks, or it may not.
        """
        if not 0 <= store < len(self.stores):
            raise ValueError(f"there is no store {store}")
        found = self.stores[store]
        inside = len(blocks) == 0 or 0 <= int(blocks.min()) <= int(blocks.max()) < found.top
        if not inside or (found.owners[blocks] != session).any():
            raise ValueError("a block that its writer does not hold")

    def check_rows(self, rows: RowData, session: int) -> None:
        """See that a session may write these rows, and that they are, or claim to be, what the columns take.

        Raises:
            ValueError: not so.
        """
        if not 0 <= rows.store < len(self.stores):
            raise ValueError(f"there is no store {rows.store}")
        store = self.stores[rows.store]
        self.check_blocks(rows.store, rows.rows // store.length, session)
        numbers = [column for column, _ in rows.columns]
        if len(set(numbers)) < len(numbers) or not all(0 <= number < len(store.columns) for number in numbers):
            raise ValueError(f"rows of columns {numbers}, of which there are {len(store.columns)}")
        for column, values in rows.columns:
            spec = store.columns[column]
            if values.dtype != spec.dtype or values.shape != (len(rows.rows), *spec.shape):
                raise ValueError(f"rows of {values.dtype}{values.shape[1:]} for a column of {spec.dtype}{spec.shape}")

    def hold_rows(self, rows: RowData) -> tuple[BlockStore, Integers]:
        """Hold the blocks of rows that were checked: they are given to nobody else until they are released.

        Raises:
            ValueError: there are more rows than their blocks have.
        """
        store = self.stores[rows.store]
        blocks = (rows.rows // store.length).astype(np.int32)
        if len(blocks) > 1:
            blocks = np.unique(blocks)
        if len(rows.rows) > len(blocks) * store.length:
            raise ValueError(f"{len(rows.rows)} rows for {len(blocks)} blocks of {store.length}")
        store.hold(blocks)
        return store, blocks

    def write_rows(self, rows: RowData) -> None:
        """Write rows that were checked. Needs no lock: they are their writer's own."""
        store = self.stores[rows.store]
        for column, values in rows.columns:
            store.write(column, rows.rows, values)

    def link(self, store: int, blocks: Integers, successors: Integers, session: int) -> None:
        """Note in which blocks a session's stream of steps goes on.

        Raises:
            ValueError: it may not write to one of them.
        """
        self.check_blocks(store, blocks, session)
        self.check_blocks(store, successors, session)
        self.stores[store].successors[blocks] = successors

    # -- reading ------------------------------------------------------------------------------------------------------

    def locate(self, refs: Refs) -> list[PatternGroup]:
        """Where items lie, grouped by their patterns. The caller holds them."""
        groups = []
        for number, positions, part in _by_pattern(refs):
            store = self.stores[self.patterns[number].store]
            columns = [part[:, 1]]
            for _ in range(1, block_columns(self.patterns[number].span, store.length)):
                columns.append(store.successors[columns[-1]])
            blocks = np.stack(columns, axis=1) if len(columns) > 1 else part[:, 1:2]
            groups.append(PatternGroup(pattern=number, positions=positions, blocks=blocks, offsets=part[:, 2]))
        return groups

    def fetch(self, group: PatternGroup) -> PatternGroup:
        """The group with its data. Needs no lock, but somebody who holds the items."""
        pattern = self.patterns[group.pattern]
        store = self.stores[pattern.store]
        arrays = gather(pattern, store.arrays, group.blocks, group.offsets, store.length)
        return dataclasses.replace(group, arrays=arrays)

    def close(self) -> None:
        """Let go of all memory."""
        for store in self.stores:
            store.close()

    def blocks(self, refs: Refs) -> Iterator[tuple[BlockStore, Integers]]:
        """The blocks in which items lie, each as often as items refer to it."""
        for number, _, part in _by_pattern(refs):
            store = self.stores[self.patterns[number].store]
            chain = list(self._chain(store, number, part))  # complete, before anything is let go
            yield store, chain[0] if len(chain) == 1 else np.concatenate(chain)

    def _chain(self, store: BlockStore, number: int, refs: Refs) -> Iterator[Integers]:
        """The blocks in which items lie: the first of all items, the second of those that have one, and so on."""
        blocks = refs[:, 1]
        yield blocks
        span = self.patterns[number].span
        last = refs[:, 2] + (span - 1)  # row of the last step, counted from the first block's first row
        for index in range(1, block_columns(span, store.length)):
            more = last >= index * store.length
            blocks, last = store.successors[blocks[more]], last[more]
            if not len(blocks):
                return
            yield blocks


def _by_pattern(refs: Refs) -> Iterator[tuple[int, Integers | None, Refs]]:
    """(pattern, positions, references); positions are None when all references are of that pattern."""
    if not len(refs):
        return
    patterns = refs[:, 0]
    first = int(patterns[0])
    if (patterns == first).all():
        yield first, None, refs
        return
    for number in np.unique(patterns).tolist():
        positions = np.flatnonzero(patterns == number)
        yield number, positions, refs[positions]
