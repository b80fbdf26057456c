"""What clients and servers say to each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

from kourou.replay.arrays.array_types import Integers, Keys, Refs
from kourou.replay.arrays.signature import Signature
from kourou.replay.storage.layout import ColumnSpec
from kourou.replay.storage.rows import RowsHandle

PROBE = ColumnSpec((), "|u1", (1,))

PackedGroup: TypeAlias = "tuple[int, bytes | None, bytes, bytes, list[Any] | None]"
"""Items of one pattern: number, positions int64[m] (None for all), blocks int32[m, k], offsets int32[m], data.

Data is arrays, compressed ones as PackedArray.
"""

Ticket: TypeAlias = tuple[int, int]
"""Names data that a client reads in place: a sampler and the number of its call, or 0 and a number of the server's."""
SampleReply: TypeAlias = "tuple[Ticket | None, bytes, list[PackedGroup]]"
"""Ticket (None for none; else the data is held until it is given back), INFO_DTYPE[n] as bytes, groups.

Plain tuples and bytes: thousands of them travel every second.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """What a writer has to know of a table to refuse bad items itself.

    Attributes:
        signature: what items look like; None for anything.
        takes_negative: its selectors take negative priorities.
    """

    signature: Signature | None
    takes_negative: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionInfo:
    """A client's session.

    Attributes:
        name: goes with every request.
        first_key: the session's items have this key and the following 2**40 - 1.
        tables: by name.
        probe: memory of the PROBE column: a client that can map it can map all columns.
    """

    name: int
    first_key: int
    tables: dict[str, TableSpec]
    probe: RowsHandle | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """Where a layout is stored.

    Attributes:
        number: of the store.
        columns: of a step.
        length: rows of a block.
        block_bytes: of one block, all columns.
        handles: how to map the columns' memory on the same host.
    """

    number: int
    columns: tuple[ColumnSpec, ...]
    length: int
    block_bytes: int
    handles: tuple[RowsHandle | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowData:
    """Rows that their writer could not write to memory itself.

    Attributes:
        store: its number.
        rows: [n], numbers of rows in the columns: block * length + row in the block.
        columns: index of a column, and what is to be written there: [n, ...], or that as a PackedArray.
    """

    store: int
    rows: Integers
    columns: Sequence[tuple[int, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableItems:
    """Items for one table.

    Attributes:
        table: its name.
        keys: [n]; they are the session's.
        priorities: [n].
        refs: [n, 3].
        episodes: [n], by keys that are no item's; None for items each of which is an episode by itself.
        policy_version: of the weights that acted, for all of them; -1 where that was not said.
    """

    table: str
    keys: Keys
    priorities: Any
    refs: Refs
    episodes: Keys | None = None
    policy_version: int = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class InsertBatch:
    """Everything that a writer has to say at once. It is done in this order.

    Attributes:
        data: rows.
        links: (store, blocks, successors): in which block a stream of steps goes on.
        items: to be inserted.
        sealed: (store, blocks) that the writer will not write or refer to again.
        leases: (store, count) of blocks that it asks for.
        order: (writer, number): the writer's batches are done in the order of their numbers, from 0 on, however they
            arrive. None for batches that follow no other.
    """

    data: Sequence[RowData] = ()
    links: Sequence[tuple[int, Integers, Integers]] = ()
    items: Sequence[TableItems] = ()
    sealed: Sequence[tuple[int, Integers]] = ()
    leases: Sequence[tuple[int, int]] = ()
    order: tuple[int, int] | None = None
