"""A stream of batches, some of them on their way while one is worked on."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

from kourou import courier
from kourou.errors import DeadlineExceeded
from kourou.replay.remote import Remote
from kourou.replay.samples import SampleBatch

__all__ = ["Sampler"]


class Sampler:
    """An iterator of batches. Also a context manager, which closes it.

    At most ``max_in_flight`` items are on their way or have arrived without being taken. With 0, a batch is asked
    for when it is wanted: then it is drawn by priorities that were updated before, and the limiter counts what was
    used.

    One thread iterates; ``close`` may come from another.

    Args:
        calls: of the server.
        remote: the session.
        table: its name.
        batch_size: items of a batch.
        max_in_flight: items; rounded down to whole batches.
        max_samples: items in all, then the iteration ends; no more are drawn. None for no end.
        timeout: seconds that the limiter may take for a batch; then the iteration ends, after the items that there
            were. None waits.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        calls: courier.Client,
        remote: Remote,
        table: str,
        batch_size: int,
        *,
        max_in_flight: int,
        max_samples: int | None = None,
        timeout: float | None = None,
    ) -> None:
        if batch_size < 1 or max_in_flight < 0 or (max_samples is not None and max_samples < 1):
            raise ValueError(f"batch_size={batch_size}, max_in_flight={max_in_flight}, max_samples={max_samples}")
        remote.facts(table)
        self._calls: Any = calls.with_options(timeout_s=None)
        self._remote = remote
        self._table = table
        self._batch_size = batch_size
        self._window = max(1, max_in_flight // batch_size)
        self._eager = max_in_flight >= batch_size
        self._left = max_samples
        self._timeout = timeout
        self._asked: deque[Future[Any]] = deque()
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Sampler:  # noqa: PYI034 - typing has Self from Python 3.11 on
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Sampler:
        return self

    def __next__(self) -> SampleBatch:
        self._ask()
        with self._lock:
            if self._closed or not self._asked:
                raise StopIteration
            reply = self._asked[0]
        try:
            batch = self._remote.read(reply.result())
        except DeadlineExceeded:
            self.close()
            raise StopIteration from None
        except BaseException:
            if self._closed:
                raise StopIteration from None
            raise
        with self._lock:
            if self._asked and self._asked[0] is reply:
                self._asked.popleft()
        if len(batch) < self._batch_size and self._timeout is not None and self._left != 0:
            self.close()  # the time was over; what there was is the last batch
        elif self._eager:
            self._ask()
        return batch

    def close(self) -> None:
        """Ask for nothing more, and end the iteration. What is on its way is given up. May be called twice."""
        with self._lock:
            self._closed = True
            asked = list(self._asked)
            self._asked.clear()
        for reply in asked:
            if not reply.cancel():
                self._give_back(reply)

    def _ask(self) -> None:
        """Have as many batches on their way as may be."""
        with self._lock:
            while not self._closed and len(self._asked) < self._window and self._left != 0:
                count = self._batch_size if self._left is None else min(self._batch_size, self._left)
                if self._left is not None:
                    self._left -= count
                arguments = self._remote.ask(self._table, count, self._timeout)
                self._asked.append(self._calls.futures.sample(*arguments))

    def _give_back(self, reply: Future[Any]) -> None:
        if reply.exception() is None:
            self._remote.discard(reply.result())
