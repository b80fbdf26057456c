"""Awaiting on an event loop what comes over a connection: the loop itself reads it.

There is no thread between a task and its answer, as there is none between a thread and its own. Event loops that
cannot look after descriptors leave the reading to the background thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from kourou.courier.calling.transport import Owner


class LoopGate:
    """Stands where the lock would at which a thread sleeps: opened when there is news, it wakes a task.

    Threads may sleep at it as well.
    """

    __slots__ = ("_future", "_lock", "_loop", "_thread", "acquire")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._lock = threading.Lock()
        self._lock.acquire()
        self.acquire = self._lock.acquire

    def release(self) -> None:
        """Open it, from any thread."""
        if threading.get_ident() == self._thread:
            self._wake()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits in it any more
                self._loop.call_soon_threadsafe(self._wake)
        with contextlib.suppress(RuntimeError):  # it was open
            self._lock.release()

    async def passed(self) -> None:
        """Wait until it is opened; then it is shut again."""
        await self._future
        self._future = self._loop.create_future()

    def _wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class LoopReader:
    """An event loop that reads a connection for as long as tasks of it wait for what comes there.

    It looks after duplicates of the descriptors: the connection may be closed by another thread, and its numbers be
    given to something else, before the loop hears of it. What is shut down shows in a duplicate, too.
    """

    _PAUSE_S = 1e-3  # while another thread reads, which gives the loop what it takes in

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Owner) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._connection = connection
        self._duplicates: dict[int, int] = {}  # of the connection's descriptors that the loop looks after
        self._waiting = 0  # tasks
        self._will_flush = False

    @property
    def reads(self) -> bool:
        """Whether tasks wait, and the loop can see what comes for them."""
        return self._waiting > 0 and bool(self._duplicates)

    def __enter__(self) -> None:
        """A task begins to wait."""
        self._waiting += 1
        self._look()
        if not self._will_flush:  # once for all the tasks that are about to wait
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def __exit__(self, *_: object) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._connection.reading_stopped()

    def nudge(self) -> None:
        """Another thread has stopped reading; it may have left something that the descriptors do not show."""
        if self._waiting and threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._readable)

    def end(self) -> None:
        """Look after the connection no more. From any thread."""
        try:
            self._loop.call_soon_threadsafe(self.close)
        except RuntimeError:  # the loop is closed
            self.close()

    def close(self) -> None:
        """The same, in the thread of the loop, or when that is closed."""
        while self._duplicates:
            _, duplicate = self._duplicates.popitem()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(duplicate)
            os.close(duplicate)

    def _look(self) -> None:
        for descriptor in self._connection.transport.descriptors:
            if descriptor not in self._duplicates and self._connection.alive:
                with contextlib.suppress(OSError, NotImplementedError):  # closed just now, or a loop that cannot
                    duplicate = os.dup(descriptor)
                    try:
                        self._loop.add_reader(duplicate, self._readable)
                    except NotImplementedError:
                        os.close(duplicate)
                        raise
                    self._duplicates[descriptor] = duplicate

    def _flush(self) -> None:
        self._will_flush = False
        self._connection.flush()

    def _readable(self) -> None:
        connection = self._connection
        if not (self._waiting and connection.alive):
            self.close()
            return
        has_turn = connection.read_available()
        while has_turn and connection.alive and connection.transport.has_buffered:
            has_turn = connection.read_available()
        if not has_turn and self._duplicates:  # to be told again and again would hold up the thread that reads
            self.close()
            self._loop.call_later(self._PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._waiting:
            self._look()


async def news(
    gate: LoopGate,
    reader: LoopReader,
    is_here: Callable[[], bool],
    timeout_s: float | None,
    when_late: Callable[[], object],
) -> None:
    """Wait until something ``is_here``, which is looked at whenever the gate is opened.

    Args:
        gate: opened when there is news.
        reader: reads meanwhile.
        is_here: whether there is nothing to wait for any more.
        timeout_s: until ``when_late`` is called, once; None for never.
        when_late: may end the wait, by opening the gate.
    """
    loop = asyncio.get_running_loop()
    timer = loop.call_later(timeout_s, when_late) if timeout_s is not None else None
    try:
        with reader:
            while not is_here():
                await gate.passed()
    finally:
        if timer is not None:
            timer.cancel()


class Items:
    """The items of a stream that a call is going to return."""

    def __init__(self, method: str, opened: Awaitable[Any]) -> None:
        self._method = method
        self._opened = opened
        self._stream: Any = None

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> Any:
        if self._stream is None:
            found = await self._opened
            if not hasattr(found, "__anext__"):
                kind = type(found).__qualname__
                raise TypeError(f"{self._method} is no generator: it has returned a {kind}; await the call instead")
            self._stream = found
        return await self._stream.__anext__()

    async def aclose(self) -> None:
        """Take no more items; the remote generator is closed."""
        if self._stream is not None:
            self._stream.close()
