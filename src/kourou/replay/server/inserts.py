"""Inserting: what a client's message says is done in order, and answered when all of its items are in."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kourou.errors import WriterExpired
from kourou.replay.arrays.array_types import Integers, np
from kourou.replay.protocol.item_batches import Items
from kourou.replay.protocol.messages import InsertBatch, RowData, TableItems
from kourou.replay.server.client_sessions import Session, Sessions
from kourou.replay.server.data import DataStore
from kourou.replay.server.waits import Waits, wanted_by_caller
from kourou.replay.storage.blocks import BlockStore
from kourou.replay.storage.compression import unpack
from kourou.replay.table.completion import Completion, all_of, now_or_later, on_behalf_of
from kourou.replay.table.lock import TableLock
from kourou.replay.table.requests import InsertRequest
from kourou.replay.table.table import Table


@dataclasses.dataclass
class Inserts:
    """The calls of writers. For the arguments see :class:`kourou.replay.server.service.Service`."""

    tables: Mapping[str, Table]
    lock: TableLock
    data: DataStore
    sessions: Sessions
    waits: Waits

    def insert(self, session: int, batch: InsertBatch, timeout_s: float | None = None) -> Any:
        """Do what the batch says; done when all items are in. The result is the blocks leased.

        Raises:
            TableNotFound, ValueError: in which case nothing was done.
            DeadlineExceeded: not all items were let in in time; the others are not inserted.
        """
        writer = self.sessions.get(session)
        answer = Completion[list[Any]]()
        wanted = wanted_by_caller()
        order = batch.order
        if order is None:
            self._insert(writer, batch, timeout_s, wanted, answer)
            return now_or_later(answer)

        def attempt() -> None:
            writer.check_not_broken(order[0])
            try:
                self._insert(writer, batch, timeout_s, wanted, answer)
            except BaseException:
                writer.mark_broken(order[0])
                raise

        if not writer.run_in_order(self.lock, order, functools.partial(on_behalf_of, answer, attempt)):
            raise WriterExpired("this message was given up before it came, or its session has ended")
        return now_or_later(answer)

    def skip(self, session: int, order: tuple[int, int], breaks: bool = False) -> None:  # noqa: FBT001, FBT002 - by the wire
        """A numbered call failed on its way, or else was done before this one came: let its followers not wait."""
        known = self.sessions.get(session)
        known.run_in_order(self.lock, order, functools.partial(known.mark_broken, order[0]) if breaks else _nothing)

    def _insert(
        self,
        session: Session,
        batch: InsertBatch,
        timeout_s: float | None,
        wanted: Callable[[], bool],
        answer: Completion[list[Any]],
    ) -> None:
        self._write(session, batch.data)
        with self.lock:
            self.sessions.get(session.name)  # its blocks are its own as long as it lasts
            # Links come first, since items are checked along them. They concern nobody else's blocks.
            for store, blocks, successors in batch.links:
                self.data.link(store, blocks, successors, session.number)
            tables = [self.tables[items.table] for items in batch.items]
            work = [
                (table, validated(items, table, self.data, session.number))
                for table, items in zip(tables, batch.items, strict=True)
            ]
            for store, blocks in batch.sealed:
                self.data.check_blocks(store, blocks, session.number)
            finish = functools.partial(on_behalf_of, answer, lambda: answer.set_result(self._lease(session, batch)))
            done = all_of(len(work), answer, finish)
            requests = [(table, InsertRequest(items, wanted, done)) for table, items in work]
            for _, items in work:
                self.data.acquire(items.refs)
            for store, blocks in batch.sealed:
                self.data.stores[store].seal(blocks)
            for table, request in requests:
                table.insert(request)
            if not requests:
                self.lock.after_release(finish)
        give_up = functools.partial(self._give_up_insert, requests, answer)
        self.waits.limit(answer, timeout_s, give_up, [request for _, request in requests])

    def _lease(self, session: Session, batch: InsertBatch) -> list[Any]:
        """The blocks that a batch asks for, once all else that it says is done."""
        if not batch.leases:
            return []
        with self.lock:
            self.sessions.get(session.name)
            return [self.data.stores[store].lease(session.number, count) for store, count in batch.leases]

    def _write(self, session: Session, data: Sequence[RowData]) -> None:
        """Write rows, not under the lock: nobody else touches them, though the session may end meanwhile."""
        if not data:
            return
        held: list[tuple[BlockStore, Integers]] = []
        try:
            with self.lock:
                self.sessions.get(session.name)
                for rows in data:
                    self.data.check_rows(rows, session.number)
                    held.append(self.data.hold_rows(rows))
            for rows in data:  # whose sizes are known by now to be those of their columns
                columns = [(column, unpack(array)) for column, array in rows.columns]
                self.data.write_rows(dataclasses.replace(rows, columns=columns))
        finally:
            with self.lock:
                for store, blocks in held:
                    store.release(blocks)

    def _give_up_insert(self, requests: Sequence[tuple[Table, InsertRequest]], answer: Completion[list[Any]]) -> None:
        with self.lock:
            if not any([table.withdraw(request) for table, request in requests]):  # noqa: C419 - every one of them
                return
            done = sum(request.done for _, request in requests)
            total = sum(len(request.items) for _, request in requests)
            why = "; ".join(f"{table.name}: {table.state.limiter.describe()}" for table, _ in requests)
            error = self.waits.error(f"{done} of {total} items were inserted in time ({why})")
            self.lock.after_release(functools.partial(answer.set_exception, error))


def _nothing() -> None:
    """Of a call that is skipped."""


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
