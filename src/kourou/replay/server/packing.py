"""Items and rows as they travel in messages."""

from __future__ import annotations

import dataclasses
from typing import Any

from kourou.replay.arrays.array_types import Keys, np
from kourou.replay.protocol.item_batches import SampledItems
from kourou.replay.protocol.messages import PackedGroup, RowData
from kourou.replay.server.data import DataStore, PatternGroup
from kourou.replay.storage.compression import Compression, PackedArray, pack, unpack
from kourou.replay.table.table import Table


def pack_group(data: DataStore, group: PatternGroup, compression: Compression | None) -> PackedGroup:
    """A group as it travels: where its data lies in shared memory, or the data."""
    positions = None if group.positions is None else group.positions.astype(np.int64).tobytes()
    if group.arrays is None:
        return group.pattern, positions, group.blocks.tobytes(), group.offsets.tobytes(), None
    arrays: list[Any] = group.arrays
    if compression is not None:
        pattern = data.patterns[group.pattern]
        columns = data.stores[pattern.store].columns
        arrays = [
            pack(array, compression.codec_of(columns[leaf.column].path), None if leaf.squeeze else 1)
            for leaf, array in zip(pattern.leaves, arrays, strict=True)
        ]
    return group.pattern, positions, b"", b"", arrays


def unpack_rows(rows: RowData) -> RowData:
    """Rows as they are to be written."""
    if not any(isinstance(array, PackedArray) for _, array in rows.columns):
        return rows
    return dataclasses.replace(rows, columns=[(column, unpack(array)) for column, array in rows.columns])


def look_up(table: Table, keys: Keys) -> SampledItems:
    """Items by their keys, as if they had been sampled, but for what that changes. The caller holds the lock."""
    items, slots = table.state.items, table.find(keys)
    return items.sampled(
        slots,
        probabilities=np.full(len(slots), np.nan),
        table_sizes=np.full(len(slots), len(table)),
        times=items.times_sampled[slots].astype(np.int64),
    )
