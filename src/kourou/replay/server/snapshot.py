"""One consistent cut through a server: all tables and what they refer to, at one moment; and the way back."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from kourou.errors import CheckpointError
from kourou.replay.arrays.array_types import Array, Floats, Integers, Keys, Refs, np
from kourou.replay.protocol.item_batches import Items
from kourou.replay.server.client_sessions import Sessions
from kourou.replay.server.data import DataStore
from kourou.replay.storage.layout import ColumnSpec, Pattern
from kourou.replay.table.lock import TableLock
from kourou.replay.table.table import Table

ConfigFrom = Literal["code", "file"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSnapshot:
    """A table.

    Attributes:
        name: of the table.
        options: arguments that would make it anew, but for its extensions.
        keys, priorities, times_sampled, inserted_ns: [n], the oldest item first.
        refs: [n, 3].
        inserts, samples, forfeited, unique_samples, deleted_episodes: what the limiter and the table counted.
        episodes, policy_versions: [n]; None in a checkpoint from before there were any.
    """

    name: str
    options: dict[str, Any]
    keys: Keys
    priorities: Floats
    times_sampled: Integers
    inserted_ns: Integers
    refs: Refs
    inserts: int
    samples: int
    forfeited: float
    unique_samples: int
    # What checkpoints of earlier versions lack has a default, which stands in for it.
    deleted_episodes: int = 0
    episodes: Keys | None = None
    policy_versions: Integers | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreSnapshot:
    """The blocks of a store that items refer to.

    Attributes:
        number, columns, length: of the store.
        blocks: [m], their numbers, ascending.
        versions: [m], how often each had been leased: with its number, the name of what is in it.
        complete: [m], nothing will be written to it any more.
        successors: [m], in which block its stream of steps goes on.
    """

    number: int
    columns: tuple[ColumnSpec, ...]
    length: int
    blocks: Integers
    versions: Integers
    complete: Array
    successors: Integers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything, as it was at one moment.

    Attributes:
        tables, stores: by their order.
        patterns: by number.
        last_session: keys up to those of this session have been given away.
    """

    tables: tuple[TableSnapshot, ...]
    stores: tuple[StoreSnapshot, ...]
    patterns: tuple[Pattern, ...]
    last_session: int


@contextlib.contextmanager
def snapshot_of(tables: Sequence[Table], data: DataStore, sessions: Sessions, lock: TableLock) -> Iterator[Snapshot]:
    """Cut on entry, which takes as long as copying a few numbers for each item; the data is held until the exit."""
    with lock:
        taken = tuple(_take_table(table) for table in tables)
        for table in taken:
            data.acquire(table.refs)
        stores = tuple(_take_store(data, number, [table.refs for table in taken]) for number in range(len(data.stores)))
        patterns, last = tuple(data.patterns), sessions.last_number
    try:
        yield Snapshot(tables=taken, stores=stores, patterns=patterns, last_session=last)
    finally:
        with lock:
            for table in taken:
                data.release(table.refs)


def _take_table(table: Table) -> TableSnapshot:
    state = table.state
    slots = state.slots()
    return TableSnapshot(
        name=table.name,
        options=table.options,
        keys=state.items.keys[slots],
        priorities=state.items.priorities[slots],
        times_sampled=state.items.times_sampled[slots].astype(np.int64),
        inserted_ns=state.items.inserted_ns[slots],
        refs=state.items.refs[slots],
        inserts=state.limiter.inserts,
        samples=state.limiter.samples,
        forfeited=state.limiter.forfeited,
        unique_samples=state.unique_samples,
        deleted_episodes=state.episodes.deleted,
        episodes=state.items.episodes[slots],
        policy_versions=state.items.policy_versions[slots],
    )


def _take_store(data: DataStore, number: int, refs: Sequence[Refs]) -> StoreSnapshot:
    store = data.stores[number]
    parts = [blocks for part in refs for found, blocks in data.blocks(part) if found is store]
    blocks = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int32)
    return StoreSnapshot(
        number=number,
        columns=store.columns,
        length=store.length,
        blocks=blocks,
        versions=store.versions[blocks],
        complete=store.owners[blocks] == 0,
        successors=store.successors[blocks],
    )


def restore(
    snapshot: Snapshot,
    contents: Sequence[Sequence[Array]],
    tables: Sequence[Table],
    data: DataStore,
    lock: TableLock,
    *,
    config: ConfigFrom,
) -> None:
    """Fill empty tables.

    Args:
        snapshot: what to fill them with.
        contents: for each store, for each column, [m, length, …]: what is in the blocks.
        tables: to be filled. Those that the snapshot does not have stay empty.
        data: where the blocks go.
        lock: the server's lock.
        config: ``code`` keeps selectors, sizes and limiters as the tables were made; ``file`` takes them from the
            snapshot.

    Raises:
        CheckpointError: the snapshot has a table that is not there.
    """
    by_name = {table.name: table for table in tables}
    missing = [table.name for table in snapshot.tables if table.name not in by_name]
    if missing:
        raise CheckpointError(f"the checkpoint has tables that this server has not: {', '.join(map(repr, missing))}")
    with lock:
        numbers, places = [], []
        for store, columns in zip(snapshot.stores, contents, strict=True):
            number, blocks = _restore_store(data, store, columns)
            numbers.append(number)
            places.append(blocks)
        patterns = [
            data.register(dataclasses.replace(pattern, store=numbers[pattern.store])) for pattern in snapshot.patterns
        ]
        stores_of = np.array([pattern.store for pattern in snapshot.patterns], np.int64)
        for saved in snapshot.tables:
            refs = _moved(saved.refs, snapshot, np.array(patterns, np.int32), stores_of, places)
            _restore_table(by_name[saved.name], saved, refs, data, config=config)
        for number, blocks in zip(numbers, places, strict=True):
            data.stores[number].seal(blocks)


def _restore_store(data: DataStore, saved: StoreSnapshot, columns: Sequence[Array]) -> tuple[int, Integers]:
    store = data.store(saved.columns, saved.length)
    blocks = store.lease(0, len(saved.blocks))
    rows = (blocks.astype(np.int64)[:, None] * store.length + np.arange(store.length)).reshape(-1)
    for array, values in zip(store.arrays, columns, strict=True):
        array[rows] = values.reshape(-1, *array.shape[1:])
    after = np.searchsorted(saved.blocks, saved.successors)
    known = after < len(saved.blocks)
    known[known] = saved.blocks[after[known]] == saved.successors[known]
    store.successors[blocks[known]] = blocks[after[known]]
    return store.number, blocks


def _moved(refs: Refs, snapshot: Snapshot, patterns: Integers, stores_of: Integers, places: Sequence[Integers]) -> Refs:
    """References to where patterns and blocks are now."""
    moved: Refs = refs.copy()
    if not len(refs):
        return moved
    moved[:, 0] = patterns[refs[:, 0]]
    stores = stores_of[refs[:, 0]]
    for store, saved in enumerate(snapshot.stores):
        of_store = stores == store
        moved[of_store, 1] = places[store][np.searchsorted(saved.blocks, refs[of_store, 1])]
    return moved


def _restore_table(table: Table, saved: TableSnapshot, refs: Refs, data: DataStore, *, config: ConfigFrom) -> None:
    if config == "file":
        table.configure(saved.options)
    data.acquire(refs)
    episodes = saved.keys if saved.episodes is None else saved.episodes
    versions = np.full(len(refs), -1) if saved.policy_versions is None else saved.policy_versions
    items = Items(
        keys=saved.keys,
        priorities=saved.priorities,
        refs=refs,
        sizes=data.sizes(refs),
        episodes=episodes,
        policy_versions=versions,
    )
    table.restore(items, saved.times_sampled, saved.inserted_ns)
    limiter = table.state.limiter
    table.state.unique_samples = saved.unique_samples
    table.state.episodes.deleted += saved.deleted_episodes
    limiter.rebase(inserts=saved.inserts, samples=saved.samples, forfeited=saved.forfeited, size=len(table))
