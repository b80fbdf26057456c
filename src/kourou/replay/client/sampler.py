"""A stream of batches, some of them on their way while one is worked on."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

from kourou import courier
from kourou.closing import ClosedAtExit
from kourou.errors import CallCancelled, ConnectionLost, DeadlineExceeded, NodeExited, WriterExpired
from kourou.replay.protocol.messages import Ticket
from kourou.replay.protocol.samples import SampleBatch
from kourou.replay.writers.base import Renew
from kourou.waits import Blocked, waits_in

_log = logging.getLogger("kourou.replay")
_MOST_AT_ONCE = 4  # small batches are cheaper by the dozen: a request costs as much as drawing and copying them
_SMALL_BYTES = 1 << 20  # of a batch; of larger ones, the first should not wait for the second to be copied


class Sampler(ClosedAtExit):
    """An iterator of batches. Also a context manager, which closes it.

    At most ``max_in_flight`` items are on their way or have arrived without being taken. With 0, a batch is asked
    for when it is wanted: then it is drawn by priorities that were updated before, and the limiter counts what was
    used.

    When the server was restarted, it goes on with what the new one has.

    One thread iterates; ``close`` may come from another. The iteration also ends when the server stops, or lets nobody
    wait any more because its program stops.

    Args:
        calls: of the server.
        renew: gives sessions with the server.
        table: its name.
        batch_size: items of a batch.
        max_in_flight: items; rounded down to whole batches.
        max_samples: items in all, then the iteration ends; no more are drawn. None for no end.
        timeout_s: seconds that the limiter may take for a batch; then the iteration ends, after the items that there
            were. None waits.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        calls: courier.Client,
        renew: Renew,
        table: str,
        batch_size: int,
        *,
        max_in_flight: int,
        max_samples: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        if batch_size < 1 or max_in_flight < 0 or (max_samples is not None and max_samples < 1):
            raise ValueError(f"batch_size={batch_size}, max_in_flight={max_in_flight}, max_samples={max_samples}")
        remote = renew(None)
        remote.table_spec(table)
        self._renew = renew
        self._calls: Any = courier.with_options(calls, timeout_s=None)
        self._remote = remote
        self._table = table
        self._batch_size = batch_size
        self._window = max(batch_size, max_in_flight // batch_size * batch_size)
        self._eager = max_in_flight >= batch_size
        self._at_once = 1  # batches that are asked for together, if they can be had together
        self._left = max_samples
        self._timeout_s = timeout_s
        # The reply, how many items, the call's number, and what is given back unless it is heard: first what it draws.
        self._asked: deque[tuple[Future[Any], int, int, tuple[Ticket, ...]]] = deque()
        self._reading: Future[Any] | None = None
        self._in_flight = 0
        self._stream = remote.take_keys(1)  # a number that no other sampler has
        self._sent = 0
        self._ready: deque[SampleBatch] = deque()
        self._closed = False
        self._lock = threading.Lock()

    def __iter__(self) -> Sampler:
        return self

    def __next__(self) -> SampleBatch:
        if not self._ready:
            self._receive()
        batch = self._ready.popleft()
        if self._eager:
            self._ask()
        return batch

    def _receive(self) -> None:
        """Wait for the next reply."""
        while True:
            self._ask()
            with self._lock:
                if self._closed or not self._asked:
                    raise StopIteration
                reply, asked, number, _ = self._asked[0]
                self._reading = reply
            try:
                batch = self._read(reply, number)
            except BaseException:
                if reply.done():  # it says what went wrong once; the next one is another's
                    self._count_reply(reply, asked)
                raise
            if batch is not None:
                break
        self._count_reply(reply, asked - len(batch), len(batch))
        if len(batch) < min(self._batch_size, asked):
            self.close()  # the time was over; what there was is the last batch
        self._ready.extend(batch.split(self._batch_size))
        if batch.nbytes < _SMALL_BYTES * (len(batch) // self._batch_size or 1):
            self._at_once = _MOST_AT_ONCE

    @waits_in(lambda here: Blocked(what=f"a sample of table {here['self']._table!r}"))  # noqa: SLF001 - this class
    def _read(self, reply: Future[Any], number: int) -> SampleBatch | None:
        """The batch; None when the server was restarted, and is to be asked again."""
        try:
            return self._remote.read(reply.result())
        except (DeadlineExceeded, CallCancelled):
            self.close()
            raise StopIteration from None
        except NodeExited:
            raise
        except (WriterExpired, ConnectionLost):
            self._begin_anew()
            return None
        except BaseException:
            if self._closed:
                raise StopIteration from None
            self._remote.skip((self._stream, number))
            raise

    def _count_reply(self, reply: Future[Any], missing: int, came: int = 0) -> None:
        """A reply is done with: so many items came, and so many that were asked for did not."""
        with self._lock:
            if self._asked and self._asked[0][0] is reply:
                self._asked.popleft()
            self._in_flight -= came + missing
            if self._left is not None:
                self._left += missing

    def close(self) -> None:
        """Ask for nothing more, and end the iteration. What is on its way is given up. May be called twice."""
        with self._lock:
            self._closed = True
            asked, remote = list(self._asked), self._remote
            self._asked.clear()
        for reply, _, _, unheard in asked:  # that a call was cancelled does not mean that it was not carried out
            is_read = not reply.cancel() and reply is self._reading
            remote.give_back(unheard[1:] if is_read else unheard)

    def _ask(self) -> None:
        """Have as many items on their way as may be."""
        with self._lock:
            waiting = sum(map(len, self._ready))
            while not self._closed and self._left != 0:
                room = self._window - self._in_flight - waiting
                count = self._batch_size if self._left is None else min(self._batch_size, self._left)
                if room < count:
                    return
                half = self._window // 2 // self._batch_size  # so that there are two requests on their way
                most = count
                if self._left is None or self._left > count:
                    possible = room if self._left is None else min(room, self._left)
                    most = min(self._at_once, max(1, half), possible // count) * count
                    if most < min(self._at_once, half) * count and self._in_flight:
                        return  # wait until there is room for a request of full size
                if self._left is not None:
                    self._left -= most
                self._in_flight += most
                order = self._stream, self._sent
                arguments, unheard = self._remote.ask(self._table, count, self._timeout_s, most, order)
                self._asked.append((self._calls.futures.sample(*arguments), most, self._sent, unheard))
                self._sent += 1

    def _begin_anew(self) -> None:
        """The server has forgotten this sampler: ask for the same again, in another session."""
        remote = self._renew(self._remote)
        _log.warning("a sampler goes on with a new session; up to %d items drawn for it are lost", self._in_flight)
        with self._lock:
            if self._left is not None:
                self._left += sum(asked for _, asked, *_ in self._asked)
            self._asked.clear()
            self._in_flight = 0
            self._remote, self._stream, self._sent = remote, remote.take_keys(1), 0
