"""What a replay server answers: the methods that its clients call."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from kourou.courier import current_call
from kourou.errors import CallCancelled, CheckpointError, DeadlineExceeded, RpcError, TableNotFound, WriterExpired
from kourou.replay.arrays.array_types import Floats, Integers, Keys
from kourou.replay.protocol.item_batches import SampledItems
from kourou.replay.protocol.messages import (
    PROBE,
    InsertBatch,
    RowData,
    SampleReply,
    SessionInfo,
    StoreInfo,
    TableSpec,
    pack_sampled,
)
from kourou.replay.rate_limiters import RateLimiter
from kourou.replay.server.checkpoints import Checkpointer
from kourou.replay.server.client_sessions import KEYS_PER_SESSION, Session, Sessions
from kourou.replay.server.data import DataStore
from kourou.replay.server.maintenance import MaintenanceThread
from kourou.replay.server.packing import look_up, pack_group, unpack_rows
from kourou.replay.server.snapshot import release_snapshot, take_snapshot
from kourou.replay.server.validation import validated
from kourou.replay.storage.blocks import BlockStore
from kourou.replay.storage.compression import Compression
from kourou.replay.storage.layout import ColumnSpec, Pattern
from kourou.replay.storage.rows import Rows
from kourou.replay.table.completion import Completion, all_of, now_or_later, on_behalf_of
from kourou.replay.table.info import TableInfo
from kourou.replay.table.lock import TableLock
from kourou.replay.table.requests import InsertRequest, Request, SampleRequest
from kourou.replay.table.table import Table

__all__ = ["Service"]

_ROUND_S = 0.25  # how soon the death of a client is noticed


class Service:
    """Public methods are called by clients; those that may wait return futures, so that no thread waits.

    Args:
        tables: their names differ.
        lock: the lock of all that is here.
        data: what the tables' items refer to.
        sessions: the clients.
        checkpointer: writes checkpoints.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        lock: TableLock,
        data: DataStore,
        sessions: Sessions,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        self._checkpointer = checkpointer
        self._tables = {table.name: table for table in tables}
        self._lock = lock
        self._data = data
        self._sessions = sessions
        self._probe = Rows(PROBE)
        self._probe.grow(1)
        self._waits_allowed = True
        self._maintenance = MaintenanceThread(self._maintain, _ROUND_S)
        for table in tables:
            table.adopt(lock, data)

    # -- sessions -------------------------------------------------------------------------------------------------

    def open_session(self, compression: Compression | None = None) -> SessionInfo:
        """A client begins; this is how the arrays that are sent to it are compressed.

        Raises:
            MissingExtra: the codec is not installed here.
        """
        known = None if compression is None else dataclasses.replace(compression)
        session = self._sessions.open()
        session.compression = known
        specs = {
            name: TableSpec(signature=table.signature, takes_negative=table.takes_negative)
            for name, table in self._tables.items()
        }
        first_key = session.number * KEYS_PER_SESSION
        return SessionInfo(name=session.name, first_key=first_key, tables=specs, probe=self._probe.handle())

    def keep_alive(self, session: int) -> Future[None]:
        """Lasts as long as the client. When this call ends, what the client held is taken back."""
        return self._sessions.keep_alive(session, current_call().cancelled)

    def close_session(self, session: int) -> None:
        """A client ends."""
        self._sessions.close(session)

    # -- layouts: their numbers mean something to one server only, so a session of its is asked for ----------------

    def open_store(self, session: int, columns: tuple[ColumnSpec, ...], length: int) -> StoreInfo:
        """Where steps of that layout are stored."""
        self._sessions.get(session)
        return self.store_info(session, self._data.store(columns, length).number)

    def store_info(self, session: int, store: int) -> StoreInfo:
        """A store as it is now: it may have more room than before."""
        self._sessions.get(session)
        if not 0 <= store < len(self._data.stores):
            raise ValueError(f"there is no store {store}")
        with self._lock:
            found = self._data.stores[store]
            return StoreInfo(
                number=store,
                columns=found.columns,
                length=found.length,
                block_bytes=found.block_bytes,
                handles=tuple(found.handles()),
            )

    def register(self, session: int, pattern: Pattern) -> int:
        """The number of a pattern."""
        self._sessions.get(session)
        return self._data.register(pattern)

    def pattern(self, session: int, pattern: int) -> Pattern:
        """The pattern of that number."""
        self._sessions.get(session)
        if not 0 <= pattern < len(self._data.patterns):
            raise ValueError(f"there is no pattern {pattern}")
        return self._data.patterns[pattern]

    # -- inserting ------------------------------------------------------------------------------------------------

    def insert(self, session: int, batch: InsertBatch, timeout_s: float | None = None) -> Any:
        """Do what the batch says; done when all items are in. The result is the blocks leased.

        Raises:
            TableNotFound, ValueError: in which case nothing was done.
            DeadlineExceeded: not all items were let in in time; the others are not inserted.
        """
        writer = self._sessions.get(session)
        answer = Completion[list[Any]]()
        wanted = _wanted()
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

        if not writer.run_in_order(self._lock, order, functools.partial(on_behalf_of, answer, attempt)):
            raise WriterExpired("this message was given up before it came, or its session has ended")
        return now_or_later(answer)

    def skip(self, session: int, order: tuple[int, int], breaks: bool = False) -> None:  # noqa: FBT001, FBT002 - by the wire
        """A numbered call failed on its way, or else was done before this one came: let its followers not wait.

        Args:
            session: its name.
            order: of the call.
            breaks: its followers build on what it said: they are refused.
        """
        known = self._sessions.get(session)
        known.run_in_order(self._lock, order, functools.partial(known.mark_broken, order[0]) if breaks else _nothing)

    def _insert(
        self,
        session: Session,
        batch: InsertBatch,
        timeout_s: float | None,
        wanted: Callable[[], bool],
        answer: Completion[list[Any]],
    ) -> None:
        self._write(session, batch.data)
        with self._lock:
            self._sessions.get(session.name)  # its blocks are its own as long as it lasts
            # Links come first, since items are checked along them. They concern nobody else's blocks.
            for store, blocks, successors in batch.links:
                self._data.link(store, blocks, successors, session.number)
            tables = [self._table(items.table) for items in batch.items]
            work = [
                (table, validated(items, table, self._data, session.number))
                for table, items in zip(tables, batch.items, strict=True)
            ]
            for store, blocks in batch.sealed:
                self._data.check_blocks(store, blocks, session.number)
            finish = functools.partial(on_behalf_of, answer, lambda: answer.set_result(self._lease(session, batch)))
            done = all_of(len(work), answer, finish)
            requests = [(table, InsertRequest(items, wanted, done)) for table, items in work]
            for _, items in work:
                self._data.acquire(items.refs)
            for store, blocks in batch.sealed:
                self._data.stores[store].seal(blocks)
            for table, request in requests:
                table.insert(request)
            if not requests:
                self._lock.after_release(finish)
        give_up = functools.partial(self._give_up_insert, requests, answer)
        self._limit_wait(answer, timeout_s, give_up, [request for _, request in requests])

    def _lease(self, session: Session, batch: InsertBatch) -> list[Any]:
        """The blocks that a batch asks for, once all else that it says is done."""
        if not batch.leases:
            return []
        with self._lock:
            self._sessions.get(session.name)
            return [self._data.stores[store].lease(session.number, count) for store, count in batch.leases]

    def _write(self, session: Session, data: Sequence[RowData]) -> None:
        """Write rows, not under the lock: nobody else touches them, though the session may end meanwhile."""
        if not data:
            return
        held: list[tuple[BlockStore, Integers]] = []
        try:
            with self._lock:
                self._sessions.get(session.name)
                for rows in data:
                    self._data.check_rows(rows, session.number)
                    held.append(self._data.hold_rows(rows))
            for rows in data:  # whose sizes are known by now to be those of their columns
                self._data.write_rows(unpack_rows(rows))
        finally:
            with self._lock:
                for store, blocks in held:
                    store.release(blocks)

    def _give_up_insert(self, requests: Sequence[tuple[Table, InsertRequest]], answer: Completion[list[Any]]) -> None:
        with self._lock:
            if not any([table.withdraw(request) for table, request in requests]):  # noqa: C419 - every one of them
                return
            done = sum(request.done for _, request in requests)
            total = sum(len(request.items) for _, request in requests)
            why = "; ".join(f"{table.name}: {table.state.limiter.describe()}" for table, _ in requests)
            error = self._timed_out(f"{done} of {total} items were inserted in time ({why})")
            self._lock.after_release(functools.partial(answer.set_exception, error))

    # -- sampling -------------------------------------------------------------------------------------------------

    def sample(
        self,
        session: int,
        table: str,
        count: int,
        timeout_s: float | None = None,
        done: tuple[int, ...] = (),
        shared: bool = False,  # noqa: FBT001, FBT002 - comes by the wire, thousands of times a second
        most: int = 0,
        order: tuple[int, int] | None = None,
    ) -> Any:
        """Draw items.

        Args:
            session: its name.
            table: its name.
            count: how many; fewer come when the time is over before there are as many.
            timeout_s: 0 takes what is there now, None waits.
            done: tickets of earlier replies whose data was read.
            shared: the client takes the data out of shared memory itself.
            order: (sampler, number): the sampler's calls are done in the order of their numbers, from 0 on.
            most: if more can be drawn at once, as many multiples of ``count`` as that, up to ``most``.

        Raises:
            TableNotFound: there is no such table.
            DeadlineExceeded: there was not one item in time.
        """
        sampler = self._sessions.get(session)
        found = self._table(table)
        if order is not None and not self._waits_allowed:
            raise CallCancelled("the server is about to end, and so do iterations over its samples")
        if done:
            self._sessions.unpin(sampler, list(done))
        answer = Completion[SampleReply]()
        request = SampleRequest(count, _wanted(), lambda _: deliver(), most=most)
        fill = functools.partial(self._answer, sampler, request, answer, shared=shared)
        deliver = functools.partial(on_behalf_of, answer, fill)
        give_up = functools.partial(self._give_up_sample, found, request, answer, deliver)

        def begin() -> None:
            found.sample(request)
            self._limit_wait(answer, timeout_s, give_up, [request])

        if request.left < 1:
            raise ValueError(f"the number of samples is at least 1, not {count}")
        if order is None:
            begin()
        elif not sampler.run_in_order(self._lock, order, functools.partial(on_behalf_of, answer, begin)):
            raise WriterExpired("this call was given up before it came, or its session has ended")
        return now_or_later(answer)

    def _give_up_sample(
        self, table: Table, request: SampleRequest, answer: Completion[SampleReply], deliver: Callable[[], object]
    ) -> None:
        with self._lock:
            if not table.withdraw(request):
                return
            why = f"no item of table {table.name} in time ({table.state.limiter.describe()})"
        if request.parts:
            deliver()
        else:
            answer.set_exception(self._timed_out(why))

    def _answer(
        self, session: Session, request: SampleRequest, answer: Completion[SampleReply], *, shared: bool
    ) -> None:
        if request.future.done() and (error := request.future.exception()):
            answer.set_exception(error)
            return
        sampled = SampledItems.joined(request.parts)
        answer.set_result(self._reply(session, sampled, shared=shared))

    def _reply(self, session: Session, sampled: SampledItems, *, shared: bool) -> SampleReply:
        """What is sent for samples, whose references are held, and are released if they are not the session's now."""
        ticket = 0
        try:
            groups = self._data.locate(sampled.refs)
            if not shared:
                groups = [self._data.fetch(group) for group in groups]
            packed = [pack_group(self._data, group, session.compression) for group in groups]
            info = pack_sampled(sampled)
            if shared:
                ticket = self._sessions.pin(session, sampled.refs)
        finally:
            if not ticket:
                with self._lock:
                    self._data.release(sampled.refs)
        return ticket, info, packed

    # -- everything else ------------------------------------------------------------------------------------------

    def mutate_priorities(self, table: str, keys: Keys, priorities: Floats, deletes: Keys) -> int:
        """Delete items, then change priorities; how many of the keys were there."""
        return self._table(table).mutate(keys, priorities, deletes)

    def reset(self, table: str) -> None:
        """Delete all items of a table and count from 0."""
        self._table(table).reset()

    def set_rate_limiter(self, table: str, rate_limiter: RateLimiter) -> None:
        """Use another limiter from now on."""
        self._table(table).set_rate_limiter(rate_limiter)

    def server_info(self) -> dict[str, TableInfo]:
        """All tables as they are now."""
        with self._lock:
            return {name: table.info for name, table in self._tables.items()}

    def keys(self, table: str, offset: int, limit: int) -> Keys:
        """Keys of a table's items in the order of insertion, from the ``offset``-th on."""
        found = self._table(table)
        with self._lock:
            slots = found.state.slots()[offset : offset + limit]
            return found.state.items.keys[slots]

    def get(self, session: int, table: str, keys: Keys) -> SampleReply:
        """Items by their keys, without sampling them; those that are not there are left out."""
        known = self._sessions.get(session)
        found = self._table(table)
        with self._lock:
            sampled = look_up(found, keys)
            self._data.acquire(sampled.refs)
        return self._reply(known, sampled, shared=False)

    def checkpoint(self) -> str:
        """Write a checkpoint; its folder. Inserts and samples go on meanwhile.

        Raises:
            CheckpointError: the server has no checkpointer, or it failed.
        """
        if self._checkpointer is None:
            raise CheckpointError("this server was made without a checkpointer")
        snapshot = take_snapshot(list(self._tables.values()), self._data, self._sessions, self._lock)
        try:
            return str(self._checkpointer.save(snapshot, self._data))
        finally:
            release_snapshot(snapshot, self._data, self._lock)

    # -- not for clients ------------------------------------------------------------------------------------------

    def cancel_waits(self) -> None:
        """Let nobody wait for a limiter from now on, and samplers have no more; see ``Server.cancel_waits``."""
        self._waits_allowed = False
        for table in self._tables.values():
            for request in table.waiting:
                if request.give_up is not None:
                    request.give_up()

    def close(self) -> None:
        """End the threads, and all sessions."""
        self._maintenance.stop()
        self._sessions.close_all()
        for table in self._tables.values():
            table.close()
        self._probe.close()

    def _table(self, name: str) -> Table:
        table = self._tables.get(name)
        if table is None:
            raise TableNotFound(f"there is no table {name!r}; there are {', '.join(map(repr, self._tables))}")
        return table

    def _limit_wait(
        self,
        answer: Completion[Any],
        timeout_s: float | None,
        give_up: Callable[[], object],
        requests: Sequence[Request],
    ) -> None:
        if answer.done():
            return
        for request in requests:
            request.give_up = give_up
        if not self._waits_allowed or (timeout_s is not None and timeout_s <= 0):
            give_up()
        elif timeout_s is not None:
            self._maintenance.call_at(time.monotonic() + timeout_s, give_up)

    def _timed_out(self, why: str) -> RpcError:
        return DeadlineExceeded(why) if self._waits_allowed else CallCancelled(f"the server waits no more: {why}")

    def _maintain(self) -> None:
        for table in self._tables.values():
            table.maintain()
        self._sessions.close_dead()


def _wanted() -> Callable[[], bool]:
    cancelled = current_call().cancelled
    return lambda: not cancelled.is_set()


def _nothing() -> None:
    """Of a call that is skipped."""
