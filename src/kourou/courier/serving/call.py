"""One call, as its server sees it: from the moment it arrives until its answer is sent."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from kourou.courier.core.trace import recorder
from kourou.courier.serving.call_info import CallScope, Peer, call_scope
from kourou.courier.serving.handlers import Handlers
from kourou.courier.serving.methods import Method
from kourou.courier.wire import codec, failures
from kourou.courier.wire.frames import Frame, Kind, make_frame, payload_size
from kourou.errors import DeadlineExceeded, SerializationError
from kourou.shown import described

if TYPE_CHECKING:
    import asyncio


class Caller:
    """The client at the other end of a connection, as its calls see it.

    Args:
        send: takes a frame for it. A client that is gone needs no answer; what it raises kept it from being sent.
        is_congested: whether no call shall begin at present; when that is over, ``resume`` is called.
    """

    def __init__(
        self, handlers: Handlers, peer: Peer, send: Callable[[Frame], None], is_congested: Callable[[], bool]
    ) -> None:
        self.handlers = handlers
        self.peer = peer
        self.send = send
        self.is_congested = is_congested
        self.calls: dict[int, RunningCall] = {}  # that are not answered yet
        self._deferred_calls: deque[Callable[[], None]] = deque()

    def defer(self, begin: Callable[[], None]) -> None:
        """Let a call begin later."""
        self._deferred_calls.append(begin)
        if not self.is_congested():  # that may have been over before the call was put there
            self.resume()

    def resume(self) -> None:
        """Calls may begin again."""
        while self._deferred_calls:
            with contextlib.suppress(IndexError):
                self._deferred_calls.popleft()()

    def gone(self) -> None:
        """Nobody is there any more: its calls are cancelled."""
        self._deferred_calls.clear()
        while self.calls:
            with contextlib.suppress(KeyError):
                _, call = self.calls.popitem()
                call.abandon()


class StreamSender(Protocol):
    """What sends the items of a call whose handler returned a generator."""

    def credit(self, items: int) -> None:
        """The reader took items."""

    def cancel(self) -> None:
        """The reader wants no more."""


class RunningCall(CallScope):
    """A call that has no answer yet. ``execution`` runs its handler."""

    __slots__ = ("body", "buffers", "call_id", "caller", "method", "since", "stream", "task")

    def __init__(self, caller: Caller, frame: Frame, deadline: float | None) -> None:  # no super(): it would show
        _, self.call_id, _, self.name, self.body, self.buffers = frame
        self.caller = caller
        self.peer = caller.peer
        self.deadline = deadline
        self.method: Method
        self.stream: StreamSender | None = None
        self.task: asyncio.Task[None] | None = None  # what its coroutine does
        self.since = 0.0  # when its handler began (``time.perf_counter()``); 0 before
        self._cancelled = False
        self._event = None

    @property
    def is_open(self) -> bool:
        """Whether the caller still waits for the answer, as far as it has said."""
        return self.caller.calls.get(self.call_id) is self

    def answer(self, result: object, seconds: float, received: int) -> None:
        """Send what the handler returned."""
        if self.deadline is not None and self.is_set():
            self.fail(DeadlineExceeded(f"{self.name}: finished after its deadline"), seconds=seconds, received=received)
            return
        try:
            body, buffers = codec.encode(result, self.name)
        except SerializationError as error:
            self.fail(error, seconds=seconds, received=received)
            return
        caller = self.caller
        if caller.calls.pop(self.call_id, None) is not self:
            return  # cancelled, or failed by a server that stops
        try:
            caller.send(make_frame((Kind.RESULT, self.call_id, 0.0, "", body, buffers)))
        except Exception as error:  # noqa: BLE001 - there is no memory for it, most likely; the caller waits for a word
            unsent = SerializationError(f"{self.name}: its result could not be sent: {described(error)}")
            self.method.record(seconds, failed=True, bytes_in=received, bytes_out=self.refuse(unsent))
            return
        sent = len(body) if not buffers and type(body) is bytes else payload_size(body, buffers)
        self.method.record(seconds, failed=False, bytes_in=received, bytes_out=sent)
        if recorder.on:
            self.trace()

    def fail(self, error: BaseException, *, by_handler: bool = False, seconds: float = 0.0, received: int = 0) -> None:
        """Answer with an error, unless the call has its answer."""
        if self.caller.calls.pop(self.call_id, None) is not self:
            return
        sent = self.refuse(error, by_handler=by_handler)
        self.method.record(seconds, failed=True, bytes_in=received, bytes_out=sent)
        if recorder.on:
            self.trace()

    def trace(self) -> None:
        """Record when the handler ran, until now."""
        lasted_ns = int((time.perf_counter() - self.since) * 1e9) if self.since else 0
        recorder.add("handler", self.name, time.time_ns() - lasted_ns, self.call_id, self.caller.handlers.name)

    def refuse(self, error: BaseException, *, by_handler: bool = False) -> int:
        """Send an error; the size of its description in bytes."""
        node = self.caller.handlers.name
        failure = failures.describe(error, node=node, method=self.name, raised_by_handler=by_handler)
        body, buffers = codec.encode(tuple(failure), "an exception")
        self.caller.send(Frame(Kind.FAILURE, self.call_id, 0.0, "", body, buffers))
        return payload_size(body, buffers)

    def drop(self) -> None:
        """Leave the call unanswered, since its connection is about to end."""
        if self.caller.calls.pop(self.call_id, None) is self:
            self.abandon()

    def abandon(self) -> None:
        """The caller does not want an answer any more."""
        self.set()
        self.body, self.buffers = b"", ()  # it may wait for a thread for long
        if self.stream is not None:
            self.stream.cancel()
        if self.task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self.task.get_loop().call_soon_threadsafe(self.task.cancel)

    def spawn(self, work: Coroutine[Any, Any, None], tidy: Callable[[], None] = lambda: None) -> None:
        """Run a coroutine on the event loop, as part of this call, and be cancelled with it.

        Args:
            work: what to run.
            tidy: called in the end, also if the work was cancelled before it began.
        """
        handlers = self.caller.handlers
        loop = handlers.event_loop()
        context = handlers.context or contextlib.nullcontext

        async def scoped() -> None:
            call_scope.set(self)
            with context():
                await work

        def begin() -> None:
            task = self.task = loop.create_task(scoped())
            handlers.tasks.add(task)
            task.add_done_callback(end)
            if self._cancelled:  # before there was anything to cancel
                task.cancel()

        def end(task: asyncio.Task[None]) -> None:
            handlers.tasks.discard(task)
            work.close()
            tidy()

        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the loop has ended: the server is stopping, and answers all calls itself
            work.close()
            tidy()
