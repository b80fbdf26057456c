"""The client's side of a stream: an iterator over the items that a remote generator yields."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from kourou.closing import ClosedAtExit
from kourou.courier.calling.reply import waits_for_itself
from kourou.courier.core.protocol import WINDOW_BYTES, WINDOW_ITEMS
from kourou.courier.wire import codec, failures
from kourou.courier.wire.frames import Frame, Kind, payload_size
from kourou.errors import DeadlineExceeded

if TYPE_CHECKING:
    import asyncio

    from kourou.courier.calling.awaiting import LoopGate, LoopReader

_NO_MORE = object()


class ItemSource(Protocol):
    """Where items come from: a connection, as its streams see it."""

    def reads_here(self) -> bool:
        """Whether this thread is reading, further down its stack."""
        ...

    def loop_reader(self, loop: asyncio.AbstractEventLoop) -> LoopReader:
        """What lets an event loop read, while tasks of it await items."""
        ...

    def send_quietly(self, frame: Frame) -> None:
        """Send something that needs no answer; a connection that is gone needs none of it."""

    def end_stream(self, call_id: int) -> None:
        """The items of a stream are not wanted any more. Takes no locks."""


class StreamBuffer:
    """The items of one stream between the reader of the connection and the thread that takes them."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.news = threading.Semaphore(0)
        self.lost: Exception | None = None
        self.gate: LoopGate | None = None  # of the task that takes them, where no thread does

    def deliver(self, frame: Frame) -> None:
        """An item, or the end. Called by the reader of the connection."""
        self.frames.append(frame)
        self._tell()

    def broken(self, error: Exception) -> None:
        """The connection is gone; items that came before are still given out."""
        self.lost = error
        self._tell()

    def _tell(self) -> None:
        self.news.release()
        if self.gate is not None:
            self.gate.release()


class RemoteIterator(ClosedAtExit, Iterator[Any]):
    """Items of a remote generator. The generator runs ahead by a bounded number of items and bytes, then waits.

    Close it (or let go of it) before its end and the generator is closed, too.
    """

    def __init__(
        self, buffer: StreamBuffer, connection: ItemSource, call_id: int, method: str, timeout_s: float | None
    ) -> None:
        self._buffer = buffer
        self._connection = connection
        self._call_id = call_id
        self._method = method
        self._timeout_s = timeout_s
        self._taken = self._taken_bytes = 0  # and not acknowledged
        self._ended = False

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        buffer = self._buffer
        if self._connection.reads_here() and not buffer.frames:
            raise waits_for_itself(self._method)
        if not buffer.news.acquire(timeout=self._timeout_s):
            raise self._overdue()
        item = self._take()
        if item is _NO_MORE:
            raise StopIteration
        return item

    def __aiter__(self) -> RemoteIterator:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if not self._buffer.news.acquire(blocking=False):
            await self._await_news()
        item = self._take()
        if item is _NO_MORE:
            raise StopAsyncIteration
        return item

    async def _await_news(self) -> None:
        import asyncio  # noqa: PLC0415 - whoever awaits has imported it

        from kourou.courier.calling.awaiting import LoopGate, news  # noqa: PLC0415 - it imports asyncio, which is slow

        acquire, overdue = self._buffer.news.acquire, False
        gate = self._buffer.gate = LoopGate()

        def when_late() -> None:
            nonlocal overdue
            overdue = True
            gate.release()

        reader = self._connection.loop_reader(asyncio.get_running_loop())
        try:
            await news(gate, reader, lambda: acquire(blocking=False) or overdue, self._timeout_s, when_late)
        except BaseException:  # the task was cancelled, most likely
            self.close()
            raise
        if overdue and not self._buffer.frames:
            raise self._overdue()

    def _overdue(self) -> DeadlineExceeded:
        self.close()
        return DeadlineExceeded(f"{self._method}: no item within {self._timeout_s} s")

    def _take(self) -> Any:
        """What has come: an item, or ``_NO_MORE``."""
        buffer = self._buffer
        try:
            frame = buffer.frames.popleft()
        except IndexError:  # the connection is gone, or another thread has closed this
            self._ended = True
            if buffer.lost is None:
                return _NO_MORE
            raise buffer.lost from None
        if frame.kind == Kind.ITEM:
            self._acknowledge(frame)
            return codec.decode(frame.body, frame.buffers)
        self._ended = True
        if frame.kind == Kind.END:
            return _NO_MORE
        raise failures.rebuild(failures.Failure(*codec.decode(frame.body, frame.buffers)))

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not self._ended and not _is_ending():  # no lock: the garbage collector runs this at any moment
            self._connection.end_stream(self._call_id)

    def close(self) -> None:
        """Take no more items; the remote generator is closed."""
        self._ended = True
        self._connection.end_stream(self._call_id)
        self._buffer.frames.clear()
        self._buffer.news.release()  # another thread may be waiting for an item

    async def aclose(self) -> None:
        """The same; no server is waited for."""
        self.close()

    def _acknowledge(self, item: Frame) -> None:
        """Grant credit for half a window at a time, by number or size: few frames, and the sender never runs dry."""
        self._taken += 1
        self._taken_bytes += payload_size(item.body, item.buffers)
        if self._taken >= WINDOW_ITEMS // 2 or self._taken_bytes >= WINDOW_BYTES // 2:
            self._connection.send_quietly(Frame(Kind.CREDIT, self._call_id, float(self._taken)))
            self._taken = self._taken_bytes = 0
