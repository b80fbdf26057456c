"""A client's session with its server, and what it knows of the server's memory."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from kourou import courier
from kourou.errors import ConnectionLost, TableNotFound, WriterExpired
from kourou.replay.arrays.array_types import Array, Integers, Keys, np
from kourou.replay.protocol.item_batches import INFO_DTYPE
from kourou.replay.protocol.messages import (
    PROBE,
    PackedGroup,
    RowData,
    SampleReply,
    SessionInfo,
    StoreInfo,
    TableSpec,
    Ticket,
)
from kourou.replay.protocol.samples import Part, SampleBatch
from kourou.replay.storage.compression import Compression, pack, unpack
from kourou.replay.storage.layout import ColumnSpec, Pattern, gather
from kourou.replay.storage.rows import RowFile, map_rows, open_rows, populate

UNMAPPED = "the replay server's memory can be mapped no more: it has ended since it said where that is"

RENEWALS = 10
"""Sessions that may end during one call: each was refused before anything was done. More, and it gets nowhere."""

_UNKNOWN, _LEASED, _WRITTEN, _MAPPED = range(4)  # what was done with a block here, by any writer

_SHARING_LANES = {"inproc", "local"}  # both ends are on one host


class StoreView:
    """A store as a client sees it.

    Attributes:
        info: what the server said.
        arrays: its columns in shared memory; None when they cannot be mapped.
    """

    def __init__(self, info: StoreInfo, arrays: list[Array] | None) -> None:
        self.info = info
        self.arrays = arrays
        rows = max(handle.rows if handle else 0 for handle in info.handles)
        # By block, _UNKNOWN at first. Of small rows a store has room for a thousand million, most of which never come.
        self._known = np.zeros(rows // info.length, np.uint8)

    @functools.cached_property
    def files(self) -> list[RowFile | None]:
        """Through which columns are written where they may have no memory yet; None: through ``arrays``."""
        if self.arrays is None:
            return [None] * len(self.info.columns)
        return list(map(open_rows, self.info.columns, self.info.handles))

    @functools.cached_property
    def _files_again(self) -> list[RowFile | None]:
        """Through which blocks are written whose memory is mapped: twice as fast as a file, which the system copies to.

        What may lie on a disk would have to be read first, which a write to a file need not do.
        """
        return [None if file is None or file.in_memory else file for file in self.files]

    def covers(self, block: int) -> bool:
        """Whether the block was there when the arrays were mapped."""
        return all(handle is None or (block + 1) * self.info.length <= handle.rows for handle in self.info.handles)

    def prepare(self, blocks: Integers) -> None:
        """Map what will be written through ``arrays``, all at once instead of page by page, of blocks just leased."""
        if not len(self._known):
            return  # its columns have no bytes
        known = self._known[blocks]
        fresh, written = blocks[known == _UNKNOWN], blocks[known == _WRITTEN]
        for array, file, again in zip(self.arrays or (), self.files, self._files_again, strict=True):
            if again is None:
                populate(array, fresh if file is None else written, self.info.length)
        self._known[fresh] = _LEASED
        self._known[written] = _MAPPED

    def files_for(self, block: int) -> list[RowFile | None]:
        """As ``files``, for one block that will be written now."""
        if self._files_again == self.files:
            return self.files
        if self._known[block] == _MAPPED:
            return self._files_again
        self._known[block] = _WRITTEN
        return self.files


class Remote:
    """One session. Ends with ``close``, or when the process does.

    Args:
        timeout_s: for calls that do not wait for anything but the connection.
    """

    def __init__(self, client: courier.Client, timeout_s: float | None, compression: Compression | None = None) -> None:
        self.calls: Any = client
        # What is called this way may be called twice.
        self.quick: Any = courier.with_options(client, timeout_s=timeout_s, idempotent=True)
        self._compression = compression
        self.session: SessionInfo = self.quick.open_session(compression)
        self._keep_alive: Future[None] = client.futures.keep_alive(self.session.name)
        self.shares = courier.lane(client) in _SHARING_LANES and map_rows([PROBE], [self.session.probe]) is not None
        self._views: dict[int, StoreView] = {}
        self._patterns: dict[int, Pattern] = {}
        self._lock = threading.Lock()
        self._done: list[Ticket] = []  # of data that was read
        self._next_key: int = self.session.first_key + 2
        self._names = zip(itertools.repeat(self.session.first_key + 1), itertools.count())  # of what is sampled

    def close(self) -> None:
        """Tell the server that nobody is here any more."""
        self.calls.futures.close_session(self.session.name)
        self._views.clear()

    def is_same_server(self, other: Remote) -> bool:
        """Whether another session was with the same server, as far as that can be told from here."""
        return self.session.probe is not None and self.session.probe == other.session.probe

    def skip(self, order: tuple[int, int], *, breaks: bool = False) -> None:
        """A call that has a number failed. It may not even have reached the tables: let its followers not wait.

        Args:
            order: of the call.
            breaks: its followers build on it, and are to be refused.
        """
        self.calls.futures.skip(self.session.name, order, breaks)

    def table_spec(self, table: str) -> TableSpec:
        """What is known of a table.

        Raises:
            TableNotFound: there is none of that name.
        """
        spec = self.session.tables.get(table)
        if spec is None:
            names = ", ".join(map(repr, self.session.tables))
            raise TableNotFound(f"there is no table {table!r}; there are {names}")
        return spec

    def take_keys(self, count: int) -> int:
        """The first of so many keys that nobody else will use."""
        with self._lock:
            first = self._next_key
            self._next_key += count
            return first

    def new_keys(self, count: int) -> Keys:
        """So many keys that nobody else will use."""
        first = self.take_keys(count)
        return np.arange(first, first + count, dtype=np.uint64)

    # -- stores -----------------------------------------------------------------------------------------------------

    def packed(self, rows: RowData, columns: Sequence[ColumnSpec]) -> RowData:
        """Rows as they travel."""
        if self._compression is None:
            return rows
        codecs = [self._compression.codec_of(columns[index].path) for index, _ in rows.columns]
        arrays = [(index, pack(array, codec)) for codec, (index, array) in zip(codecs, rows.columns, strict=True)]
        return dataclasses.replace(rows, columns=arrays)

    def open_store(self, columns: tuple[ColumnSpec, ...], length: int) -> StoreView:
        """The store of a layout."""
        return self._view_of(self.quick.open_store(self.session.name, columns, length))

    def refresh(self, store: int) -> StoreView:
        """A store, which may have grown."""
        return self._view_of(self.quick.store_info(self.session.name, store))

    def register(self, pattern: Pattern) -> int:
        """The number of a pattern."""
        number: int = self.quick.register(self.session.name, pattern)
        self._patterns[number] = pattern
        return number

    def _view_of(self, info: StoreInfo) -> StoreView:
        known = self._views.get(info.number)
        if known is not None and known.info.handles == info.handles:
            return known  # a new mapping would have to be filled in by the system page by page
        arrays = map_rows(info.columns, info.handles) if self.shares else None
        if arrays is None:
            self.shares = False
        view = self._views[info.number] = StoreView(info, arrays)
        return view

    # -- samples ----------------------------------------------------------------------------------------------------

    def ask(
        self, table: str, count: int, timeout_s: float | None, most: int = 0, order: Any = None
    ) -> tuple[tuple[Any, ...], tuple[Ticket, ...]]:
        """The arguments of a call of ``sample``, and what is to be given back if its answer is not heard.

        First what it draws, for it may have been carried out; then what it gives back itself, for it may not.
        """
        with self._lock:
            done, self._done = tuple(self._done), []
            name = order or next(self._names)
        return (self.session.name, table, count, timeout_s, done, name if self.shares else None, most, order), (
            name,
            *done,
        )

    def sample(self, calls: Any, table: str, count: int, timeout_s: float | None) -> SampleBatch:
        """Draw items, by a call with the options of ``calls``."""
        arguments, unheard = self.ask(table, count, timeout_s)
        try:
            reply = calls.sample(*arguments)
        except BaseException:
            self.give_back(unheard)
            raise
        return self.read(reply)

    def read(self, reply: SampleReply) -> SampleBatch:
        """The items of a reply. Data in shared memory is copied, and given back with the next call.

        Raises:
            ConnectionLost: the server that drew them is not there any more.
        """
        ticket, info, groups = reply
        try:
            parts = [self._part(group) for group in groups]
        except WriterExpired as error:  # it would mean that nothing has been done yet
            raise ConnectionLost(
                f"items were drawn from a server that has ended before they were read: {error}"
            ) from error
        finally:
            if ticket:
                with self._lock:
                    self._done.append(ticket)
        return SampleBatch(np.frombuffer(info, INFO_DTYPE), parts)

    def give_back(self, tickets: Iterable[Ticket]) -> None:
        """Nobody will read this, if it is held at all: the answer of a sampler's call may be on its way."""
        if self.shares:
            with self._lock:
                self._done += tickets

    def _part(self, group: PackedGroup) -> Part:
        number, packed_positions, packed_blocks, packed_offsets, arrays = group
        pattern = self._patterns.get(number)
        if pattern is None:
            pattern = self._patterns[number] = self.quick.pattern(self.session.name, number)
        positions = None if packed_positions is None else np.frombuffer(packed_positions, np.int64)
        if arrays is None:
            offsets = np.frombuffer(packed_offsets, np.int32)
            blocks = np.frombuffer(packed_blocks, np.int32).reshape(len(offsets), -1)
            view = self._views.get(pattern.store) or self.refresh(pattern.store)
            if view.arrays is None or not view.covers(int(blocks.max())):
                view = self.refresh(pattern.store)
            if view.arrays is None:
                raise ConnectionLost(UNMAPPED)
            found = gather(pattern, view.arrays, blocks, offsets, view.info.length)
        else:
            found = [unpack(array) for array in arrays]
        return Part(positions=positions, structure=pattern.structure, arrays=found)
