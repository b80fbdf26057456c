"""The client's side of a stream: an iterator over the items that a remote generator yields."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kourou.courier import codec, failures
from kourou.courier.frames import Frame, Kind
from kourou.courier.outflow import WINDOW_ITEMS
from kourou.errors import DeadlineExceeded

if TYPE_CHECKING:
    from kourou.courier.connection import Connection

__all__ = ["Inflow"]


class Inflow(Iterator[Any]):
    """Items of a remote generator. The generator runs ahead by a bounded number of items and bytes, then waits.

    Close it (or let go of it) before its end and the generator is closed, too.

    Args:
        connection: where the items come from.
        call_id: the call that opened the stream.
        method: for messages.
        timeout_s: how long to wait for each item; None for ever.
    """

    def __init__(self, connection: Connection, call_id: int, method: str, timeout_s: float | None) -> None:
        self._connection = connection
        self._call_id = call_id
        self._method = method
        self._timeout_s = timeout_s
        self._frames: deque[Frame] = deque()
        self._news = threading.Semaphore(0)
        self._taken = 0
        self._ended = False
        self._lost: Exception | None = None

    def __iter__(self) -> Inflow:
        return self

    def __next__(self) -> Any:  # noqa: ANN401
        if self._ended:
            raise StopIteration
        if not self._news.acquire(timeout=self._timeout_s):
            self.close()
            raise DeadlineExceeded(f"{self._method}: no item within {self._timeout_s} s")
        if not self._frames:
            self._ended = True
            if self._lost is None:
                raise StopIteration
            raise self._lost
        frame = self._frames.popleft()
        if frame.kind == Kind.ITEM:
            self._acknowledge()
            return codec.decode(frame.body, frame.buffers)
        self._ended = True
        if frame.kind == Kind.END:
            raise StopIteration
        raise failures.rebuild(failures.Failure(*codec.decode(frame.body, frame.buffers)))

    def __enter__(self) -> Inflow:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._ended:  # no lock may be taken here: the garbage collector runs this at any moment
            self._connection.end_stream(self._call_id)

    def close(self) -> None:
        """Take no more items; the remote generator is closed."""
        self._ended = True
        self._frames.clear()
        self._connection.end_stream(self._call_id)
        self._news.release()  # another thread may be waiting for an item

    def deliver(self, frame: Frame) -> None:
        """Called by the reader of the connection."""
        self._frames.append(frame)
        self._news.release()

    def broken(self, error: Exception) -> None:
        """The connection is gone; items that came before are still given out."""
        self._lost = error
        self._news.release()

    def _acknowledge(self) -> None:
        """Grant credit for half a window at a time: fewer frames, and the sender never runs dry."""
        self._taken += 1
        if self._taken >= WINDOW_ITEMS // 2 or not self._frames:
            self._connection.send_quietly(Frame(Kind.CREDIT, self._call_id, float(self._taken)))
            self._taken = 0
