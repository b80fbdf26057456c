"""The server's side of a stream: a generator that is advanced only as fast as its reader takes the items."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator
from typing import Any

from kourou.courier.core.protocol import WINDOW_BYTES, WINDOW_ITEMS
from kourou.courier.core.trace import recorder
from kourou.courier.serving.call import RunningCall
from kourou.courier.serving.call_info import call_scope
from kourou.courier.wire import codec
from kourou.courier.wire.frames import Frame, Kind, payload_size
from kourou.errors import SerializationError, ServerOverloaded


class Flow:
    """What has been sent of a stream, and how much of it its reader has taken."""

    def __init__(self, call: RunningCall) -> None:
        self._call = call
        call.deadline = None  # it was for the start; from here on, the reader's time-out is for each item
        self._lock = threading.Lock()
        self._unacknowledged: deque[int] = deque()  # sizes of the items that the reader has not taken
        self._bytes = 0
        self._sent = 0
        self._unsendable = False  # the last item could not be pickled

    def _take_credit(self, items: int) -> None:
        with self._lock:
            for _ in range(min(items, len(self._unacknowledged))):
                self._bytes -= self._unacknowledged.popleft()

    @property
    def _is_full(self) -> bool:
        return len(self._unacknowledged) >= WINDOW_ITEMS or self._bytes >= WINDOW_BYTES

    def _send(self, item: object) -> None:
        call = self._call
        try:
            body, buffers = codec.encode(item, f"an item of {call.name}")
        except SerializationError:
            self._unsendable = True
            raise
        size = payload_size(body, buffers)
        self._sent += size
        with self._lock:
            self._unacknowledged.append(size)
            self._bytes += size
        call.caller.send(Frame(Kind.ITEM, call.call_id, 0.0, "", body, buffers))

    def _fail(self, error: BaseException, seconds: float = 0.0) -> None:
        self._call.fail(error, by_handler=not self._unsendable, seconds=seconds)

    def _end(self) -> None:
        call = self._call
        if call.caller.calls.pop(call.call_id, None) is call:
            call.caller.send(Frame(Kind.END, call.call_id))
            call.method.record(0.0, failed=False, bytes_in=0, bytes_out=self._sent)
            if recorder.on:
                call.trace()


class GeneratorSender(Flow):
    """Sends the items of a generator. Holds a thread of the pool only while the generator works, never to wait."""

    def __init__(self, call: RunningCall, generator: Generator[Any, Any, Any]) -> None:
        super().__init__(call)
        self._generator = generator
        self._parked = False
        self._cancelled = False

    def start(self) -> None:
        """Begin, in a thread of the pool."""
        self._advance()

    def credit(self, items: int) -> None:
        """The reader took items."""
        self._take_credit(items)
        self._resume()

    def cancel(self) -> None:
        """The reader wants no more: close the generator, so that its ``finally`` blocks run."""
        self._cancelled = True
        self._resume()

    def _resume(self) -> None:
        with self._lock:
            if not self._parked:
                return
            self._parked = False
        handlers = self._call.caller.handlers
        if not handlers.pool.submit(self._advance):
            why = f"cannot go on with the stream: {handlers.name} {handlers.pool.refusal}"
            self._call.fail(ServerOverloaded(f"{self._call.name}: {why}"))

    def _may_send(self) -> bool:
        """Whether the window is open; parks the stream when it is not."""
        with self._lock:
            self._parked = self._is_full and not self._cancelled
            return not self._parked

    def _advance(self) -> None:
        call = self._call
        start = time.perf_counter()
        scope = call_scope.set(call)
        try:
            with (call.caller.handlers.context or contextlib.nullcontext)():
                while self._may_send():
                    if self._cancelled:
                        self._generator.close()
                        return
                    self._send(next(self._generator))
        except StopIteration:
            self._end()
        except BaseException as error:  # noqa: BLE001 - SystemExit, too: a handler must not end the server
            with contextlib.suppress(BaseException):  # it may object to being closed; the first error is the cause
                self._generator.close()
            self._fail(error, time.perf_counter() - start)
        finally:
            call_scope.reset(scope)


class AsyncGeneratorSender(Flow):
    """Sends the items of an asynchronous generator, which the server's event loop runs."""

    def __init__(self, call: RunningCall, generator: AsyncGenerator[Any, Any]) -> None:
        import asyncio  # noqa: PLC0415 - the event loop is one of it

        super().__init__(call)
        self._generator = generator
        self._loop = call.caller.handlers.event_loop()
        self._news = asyncio.Event()

    def start(self) -> None:
        """Begin, on the event loop."""
        self._call.spawn(self._run())

    def credit(self, items: int) -> None:
        """The reader took items."""
        self._take_credit(items)
        with contextlib.suppress(RuntimeError):  # the server has stopped
            self._loop.call_soon_threadsafe(self._news.set)

    def cancel(self) -> None:
        """The reader wants no more. Its task is cancelled with the call, which closes the generator."""

    async def _run(self) -> None:
        start = time.perf_counter()
        try:
            async with contextlib.aclosing(self._generator) as generator:
                while True:
                    await self._room()
                    self._send(await anext(generator))
        except StopAsyncIteration:
            self._end()
        except BaseException as error:  # SystemExit, too, which would end the loop
            if self._call.is_set():
                raise  # cancelled: nobody is there to hear of it
            self._fail(error, time.perf_counter() - start)

    async def _room(self) -> None:
        while True:
            self._news.clear()
            if not self._is_full:
                return
            await self._news.wait()
