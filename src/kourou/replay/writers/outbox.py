"""Items on their way to the server: what waits to be sent, and what was sent and is not confirmed."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from typing import Any

from kourou.errors import ConnectionLost, DeadlineExceeded, WriterExpired
from kourou.replay.arrays.array_types import np
from kourou.replay.protocol.messages import InsertBatch, TableItems, TableSpec
from kourou.replay.protocol.remote import Remote
from kourou.replay.writers.stream import Stream
from kourou.waits import PATIENCE_S, Blocked, waits_in

_log = logging.getLogger("kourou.replay")
_KEYS_AT_ONCE = 1 << 14
_BROKEN = "an earlier message of this writer could not be carried out"


class PendingItems:
    """Items for one table that have not been sent.

    Attributes:
        spec: of the table.
        checked: numbers of the patterns that fit its signature.
    """

    def __init__(self, spec: TableSpec) -> None:
        self.spec = spec
        self.checked: set[int] = set()
        self.keys: list[int] = []
        self.priorities: list[float] = []
        self.refs: list[tuple[int, int, int]] = []
        self.episodes: list[int] = []

    def take(self, table: str, policy_version: int) -> TableItems:
        """All of them, for a message."""
        items = TableItems(
            table=table,
            keys=np.array(self.keys, np.uint64),
            priorities=np.array(self.priorities, np.float64),
            refs=np.array(self.refs, np.int32),
            episodes=np.array(self.episodes, np.uint64),
            policy_version=policy_version,
        )
        self.keys, self.priorities, self.refs, self.episodes = [], [], [], []
        return items


class Outbox:
    """Batches of items, a few of them on their way at a time.

    Not for several threads at once: the writer holds its lock.

    A message builds on those before it: on their rows, and on their links between blocks. So one that is not carried
    out ends the series: its followers are refused, and ``WriterExpired`` tells the writer to begin another one.

    Attributes:
        policy_version: as above. What waits is sent before it changes.
        pending: items that have not been sent.
        sent: how many messages with items were sent.
        refused: items in messages that were not carried out.
        is_broken: there was such a message.
    """

    def __init__(self, remote: Remote, max_items: int, policy_version: int) -> None:
        self.policy_version = policy_version
        self._remote = remote
        self._max_items = max_items
        self.tables: dict[str, PendingItems] = {}
        self.pending = 0
        # The reply, how many items, who awaits blocks, the number of the message.
        self._in_flight: deque[tuple[Future[Any], int, Stream | None, int | None]] = deque()
        self._in_flight_items = 0
        self._next_key = self._last_key = 0
        self._writer = remote.take_keys(1)
        self.sent = 0
        self.refused = 0
        self.is_broken = False

    @property
    def unconfirmed(self) -> int:
        """Items that the server has not confirmed, sent or not."""
        return self.pending + self._in_flight_items

    @property
    def has_room(self) -> bool:
        """Whether one more batch may be sent now."""
        return self._in_flight_items < self._max_items

    def add(self, items: PendingItems, priority: float, ref: tuple[int, int, int], episode: int) -> int:
        """Take an item, for the table of ``items``; its key."""
        key = self._next_key
        if key == self._last_key:
            key = self._remote.take_keys(_KEYS_AT_ONCE)
            self._last_key = key + _KEYS_AT_ONCE
        self._next_key = key + 1
        items.keys.append(key)
        items.priorities.append(priority)
        items.refs.append(ref)
        items.episodes.append(episode)
        self.pending += 1
        return key

    def add_many(
        self, items: PendingItems, priorities: list[float], refs: list[tuple[int, int, int]], episodes: list[int]
    ) -> int:
        """Take items, for the table of ``items``; the first of their keys, which follow one another."""
        count = len(refs)
        if self._last_key - self._next_key < count:
            self._next_key = self._remote.take_keys(max(count, _KEYS_AT_ONCE))
            self._last_key = self._next_key + max(count, _KEYS_AT_ONCE)
        key = self._next_key
        self._next_key += count
        items.keys.extend(range(key, key + count))
        items.priorities.extend(priorities)
        items.refs.extend(refs)
        items.episodes.extend(episodes)
        self.pending += count
        return key

    def check(self, table: str, priority: float) -> PendingItems:
        """What waits for a table.

        Raises:
            TableNotFound: there is no such table.
            ValueError: it does not take that priority.
        """
        items = self.tables.get(table)
        if items is None:
            items = self.tables[table] = PendingItems(self._remote.table_spec(table))
        if not priority >= 0 and (math.isnan(priority) or not items.spec.takes_negative):
            raise ValueError(f"table {table!r} takes no priority {priority}")
        return items

    def send(self, stream: Stream, finished: int) -> None:
        """Send what waits, with the steps that it is made of and the blocks that are sealed.

        Args:
            stream: of the steps.
            finished: steps from this one on are not complete yet.

        Raises:
            WriterExpired: a message before this one was not carried out.
        """
        self._check_not_broken()
        data = stream.unsent(finished)
        stream.trim()
        links, sealed = stream.taken()
        wants = stream.goes_on and len(stream.leased) < stream.lease_size // 2 and not self._awaits_lease(stream)
        items = [pending.take(table, self.policy_version) for table, pending in self.tables.items() if pending.keys]
        batch = InsertBatch(
            data=() if data is None else (self._remote.packed(data, stream.columns),),
            links=links,
            items=items,
            sealed=sealed,
            leases=[(stream.store, stream.lease_size)] if wants else (),
            order=(self._writer, self.sent),
        )
        count, self.pending = self.pending, 0
        self._in_flight.append((self._submitted(batch), count, stream if wants else None, self.sent))
        self._in_flight_items += count
        self.sent += 1

    def note_confirmed(self) -> None:
        """Note what has been confirmed, up to the first reply that is bad news: that is left to ``collect``."""
        with contextlib.suppress(Exception):  # a lease that cannot be mapped, which stays, too
            while self._in_flight and self._in_flight[0][0].done() and self._in_flight[0][0].exception() is None:
                self._await_oldest(None)

    def abandon(self) -> int:
        """Await nothing more; how many items the server will never confirm, since it has ended or has refused them."""
        self._in_flight = deque((reply, count, None, number) for reply, count, _, number in self._in_flight)
        self.note_confirmed()
        lost = self.unconfirmed + self.refused
        self._in_flight.clear()
        self.tables.clear()
        self.pending = self._in_flight_items = self.refused = 0
        return lost

    def pending_error(self) -> BaseException | None:
        """What went wrong and has not been raised yet, or keeps what is unconfirmed from ever being confirmed."""
        self.note_confirmed()
        if self._in_flight and self._in_flight[0][0].done():
            return self._in_flight[0][0].exception()
        return WriterExpired(_BROKEN) if self.is_broken else None

    def collect(self) -> None:
        """Note what has been confirmed. Raises what went wrong."""
        self._check_not_broken()
        while self._in_flight and self._in_flight[0][0].done():
            self._await_oldest(None)

    def make_room(self) -> None:
        """Wait until one more batch may be sent."""
        self.collect()
        while self._in_flight and self._in_flight_items >= self._max_items:
            self._await_oldest(None)

    def wait(self, most: int, deadline: float | None) -> None:
        """Wait until at most ``most`` items are unconfirmed.

        Raises:
            DeadlineExceeded: that took too long; the items are still on their way.
        """
        while self._in_flight and self._in_flight_items > most:
            self._await_oldest(deadline)
        self.collect()

    def await_lease(self, stream: Stream) -> None:
        """Wait until the stream has blocks to write to."""
        self.collect()
        while stream.needs_lease:
            if not self._awaits_lease(stream):
                batch = InsertBatch(leases=[(stream.store, stream.lease_size)])
                self._in_flight.append((self._submitted(batch), 0, stream, None))
            self._await_oldest(None)

    def _awaits_lease(self, stream: Stream) -> bool:
        return any(asking is stream for _, _, asking, _ in self._in_flight)

    def _submitted(self, batch: InsertBatch) -> Future[Any]:
        """The reply to a message; one that cannot even be submitted fails like those that get lost."""
        try:
            reply: Future[Any] = self._remote.calls.futures.insert(self._remote.session.name, batch)
        except Exception as error:  # noqa: BLE001 - raised, and its items counted, when the reply is looked at
            reply = Future()
            reply.set_exception(error)
        return reply

    def _check_not_broken(self) -> None:
        if self.is_broken:
            raise WriterExpired(_BROKEN)

    def _await_oldest(self, deadline: float | None) -> None:
        """Wait for the oldest batch.

        What tells that the server has forgotten the writer leaves the batch where it is: it counts as lost. A lease
        that cannot be taken up leaves the reply, whose items are confirmed, to be looked at again.
        """
        reply, count, stream, number = self._in_flight[0]
        error = self._error(reply, deadline)
        if isinstance(error, (ConnectionLost, WriterExpired)):
            raise error
        self._in_flight_items -= count
        if error is None and stream is not None:
            self._in_flight[0] = (reply, 0, stream, number)
            stream.lease(reply.result()[0])
        self._in_flight.popleft()
        if error is not None:
            self.refused += count
            if number is not None:
                self.is_broken = True
                self._remote.skip((self._writer, number), breaks=True)
            raise error

    @waits_in(lambda here: Blocked(what=f"{here['self'].unconfirmed} inserts"))
    def _error(self, reply: Future[Any], deadline: float | None) -> BaseException | None:
        """Wait for a reply: what went wrong, or None."""
        warn_at = time.monotonic() + PATIENCE_S
        while True:
            now = time.monotonic()
            limit = warn_at if deadline is None else min(warn_at, deadline)
            try:
                return reply.exception(None if limit == math.inf else max(0.0, limit - now))
            except (TimeoutError, FutureTimeoutError):
                if deadline is not None and time.monotonic() >= deadline:
                    unconfirmed = self.unconfirmed
                    raise DeadlineExceeded(f"{unconfirmed} items have not been inserted in time") from None
                _log.warning(
                    "a replay writer has been waiting for %.0f s, with %d items not inserted; see the server's log",
                    PATIENCE_S,
                    self.unconfirmed,
                )
                warn_at = math.inf
