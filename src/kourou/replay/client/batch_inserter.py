"""Inserts whole batches of items at once, each item one step."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from kourou import courier
from kourou.errors import ServerOverloaded, TableNotFound
from kourou.replay.arrays.array_types import Array, Integers, Keys, np
from kourou.replay.arrays.dtypes import as_array
from kourou.replay.arrays.tree import TreeDef, flatten, path_text
from kourou.replay.protocol.messages import InsertBatch, RowData, TableItems
from kourou.replay.protocol.remote import Remote, StoreView
from kourou.replay.storage.layout import ColumnSpec, Leaf, Pattern

_GRACE_S = 10.0
_RESERVE_BYTES = 4 << 20


class _Target:
    """Where batches of one kind go.

    Attributes:
        view: their store, whose blocks have one row each.
        pattern: number of the items' pattern.
        reserve: leased blocks that are not in use.
    """

    def __init__(self, view: StoreView, pattern: int) -> None:
        self.view = view
        self.pattern = pattern
        self.reserve = np.empty(0, np.int32)


class BatchInserter:
    """For one client."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self._targets: dict[tuple[TreeDef, tuple[ColumnSpec, ...]], _Target] = {}
        self._lock = threading.Lock()

    def insert(
        self, data: Any, priorities: Mapping[str, Any], timeout_s: float | None, policy_version: int
    ) -> dict[str, Keys]:
        """Insert n items into each of some tables; see ``Client.insert_batch``."""
        structure, arrays = _arrays(data)
        count = len(arrays[0])
        weights = {table: self._priorities(table, given, count) for table, given in priorities.items()}
        columns = tuple(
            ColumnSpec(path, array.dtype, array.shape[1:]) for path, array in zip(structure.paths, arrays, strict=True)
        )
        for table in priorities:
            signature = self.remote.table_spec(table).signature
            if signature is not None:
                signature.check(structure, [(array.dtype, array.shape[1:]) for array in arrays], f"table {table}")
        target = self._target(structure, columns)
        blocks = self._take(target, count)
        try:
            batch = self._batch(target, blocks, arrays, weights, policy_version)
        except BaseException:
            self._put_back(target, blocks)
            raise
        calls = courier.with_options(self.remote.calls, timeout_s=None if timeout_s is None else timeout_s + _GRACE_S)
        try:
            calls.insert(self.remote.session.name, batch, timeout_s)
        except (TableNotFound, ValueError, ServerOverloaded):  # nothing was done; after all else, who knows
            self._put_back(target, blocks)
            raise
        return {items.table: items.keys for items in batch.items}

    def _batch(
        self,
        target: _Target,
        blocks: Integers,
        arrays: list[Array],
        weights: Mapping[str, Array],
        policy_version: int,
    ) -> InsertBatch:
        """What is to be inserted. Its data is written to shared memory, if there is any."""
        count = len(blocks)
        keys = {table: self.remote.new_keys(count) for table in weights}
        refs = np.zeros((count, 3), np.int32)
        refs[:, 0], refs[:, 1] = target.pattern, blocks
        store = target.view.info.number
        items = [
            TableItems(
                table=table, keys=keys[table], priorities=weights[table], refs=refs, policy_version=policy_version
            )
            for table in keys
        ]
        return InsertBatch(data=self._write(target, blocks, arrays), items=items, sealed=[(store, blocks)])

    def _priorities(self, table: str, given: Any, count: int) -> Array:
        spec = self.remote.table_spec(table)
        priorities = np.ones(count) if given is None else np.asarray(given, np.float64)
        if priorities.shape != (count,):
            raise ValueError(f"table {table}: priorities of shape {priorities.shape} for {count} items")
        if np.isnan(priorities).any() or (not spec.takes_negative and (priorities < 0).any()):
            raise ValueError(f"table {table}: it takes no priority {priorities[~(priorities >= 0)][0]}")
        return priorities

    def _target(self, structure: TreeDef, columns: tuple[ColumnSpec, ...]) -> _Target:
        with self._lock:
            target = self._targets.get((structure, columns))
            if target is None:
                view = self.remote.open_store(columns, 1)
                leaves = tuple(Leaf(column, range(1), True) for column in range(len(columns)))
                pattern = self.remote.register(Pattern(view.info.number, structure, leaves))
                target = self._targets[structure, columns] = _Target(view, pattern)
            return target

    def _take(self, target: _Target, count: int) -> Integers:
        """Blocks to write to."""
        with self._lock:
            if len(target.reserve) < count:
                spare = max(1, min(1024, _RESERVE_BYTES // target.view.info.block_bytes))
                batch = InsertBatch(leases=[(target.view.info.number, count + spare)])
                leased = self.remote.calls.insert(self.remote.session.name, batch)[0]
                target.reserve = np.concatenate([leased, target.reserve])
            blocks = target.reserve[:count]
            if target.view.arrays is not None and count and not target.view.covers(int(blocks.max())):
                target.view = self.remote.refresh(target.view.info.number)
            target.reserve = target.reserve[count:]
            return blocks

    def _put_back(self, target: _Target, blocks: Integers) -> None:
        """Nothing refers to these blocks."""
        with self._lock:
            target.reserve = np.concatenate([blocks, target.reserve])

    def _write(self, target: _Target, blocks: Integers, arrays: list[Array]) -> tuple[RowData, ...]:
        """Write rows to shared memory; what to send where there is none."""
        if target.view.arrays is None:
            rows = blocks.astype(np.int64)
            raw = RowData(store=target.view.info.number, rows=rows, columns=list(enumerate(arrays)))
            return (self.remote.packed(raw, target.view.info.columns),)
        for column, array in zip(target.view.arrays, arrays, strict=True):
            if column.nbytes:
                column[blocks] = array
        return ()


def _arrays(data: Any) -> tuple[TreeDef, list[Array]]:
    structure, leaves = flatten(data)
    arrays = [as_array(leaf, "the data's", path) for path, leaf in zip(structure.paths, leaves, strict=True)]
    if not arrays:
        raise ValueError("an item has at least one array")
    for path, array in zip(structure.paths, arrays, strict=True):
        if not array.ndim or len(array) != len(arrays[0]) or not len(array):
            raise ValueError(f"the data's{path_text(path)} has the shape {array.shape}: not one entry for each item")
    return structure, arrays
