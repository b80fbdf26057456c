"""Items that a client wants to insert, looked at before anything is done."""

from __future__ import annotations

from kourou.replay.arrays.array_types import np
from kourou.replay.protocol.item_batches import Items
from kourou.replay.protocol.messages import TableItems
from kourou.replay.server.data import DataStore
from kourou.replay.table.table import Table


def validated(items: TableItems, table: Table, data: DataStore, owner: int) -> Items:
    """The items, as the table takes them. The caller holds the lock.

    Raises:
        ValueError: references to what is not the session's, or priorities that the table does not take.
        SignatureError: they do not look as the table's signature says.
    """
    data.check(items.refs, owner)
    keys = np.asarray(items.keys, np.uint64)
    priorities = np.asarray(items.priorities, np.float64)
    episodes = keys if items.episodes is None else np.asarray(items.episodes, np.uint64)
    if keys.shape != (len(items.refs),) or priorities.shape != keys.shape or episodes.shape != keys.shape:
        raise ValueError("keys, priorities, episodes and references of different lengths")
    sizes = data.sizes(items.refs)
    versions = np.full(len(keys), items.policy_version, np.int64)
    found = Items(
        keys=keys, priorities=priorities, refs=items.refs, sizes=sizes, episodes=episodes, policy_versions=versions
    )
    table.state.check(found)
    if table.signature is not None:
        for number in np.unique(items.refs[:, 0]).tolist():
            pattern = data.patterns[number]
            columns = data.stores[pattern.store].columns
            table.signature.check(pattern.structure, pattern.kinds(columns), f"table {table.name}")
    return found
