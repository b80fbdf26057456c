"""Sampling: items are drawn in batches, and answered with where their data lies, or with the data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from kourou.errors import CallCancelled, WriterExpired
from kourou.replay.arrays.array_types import Keys, np
from kourou.replay.protocol.item_batches import SampledItems
from kourou.replay.protocol.messages import PackedGroup, SampleReply, Ticket
from kourou.replay.server.client_sessions import Session, Sessions
from kourou.replay.server.data import DataStore, PatternGroup
from kourou.replay.server.waits import Waits, wanted_by_caller
from kourou.replay.storage.compression import Compression, pack
from kourou.replay.table.completion import Completion, now_or_later, on_behalf_of
from kourou.replay.table.lock import TableLock
from kourou.replay.table.requests import SampleRequest
from kourou.replay.table.table import Table


@dataclasses.dataclass
class Samples:
    """The calls of those who read items. For the arguments see :class:`kourou.replay.server.service.Service`."""

    tables: Mapping[str, Table]
    lock: TableLock
    data: DataStore
    sessions: Sessions
    waits: Waits

    def sample(
        self,
        session: int,
        table: str,
        count: int,
        timeout_s: float | None = None,
        done: tuple[Ticket, ...] = (),
        name: Ticket | None = None,
        most: int = 0,
        order: tuple[int, int] | None = None,
    ) -> Any:
        """Draw items.

        Args:
            session: its name.
            table: its name.
            count: how many; fewer come when the time is over before there are as many.
            timeout_s: 0 takes what is there now, None waits.
            done: tickets of earlier replies whose data was read, or never will be.
            name: the ticket of what is drawn, which the client takes out of shared memory itself; so it can give back
                what it has not heard of. None: the data is sent.
            order: (sampler, number): the sampler's calls are done in the order of their numbers, from 0 on.
            most: if more can be drawn at once, as many multiples of ``count`` as that, up to ``most``.

        Raises:
            TableNotFound: there is no such table.
            DeadlineExceeded: there was not one item in time.
        """
        sampler = self.sessions.get(session)
        if done:
            self.sessions.unpin(sampler, done)
        found = self.tables[table]
        if order is not None and not self.waits.allowed:
            raise CallCancelled("the server is about to end, and so do iterations over its samples")
        answer = Completion[SampleReply]()
        request = SampleRequest(count, wanted_by_caller(), lambda _: deliver(), most=most)
        fill = functools.partial(self._answer, sampler, request, answer, name)
        deliver = functools.partial(on_behalf_of, answer, fill)
        give_up = functools.partial(self._give_up_sample, found, request, answer, deliver)

        def begin() -> None:
            found.sample(request)
            self.waits.limit(answer, timeout_s, give_up, [request])

        if request.left < 1:
            raise ValueError(f"the number of samples is at least 1, not {count}")
        if order is None:
            begin()
        elif not sampler.run_in_order(self.lock, order, functools.partial(on_behalf_of, answer, begin)):
            raise WriterExpired("this call was given up before it came, or its session has ended")
        return now_or_later(answer)

    def keys(self, table: str, offset: int, limit: int) -> Keys:
        """Keys of a table's items in the order of insertion, from the ``offset``-th on."""
        found = self.tables[table]
        with self.lock:
            slots = found.state.slots()[offset : offset + limit]
            return found.state.items.keys[slots]

    def get(self, session: int, table: str, keys: Keys) -> SampleReply:
        """Items by their keys, without sampling them; those that are not there are left out."""
        known = self.sessions.get(session)
        found = self.tables[table]
        with self.lock:
            items, slots = found.state.items, found.state.find(keys)
            # As if they had been sampled, but for what that changes.
            times = items.times_sampled[slots]
            sampled = items.sampled(slots, probabilities=np.nan, table_sizes=len(found), times=times)
            self.data.acquire(sampled.refs)
        return self._reply(known, sampled, None)

    def _give_up_sample(
        self, table: Table, request: SampleRequest, answer: Completion[SampleReply], deliver: Callable[[], object]
    ) -> None:
        with self.lock:
            if not table.withdraw(request):
                return
            why = f"no item of table {table.name} in time ({table.state.limiter.describe()})"
        if request.parts:
            deliver()
        else:
            answer.set_exception(self.waits.error(why))

    def _answer(
        self,
        session: Session,
        request: SampleRequest,
        answer: Completion[SampleReply],
        name: Ticket | None,
    ) -> None:
        if request.future.done() and (error := request.future.exception()):
            answer.set_exception(error)
            return
        sampled = SampledItems.joined(request.parts)
        answer.set_result(self._reply(session, sampled, name))
        if name is not None and not request.wanted():  # cancelled before it was answered, so nobody gets that
            self.sessions.unpin(session, [name])

    def _reply(self, session: Session, sampled: SampledItems, name: Ticket | None) -> SampleReply:
        """What is sent for samples, whose references are held, and are released if they are not the session's now."""
        ticket = None
        try:
            groups = self.data.locate(sampled.refs)
            if name is None:
                groups = [self.data.fetch(group) for group in groups]
            packed = [pack_group(self.data, group, session.compression) for group in groups]
            info = sampled.info.tobytes()
            if name is not None:
                self.sessions.pin(session, sampled.refs, name)
                ticket = name
        finally:
            if not ticket:
                with self.lock:
                    self.data.release(sampled.refs)
        return ticket, info, packed


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
